"""A policy that decides while the arm stays: what is found out about both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robot_rl.errors import SpecMismatchError
from robot_rl.robots.fake import FakeRobot, Fault
from robot_rl.runtime.dry_run import dry_run
from robot_rl.runtime.env import RobotEnv
from robot_rl.types import ActContext, ActionChunk, Arrays
from tests.runtime.counting import DELTA, POSITION, UNIT_M, CountingPolicy, ReachTask


def made(robot: FakeRobot | None = None) -> tuple[RobotEnv, FakeRobot]:
    robot = robot or FakeRobot()
    env = RobotEnv(robot, ReachTask(), DELTA, 10)
    env.reset(0)
    return env, robot


def test_nothing_moves_and_rates_and_latencies_are_told() -> None:
    env, robot = made()
    before = robot.read().state["arm0/tcp_pose"].copy()
    found = dry_run(env, robot, CountingPolicy(env.spec, 4, 4), 11)
    np.testing.assert_array_equal(robot.read().state["arm0/tcp_pose"], before)
    assert found.observed_hz == pytest.approx(20.0)
    assert found.late == 0
    assert found.finite
    assert 0.0 < found.latency_p50_ms <= found.latency_max_ms


def test_the_first_target_is_compared_with_where_the_arm_is() -> None:
    """Row 0 of CountingPolicy's plan at step s is a delta of s units, as many for the decision, and 0.05 m up."""
    env, robot = made()
    found = dry_run(env, robot, CountingPolicy(env.spec, 4, 4), 3)
    assert found.jump_m == pytest.approx(np.linalg.norm([2 * UNIT_M, 2 * UNIT_M, 0.05]), rel=1e-3)
    assert found.jump_rad == pytest.approx(0.0, abs=1e-6)


def test_a_stream_that_stands_still_is_late() -> None:
    env, robot = made()
    robot.drill(Fault.FROZEN)
    assert dry_run(env, robot, CountingPolicy(env.spec, 4, 4), 5).late == 4


def test_a_policy_that_gives_no_numbers_is_found_out() -> None:
    env, robot = made()

    class Broken(CountingPolicy):
        def act(self, window: Arrays, context: ActContext) -> ActionChunk:
            chunk = super().act(window, context)
            return replace(chunk, actions=np.full_like(chunk.actions, np.nan))

    found = dry_run(env, robot, Broken(env.spec, 4, 4), 2)
    assert not found.finite
    assert found.jump_m == np.inf


def test_a_policy_for_something_else_is_refused() -> None:
    env, robot = made()
    with pytest.raises(SpecMismatchError):
        dry_run(env, robot, CountingPolicy(replace(env.spec, action=POSITION), 4, 4), 2)
