"""The compiled loop around physics and servo."""

import threading
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from robot_rl.types import ResetRequest
from sim.mujoco_robot import MujocoRobot
from sim.scene import Scene


@pytest.fixture(scope="module")
def robot() -> Iterator[MujocoRobot]:
    with MujocoRobot(Scene()) as robot:
        yield robot


def test_other_threads_run_while_physics_runs(robot):
    """With the interpreter's lock held the count could not begin before the end of some 100 ms of physics."""
    robot.reset(ResetRequest())
    started, ended, counted = threading.Event(), threading.Event(), 0

    def advance() -> None:
        started.set()
        robot.physics.advance(robot.servo.arrays, 10_000)
        ended.set()

    thread = threading.Thread(target=advance)
    thread.start()
    started.wait(timeout=60)
    while not ended.is_set():
        counted += 1
    thread.join()
    assert counted > 1000


def test_the_loop_is_mujocos_step_with_the_servos_torque(robot):
    """Replayed by mj_step tick by tick under the torques of the loop."""
    robot.reset(ResetRequest())
    physics, servo = robot.physics, robot.servo
    goal = servo.arrays.reference.copy()
    goal[2] += 0.01
    servo.begin(goal)
    model, other = physics.model, mujoco.MjData(physics.model)
    mujoco.mj_copyData(other, model, physics.data)
    for _ in range(20):
        physics.advance(servo.arrays, 1)
        other.ctrl[:] = physics.data.ctrl
        mujoco.mj_step(model, other)
        np.testing.assert_array_equal(other.qpos, physics.data.qpos)
        np.testing.assert_array_equal(other.qvel, physics.data.qvel)
    assert np.abs(physics.data.ctrl[:7]).max() > 1.0


def test_a_loop_in_one_call_equals_many_of_one_tick(robot):
    states = []
    for calls, ticks in ((1, 30), (30, 1)):
        robot.reset(ResetRequest())
        for _ in range(calls):
            robot.physics.advance(robot.servo.arrays, ticks)
        states.append(np.concatenate((robot.physics.data.qpos, robot.physics.data.qvel)))
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_not_finite_is_seen(robot, bad):
    for array in (robot.physics.data.qpos, robot.physics.data.qvel):
        robot.reset(ResetRequest())
        assert robot.physics.finite()
        array[-1] = bad
        assert not robot.physics.finite()
