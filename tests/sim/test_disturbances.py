"""Pushes: drawn by the seed, felt by physics, survived by arm, safety chain and laws."""

import numpy as np
import pytest

from robot_rl.apps.main import compose, instantiate
from robot_rl.errors import ConfigError
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import Observation, ResetRequest, TargetChunk
from sim.arms.panda import panda
from sim.disturbances import Disturbances, Push
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject
from sim.scene import Scene
from tests.contracts.options import options
from tests.sim.lift_env import configured

STEP_NS = 50_000_000
BALL = SceneObject("ball", "sphere", (0.03,), mass_kg=0.2, friction=(1.0, 0.005, 0.0), position_m=(0.5, 0.3, 0.03))


def hold(robot: MujocoRobot, steps: int) -> list[Observation]:
    """Command what the start latched onto for so many steps."""
    seen = robot.read()
    assert seen.report is not None
    targets, rows = {name: value[None] for name, value in seen.report.executed.items()}, []
    for _ in range(steps):
        robot.command(TargetChunk(targets, seen.step, seen.stamp_ns))
        robot.clock.wait_until(seen.stamp_ns + STEP_NS)
        seen = robot.read()
        rows.append(seen)
    return rows


@pytest.mark.parametrize("law", options("controller"))
def test_a_pushed_arm_yields_returns_and_stays_within_its_limits(law):
    """60 N for 0.15 s, 0.5 s after the reset, in several directions."""
    push = {"force_n": "[60,60]", "start_s": "[0.5,0.5]", "duration_s": "[0.15,0.15]"}
    settings = [f"disturbance.pushes.0.{name}={value}" for name, value in push.items()]
    config = compose("view", ["task=reach", f"controller={law}", "disturbance=push_arm", *settings])
    robot, arm = instantiate(config.robot), panda()
    robot.connect()
    displaced = []
    for seed in range(3):
        robot.reset(ResetRequest(seed=seed))
        rows = hold(robot, 80)
        positions = np.array([row.state["arm0/tcp_pose"][:3] for row in rows])
        start = positions[0]
        displaced.append(np.linalg.norm(positions - start, axis=1))
        q = np.array([row.state["arm0/joint_position"] for row in rows])
        assert (q > arm.joint_lower_rad).all()
        assert (q < arm.joint_upper_rad).all()
        assert (np.abs(robot.physics.arm.ctrl) <= arm.torque_n_m).all()
        part = next(iter(rows[0].report.executed))
        reached = np.array([row.report.executed[part] for row in rows])
        np.testing.assert_allclose(reached, np.broadcast_to(reached[0], reached.shape), atol=2e-3)  # no wind-up
    robot.close()
    displaced = np.array(displaced)
    assert displaced[:, :9].max() < 2e-3  # not pushed yet
    assert displaced.max(axis=1).min() > 3e-3  # felt, every time
    assert displaced[:, -1].max() < 4e-3  # returned


def test_a_force_gives_the_momentum_that_it_should():
    """0.5 N for 0.1 s on 0.2 kg that roll: impulse / (7/5 m) = 0.179 m/s."""
    push = Push("ball", (0.5, 0.5), (0.2, 0.2), (0.1, 0.1))
    with MujocoRobot(Scene([BALL]), disturbances=Disturbances([push])) as robot:
        directions = []
        for seed in range(2):
            robot.reset(ResetRequest(seed=seed))
            hold(robot, 6)
            speed = robot.physics.data.joint("ball").qvel[:2].copy()
            assert np.linalg.norm(speed) == pytest.approx(0.05 / (1.4 * 0.2), rel=0.05)
            directions.append(np.arctan2(speed[1], speed[0]))
        assert abs(directions[0] - directions[1]) > 0.1


def test_equal_seeds_push_alike_and_what_ends_does_not_go_on():
    disturbances = Disturbances([Push("ball", (0.2, 0.6), (0.1, 0.3), (0.05, 0.1))])
    with MujocoRobot(Scene([BALL]), disturbances=disturbances) as robot:
        paths = []
        for seed in (5, 6, 5):
            robot.reset(ResetRequest(seed=seed))
            paths.append(np.array([row.state["object/ball_pose"] for row in hold(robot, 8)]))
        np.testing.assert_array_equal(paths[0], paths[2])
        assert np.abs(paths[0] - paths[1]).max() > 1e-3
        assert not robot.physics.data.xfrc_applied.any()
        robot.reset(ResetRequest(seed=5))
        robot.clock.wait_until(robot.clock.now_ns() + 1_000)
        assert not robot.physics.data.xfrc_applied.any()


def test_the_probability_is_per_episode():
    half = Disturbances([Push(probability=0.5)])
    pushed = [len(half.draw(seed, 0.002)) for seed in range(400)]
    assert 160 < sum(pushed) < 240
    assert not Disturbances([Push(probability=0.0)]).draw(0, 0.002)


def test_two_pushes_add_up_where_they_overlap():
    pushes = [Push("ball", (0.5, 0.5), (0.1, 0.1), (0.1, 0.1), (np.pi / 2, np.pi / 2)),
              Push("ball", (0.3, 0.3), (0.15, 0.15), (0.1, 0.1), (np.pi / 2, np.pi / 2))]  # fmt: skip
    with MujocoRobot(Scene([BALL]), disturbances=Disturbances(pushes)) as robot:
        start = robot.reset(ResetRequest()).stamp_ns
        body, felt = robot.physics.model.body("ball").id, []
        for tick in (40, 60, 90, 110, 130):
            robot.clock.wait_until(start + tick * 2_000_000)
            felt.append(round(float(robot.physics.data.xfrc_applied[body, 2]), 6))
        assert felt == [0.0, 0.5, 0.8, 0.3, 0.0]


def test_the_lift_expert_finds_a_cube_that_was_pushed_away():
    env, expert = configured("lift", "disturbance=push_object")
    ends = [run_episode(env, expert, seed=seed) for seed in range(4)]
    env.close()
    assert [end.success for end in ends] == [True] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"force_n": (3.0, 1.0)}, "two numbers in order"),
        ({"start_s": (-1.0, 1.0)}, "at least 0"),
        ({"duration_s": (0.1,)}, "two numbers"),
        ({"probability": 1.5}, "0 to 1"),
    ],
)
def test_wrong_pushes_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Push(**settings)


def test_what_is_not_there_cannot_be_pushed():
    with (
        MujocoRobot(Scene([BALL]), disturbances=Disturbances([Push("bal")])) as robot,
        pytest.raises(ConfigError, match="Valid: arm, ball"),
    ):
        robot.reset(ResetRequest())
