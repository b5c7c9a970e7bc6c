"""Which plan is gone on with: none that the robot did not follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ActContext, ActionChunk, Arrays, Phase, StepRow, TargetChunk
from tests.runtime.counting import POSITION, CountingPolicy, ReachTask, Tape


@dataclass
class Holding:
    """The fake arm, which holds by itself in the steps ``held``: what it is sent is not followed."""

    robot: FakeRobot
    held: range

    def command(self, chunk: TargetChunk) -> None:
        if chunk.first_step not in self.held:
            self.robot.command(chunk)
        elif chunk.first_step == self.held.start:
            self.robot._plan = None  # what remained of the plan before it is over

    def __getattr__(self, name: str) -> object:
        return getattr(self.robot, name)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_plan_that_the_robot_held_against_is_void(steps: int) -> None:
    held = range(3, 3 + steps)
    env = RobotEnv(Holding(FakeRobot(), held), ReachTask(), POSITION, 12)  # type: ignore[arg-type]
    tape, policy = Tape(), CountingPolicy(env.spec, 8, 8)
    run_episode(env, policy, [tape], seed=0)
    sources = [row.action.source for row in tape.rows]
    assert sources == [Phase.POLICY] * 3 + [Phase.HOLD] * steps + [Phase.POLICY] * (9 - steps)
    assert [row.action.valid for row in tape.rows] == [source is Phase.POLICY for source in sources]
    expected = [0, *range(4, 4 + steps)]  # anew after every step in which it held, then for eight steps
    assert [decision.step for decision in tape.decisions][: len(expected)] == expected
    takeovers = [bool(context.takeover[0]) for context in policy.contexts]
    assert takeovers[: len(expected)] == [False] + [True] * steps
    last: StepRow = tape.rows[held.stop]
    np.testing.assert_allclose(last.action.commanded[1] * 1024, steps)  # of the newest decision, not of the first


@pytest.mark.parametrize("steps_thought", [0, 1.5, 3.2])
def test_a_hold_while_the_policy_still_thought_does_not_void_its_plan(steps_thought: float) -> None:
    env = RobotEnv(FakeRobot(), ReachTask(), POSITION, 16)

    class Slow(CountingPolicy):
        def act(self, window: Arrays, context: ActContext) -> ActionChunk:
            env.clock.wait_until(env.clock.now_ns() + round(steps_thought * env.spec.step_period_ns))
            return super().act(window, context)

    tape, policy = Tape(), Slow(env.spec, 16, 8)
    run_episode(env, policy, [tape], seed=0)
    assert [decision.step for decision in tape.decisions] == [0, 8]
    assert not any(context.takeover[0] for context in policy.contexts)
