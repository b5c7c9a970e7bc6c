"""An episode is its seed's alone: whatever the robot did before, it is the same to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.errors import ResetError, SimulationDivergedError
from robot_rl.types import Observation, ResetRequest, TargetChunk
from sim.disturbances import Disturbances, Push
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject, Shape
from sim.randomization import Randomization
from sim.scene import Scene

STEP_NS = 50_000_000
CUBE = SceneObject("cube", Shape.BOX, (0.02, 0.02, 0.02), position_m=(0.5, 0.0, 0.02))
WALL = SceneObject("wall", Shape.BOX, (0.02, 0.02, 0.02), position_m=(0.6, 0.3, 0.02), fixed=True)
GOAL = SceneObject("goal", Shape.SPHERE, (0.01,), position_m=(0.5, 0.1, 0.2), marker=True)
MOVED = {
    "object/wall_pose": np.array([0.4, 0.2, 0.05, 0, 0, 0, 1.0]),
    "object/goal_position": np.array([0.4, 0.2, 0.3]),
}
IN_THE_AIR = {"object/cube_pose": np.array([0.5, 0.0, 0.3, 0.0, 0.0, 0.0, 1.0])}


def robot() -> MujocoRobot:
    ranges = Randomization(mass=(0.5, 2.0), friction=(0.8, 1.2), observation_delay_s=(0.0, 0.04))
    pushes = Disturbances([Push("arm", start_s=(0.1, 0.3)), Push("cube", (1.0, 2.0), (0.1, 0.2))])
    return MujocoRobot(Scene([CUBE, WALL, GOAL]), randomization=ranges, disturbances=pushes)


def episode(robot: MujocoRobot, request: ResetRequest, steps: int = 10) -> list[Observation]:
    seen = [robot.reset(request)]
    assert seen[0].report is not None
    start = seen[0].report.executed["arm0/tcp"]
    for step in range(steps):
        target = start + np.array([0.01 * step, 0.004 * step, -0.004 * step, 0, 0, 0, 0])
        targets = {"arm0/tcp": np.repeat(target[None], 3, axis=0), "arm0/gripper": np.full((3, 1), step // 4 % 2)}
        robot.command(TargetChunk(targets, seen[-1].step, seen[-1].stamp_ns))
        robot.clock.wait_until(seen[-1].stamp_ns + STEP_NS)
        seen.append(robot.read())
    return seen


def other_episodes(robot: MujocoRobot) -> None:
    episode(robot, ResetRequest(seed=3))
    episode(robot, ResetRequest(seed=4, gripper_opening=0.2, simulator_state=MOVED))


def a_stop_within_a_step(robot: MujocoRobot) -> None:
    seen = episode(robot, ResetRequest(seed=3))[-1]
    robot.clock.wait_until(seen.stamp_ns + 18_000_000)
    robot.stop()
    robot.clock.wait_until(seen.stamp_ns + 30_000_000)


def a_reset_that_fails(robot: MujocoRobot) -> None:
    episode(robot, ResetRequest(seed=3))
    with pytest.raises(ResetError):
        robot.reset(ResetRequest(seed=9, simulator_state=IN_THE_AIR))


def a_divergence(robot: MujocoRobot) -> None:
    seen = robot.reset(ResetRequest(seed=5))
    robot.physics.data.qvel[:] = np.nan
    with pytest.raises(SimulationDivergedError):
        robot.clock.wait_until(seen.stamp_ns + STEP_NS)


@pytest.mark.parametrize("before", [other_episodes, a_stop_within_a_step, a_reset_that_fails, a_divergence])
def test_an_episode_is_the_same_to_the_last_bit_after(before):
    with robot() as fresh, robot() as used:
        before(used)
        rows = zip(episode(fresh, ResetRequest(seed=7)), episode(used, ResetRequest(seed=7)), strict=True)
        for one, other in rows:
            assert (one.step, one.mode) == (other.step, other.mode)
            assert one.report is not None
            assert other.report is not None
            assert one.report.interventions == other.report.interventions
            np.testing.assert_equal(dict(one.state), dict(other.state))
            np.testing.assert_equal(dict(one.report.executed), dict(other.report.executed))
