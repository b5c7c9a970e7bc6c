"""Every simulated arm: how it stands, what its gripper does and holds, that experts solve tasks with it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.geometry import quat_xyzw_conjugate, quat_xyzw_from_rotvec, quat_xyzw_multiply
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import Observation, ResetRequest, TargetChunk
from sim.arms.arm import Arm
from sim.arms.panda import panda
from sim.arms.planar import planar
from sim.arms.ur5e import ur5e
from sim.cameras import CameraRig, Profile, SceneCamera
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject
from sim.scene import Scene
from tests.sim.lift_env import configured

STEP_NS = 50_000_000
DOWN = (1.0, 0.0, 0.0, 0.0)
ARMS = [panda(), ur5e(), planar()]
CUBE = SceneObject("cube", "box", (0.025,) * 3, mass_kg=0.1, position_m=(0.6, 0.0, 0.025))


@pytest.fixture(params=ARMS, ids=lambda arm: arm.name, scope="module")
def robot(request: pytest.FixtureRequest) -> Iterator[MujocoRobot]:
    arm: Arm = request.param
    with MujocoRobot(Scene([CUBE]), arm, box_lower_m=arm.box_lower_m, box_upper_m=arm.box_upper_m) as robot:
        yield robot


def go(robot: MujocoRobot, to_m: tuple[float, float, float], opening: float, steps: int) -> Observation:
    """Lead the set point there at up to 0.3 m/s, and stay for the rest of the steps."""
    seen = robot.read()
    for _ in range(steps):
        assert seen.report is not None
        here = seen.report.executed["arm0/tcp"][:3]
        way = np.asarray(to_m) - here
        here = here + way * min(1.0, 0.015 / max(float(np.linalg.norm(way)), 1e-9))
        targets = {"arm0/tcp": np.array([[*here, *DOWN]]), "arm0/gripper": np.array([[opening]])}
        robot.command(TargetChunk(targets, seen.step, seen.stamp_ns))
        robot.clock.wait_until(seen.stamp_ns + STEP_NS)
        seen = robot.read()
    return seen


def pads(robot: MujocoRobot) -> tuple[float, np.ndarray, np.ndarray]:
    """Distance between the middles of the pads [m], the way between them and the TCP's y axis, in the base frame."""
    data, arm = robot.physics.data, robot.physics.built.arm
    one, other = (data.geom(name).xpos for name in arm.pads)
    across = data.site("tcp").xmat.reshape(3, 3)[:, 1]
    return float(np.linalg.norm(one - other)), one - other, across


def test_at_home_the_tool_points_down_at_the_same_place(robot):
    seen = robot.reset(ResetRequest())
    np.testing.assert_allclose(seen.state["arm0/tcp_pose"], [0.48, 0.0, 0.2, *DOWN], atol=1e-3)


def test_an_opening_of_one_is_open_and_zero_closed_and_the_fingers_move_along_y(robot):
    robot.reset(ResetRequest(gripper_opening=1.0))
    widths = []
    for opening in (1.0, 0.5, 0.0):
        seen = go(robot, (0.48, 0.0, 0.2), opening, 12)
        assert seen.state["arm0/gripper_opening"][0] == pytest.approx(opening, abs=0.02)
        width, way, across = pads(robot)
        widths.append(width)
        assert abs(way @ across) == pytest.approx(width, rel=0.02)
    assert widths[0] > 0.075
    assert widths[1] == pytest.approx(0.5 * (widths[0] + widths[2]), abs=0.006)
    assert widths[2] < 0.012  # between the middles of the pads
    assert robot.reset(ResetRequest(gripper_opening=0.5)).state["arm0/gripper_opening"][0] == pytest.approx(
        0.5, abs=0.02
    )


def test_the_fingers_hold_a_cube_of_five_centimetres_when_lifted_and_swung(robot):
    cube = np.array([0.5, 0.0, 0.025, 0.0, 0.0, 0.0, 1.0])
    robot.reset(ResetRequest(tcp_pose=np.array([0.5, 0.0, 0.1, *DOWN]), simulator_state={"object/cube_pose": cube}))
    go(robot, (0.5, 0.0, 0.022), 1.0, 9)
    seen = go(robot, (0.5, 0.0, 0.022), 0.0, 10)
    assert 0.45 < seen.state["arm0/gripper_opening"][0] < 0.7
    seen = go(robot, (0.5, 0.0, 0.25), 0.0, 20)
    held = seen.state["object/cube_pose"][:3] - seen.state["arm0/tcp_pose"][:3]
    assert np.linalg.norm(held) < 0.012
    for x, z in ((0.6, 0.25), (0.45, 0.35), (0.5, 0.2)):
        seen = go(robot, (x, 0.0, z), 0.0, 12)
    after = seen.state["object/cube_pose"][:3] - seen.state["arm0/tcp_pose"][:3]
    np.testing.assert_allclose(after, held, atol=0.006)


def test_the_pads_of_the_robotiq_stay_parallel_around_what_they_hold():
    in_tcp = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    with MujocoRobot(Scene([CUBE]), ur5e(), box_upper_m=(0.7, 0.35, 0.5)) as robot:
        robot.reset(ResetRequest(gripper_opening=0.0, simulator_state={"object/cube_held": in_tcp}))
        one, other = (robot.physics.data.geom(name).xmat.reshape(3, 3)[:, 1] for name in ur5e().pads)
        assert abs(one @ other) > np.cos(0.05)
        assert robot.physics.data.geom(ur5e().pads[0]).xpos[2] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    "choice", [("reach", "robot=sim_ur5e"), ("lift", "robot=sim_ur5e"), ("reach_planar",)], ids=" ".join
)
def test_experts_solve_tasks_with_it(choice):
    env, expert = configured(*choice)
    ends = [run_episode(env, expert, seed=seed) for seed in range(5)]
    env.close()
    assert [end.success for end in ends] == [True] * 5


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
@pytest.mark.parametrize("profile", list(Profile))
def test_a_camera_on_the_hand_sees_what_is_below_it_between_the_fingers(arm, profile):
    wrist = SceneCamera("wrist", (0.09, 0, 0.03), (0.02, 0, 0.13), on_hand=True, up=(-1, 0, 0), fovy_deg=75)
    cube = np.array([0.5, 0.0, 0.025, 0.0, 0.0, 0.0, 1.0])
    box = {"box_lower_m": arm.box_lower_m, "box_upper_m": arm.box_upper_m}
    with MujocoRobot(Scene([CUBE]), arm, CameraRig([wrist], codec="raw", profile=profile), **box) as robot:
        seen = robot.reset(ResetRequest(simulator_state={"object/cube_pose": cube}))
    image = decode(seen.frames["wrist"]).astype(int)
    red = (image[..., 0] > 110) & (image[..., 1] < 90)
    row, column = np.argwhere(red).mean(axis=0)
    assert red.sum() > 40
    assert abs(column - 48) < 4
    assert row > 48
    assert (image[:30].max(axis=-1) - image[:30].min(axis=-1) < 12).mean() > 0.3  # the grey or black hand above


def test_what_joints_cannot_do_is_not_reported_as_executed():
    """The planar arm turns about y alone: of a turn about x, y and z the one about y is left, and counted as cut."""
    arm = planar()
    with MujocoRobot(Scene(), arm, box_lower_m=arm.box_lower_m, box_upper_m=arm.box_upper_m) as robot:
        seen = robot.reset(ResetRequest())
        turned = quat_xyzw_multiply(quat_xyzw_from_rotvec(np.array([0.1, 0.2, -0.15])), np.array(DOWN))
        wish = np.array([0.5, 0.0008, 0.2, *turned])
        targets = {"arm0/tcp": np.repeat(wish[None], 10, axis=0), "arm0/gripper": np.ones((10, 1))}
        robot.command(TargetChunk(targets, seen.step, seen.stamp_ns))
        robot.clock.wait_until(seen.stamp_ns + 10 * STEP_NS)
        seen = robot.read()
    assert seen.report is not None
    np.testing.assert_allclose(seen.report.commanded["arm0/tcp"], wish)
    executed = seen.report.executed["arm0/tcp"]
    np.testing.assert_allclose(executed[:3], [0.5, 0.0, 0.2], atol=1e-6)
    np.testing.assert_allclose(executed, seen.state["arm0/tcp_pose"], atol=2e-3)
    turn = quat_xyzw_multiply(executed[3:], quat_xyzw_conjugate(np.array(DOWN)))
    np.testing.assert_allclose(np.abs(turn), [0.0, np.sin(0.1), 0.0, np.cos(0.1)], atol=5e-3)
    assert seen.report.interventions["workspace"] == 1
