"""Starts: what is held, what is fixed, when it counts as at rest."""

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.errors import ResetError
from robot_rl.types import Observation, ResetRequest, TargetChunk
from sim.arms.planar import planar
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject
from sim.scene import Scene

STEP_NS = 50_000_000
DOWN = (1.0, 0.0, 0.0, 0.0)
OFF_PLANE = np.array([0.5, 0.0005, 0.25, *DOWN])
PEG = SceneObject(
    "peg", "box", (0.01, 0.01, 0.04), position_m=(0.6, 0.2, 0.04), quat_xyzw=DOWN  # hangs like the tool
)  # fmt: skip
BLOCK = SceneObject("block", "box", (0.03, 0.03, 0.03), fixed=True, position_m=(0.6, -0.2, 0.03))
IN_TCP = np.array([0.001, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0])


@pytest.fixture(scope="module")
def robot() -> Iterator[MujocoRobot]:
    with MujocoRobot(Scene([PEG, BLOCK])) as robot:
        yield robot


def request(**changes) -> ResetRequest:
    pose = np.array([0.5, 0.1, 0.2, *DOWN])
    return ResetRequest(**{"tcp_pose": pose, "gripper_opening": 0.0, **changes})


def drive(robot: MujocoRobot, seen: Observation, step_m: np.ndarray) -> Observation:
    assert seen.report is not None
    pose = seen.report.executed["arm0/tcp"].copy()
    pose[:3] += step_m
    robot.command(TargetChunk({"arm0/tcp": pose[None], "arm0/gripper": np.zeros((1, 1))}, seen.step, seen.stamp_ns))
    robot.clock.wait_until(seen.stamp_ns + STEP_NS)
    return robot.read()


def test_an_object_starts_between_the_fingers_and_stays_there(robot):
    seen = robot.reset(request(simulator_state={"object/peg_held": IN_TCP}))
    np.testing.assert_allclose(seen.state["object/peg_pose"][:3], [0.501, 0.1, 0.18], atol=1e-3)
    np.testing.assert_allclose(seen.state["object/peg_pose"][3:], DOWN, atol=0.01)
    np.testing.assert_allclose(seen.state["arm0/gripper_opening"], 0.25, atol=0.02)  # 2 cm of 8
    assert seen.report.executed["arm0/gripper"] == 0.0
    offset = seen.state["object/peg_pose"][:3] - seen.state["arm0/tcp_pose"][:3]
    for tick in range(30):
        seen = drive(robot, seen, 0.01 * np.array([np.sin(0.4 * tick), np.cos(0.4 * tick), 0.1]))
    after = seen.state["object/peg_pose"][:3] - seen.state["arm0/tcp_pose"][:3]
    np.testing.assert_allclose(after, offset, atol=2e-3)


def test_a_fixed_object_goes_where_the_start_says_and_stays_there_when_hit(robot):
    pose = np.array([0.5, -0.1, 0.03, 0.0, 0.0, np.sin(0.2), np.cos(0.2)])
    seen = robot.reset(
        request(simulator_state={"object/block_pose": pose}, tcp_pose=np.array([0.5, -0.1, 0.12, *DOWN]))
    )
    np.testing.assert_allclose(seen.state["object/block_pose"], pose, atol=1e-6)
    for _ in range(20):
        if seen.mode == "tracking":  # the contact may stop the arm
            seen = drive(robot, seen, np.array([0.0, 0.0, -0.01]))
    np.testing.assert_allclose(seen.state["object/block_pose"], pose, atol=1e-6)
    assert seen.state["arm0/tcp_pose"][2] > 0.05  # the fingers stand on it
    seen = robot.reset(request())
    np.testing.assert_allclose(seen.state["object/block_pose"][:3], BLOCK.position_m, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"simulator_state": {"object/peg_held": [0.05, 0, 0.02, 0, 0, 0, 1]}}, "'object/peg_held' came to rest"),
        ({"simulator_state": {"object/peg_held": IN_TCP}, "gripper_opening": 0.5}, "'object/peg_held' came to rest"),
        ({"simulator_state": {"object/block_held": IN_TCP}}, "Did you mean 'object/block_pose'"),
        ({"simulator_state": {"object/peg_held": IN_TCP[:3]}}, "7 finite numbers"),
        ({"simulator_state": {"object/peg_held": IN_TCP}, "timeout_s": 0.1}, r"not at rest.*0\.1 s"),
        ({"timeout_s": 0.0}, "> 0 s"),
        ({"timeout_s": float("nan")}, "> 0 s"),
    ],
)
def test_a_start_that_does_not_hold_is_refused_and_the_arm_rests(robot, wrong, message):
    with pytest.raises(ResetError, match=message):
        robot.reset(request(**wrong))
    assert robot.read().mode == "stopped"
    np.testing.assert_allclose(robot.read().state["arm0/tcp_velocity"], 0.0, atol=0.02)


def test_rest_is_waited_for_within_the_time_the_request_gives(robot):
    """A peg put down on an edge rocks for a while; one that stands upright does not."""
    times = []
    for tilt in (0.0, 0.045):
        peg = np.array([0.6, 0.2, 0.0405, np.cos(0.5 * tilt), 0.0, np.sin(0.5 * tilt), 0.0])
        before = robot.clock.now_ns()
        robot.reset(request(simulator_state={"object/peg_pose": peg}))
        times.append(robot.clock.now_ns() - before)
    assert 0 < times[0] < times[1] <= 2_000_000_000
    with pytest.raises(ResetError, match=r"not at rest.*0\.1 s"):
        robot.reset(request(simulator_state={"object/peg_pose": peg}, timeout_s=0.1))


def test_an_arm_that_moves_in_a_plane_starts_at_what_lies_in_it():
    box = {"box_lower_m": (0.25, -0.001, 0.005), "box_upper_m": (0.7, 0.001, 0.5)}
    with MujocoRobot(Scene(), planar(), **box) as robot:
        np.testing.assert_allclose(robot.reset(ResetRequest()).state["arm0/tcp_pose"][:3], [0.48, 0, 0.2], atol=1e-3)
        seen = robot.reset(ResetRequest(tcp_pose=OFF_PLANE))
        np.testing.assert_allclose(seen.state["arm0/tcp_pose"], [0.5, 0.0, 0.25, *DOWN], atol=1e-3)
        tilted = np.array([0.5, 0.0, 0.25, np.cos(0.2), 0.0, np.sin(0.2), 0.0])
        seen = robot.reset(ResetRequest(tcp_pose=tilted))
        np.testing.assert_allclose(seen.state["arm0/tcp_pose"], tilted, atol=1e-3)
        turned = np.array([0.5, 0.0, 0.25, np.cos(0.2), np.sin(0.2), 0.0, 0.0])
        for beside in (np.array([0.5, 0.1, 0.25, *DOWN]), turned):
            with pytest.raises(ResetError, match="'arm0/tcp_pose' came to rest"):
                robot.reset(ResetRequest(tcp_pose=beside))
