"""What randomisation changes, that it is of the seed, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import Array, Observation, ResetRequest, TargetChunk
from sim.cameras import CameraRig, Profile, SceneCamera
from sim.mujoco_robot import MujocoRobot
from sim.objects import Part, SceneObject
from sim.randomization import Randomization
from sim.scene import Scene
from tests.sim.lift_env import configured

STEP_NS = 50_000_000
CUBE = SceneObject("cube", "box", (0.02,) * 3, mass_kg=0.1, position_m=(0.5, 0.2, 0.02))
BELL = SceneObject(
    "bell", parts=[Part("sphere", (0.01,), (x, 0, 0)) for x in (-0.03, 0.03)], position_m=(0.5, -0.2, 0.01)
)
SCENE = Scene([CUBE, BELL])
FRONT = SceneCamera("front", (1.0, 0.0, 0.5), (0.5, 0.0, 0.0), height=48, width=64)


def robot_with(randomization: Randomization | None, **settings: Any) -> MujocoRobot:
    return MujocoRobot(SCENE, randomization=randomization, **settings)


def move(robot: MujocoRobot, offsets_m: Array) -> list[Observation]:
    """One step per row of offsets along y from the set point of the start."""
    seen = robot.read()
    assert seen.report is not None
    start, rows = seen.report.executed["arm0/tcp"], []
    for offset in offsets_m:
        pose = start + offset * np.eye(7)[1]
        robot.command(TargetChunk({"arm0/tcp": pose[None]}, seen.step, seen.stamp_ns))
        robot.clock.wait_until(seen.stamp_ns + STEP_NS)
        seen = robot.read()
        rows.append(seen)
    return rows


def test_masses_and_friction_are_of_the_seed_and_within_their_ranges():
    with robot_with(Randomization(mass=(0.5, 2.0), friction=(0.8, 1.2))) as robot:
        model, drawn = robot.physics.model, {}
        for seed in [*range(20), 3]:
            robot.reset(ResetRequest(seed=seed))
            mass = [float(model.body(name).mass[0]) for name in ("cube", "bell")]
            names = ("table", "cube", "bell", "bell/1", *robot.physics.built.arm.pads)
            friction = [float(model.geom(name).friction[0]) for name in names]
            if seed in drawn:
                assert drawn[seed] == (mass, friction)
            drawn[seed] = mass, friction
        masses, frictions = (np.array(values) for values in zip(*drawn.values(), strict=True))
        factors = masses / [0.1, 0.05]
        assert factors.min() >= 0.5
        assert factors.max() <= 2.0
        assert (np.ptp(factors, axis=0) > 1.0).all()
        assert (frictions / [1, 1, 1, 1, 2, 2] >= 0.8).all()
        assert (frictions / [1, 1, 1, 1, 2, 2] <= 1.2).all()
        assert (np.ptp(frictions, axis=0) > 0.2).all()


def test_a_heavier_object_is_harder_to_push():
    """What contacts are solved with follows the mass: weight on the table is m g."""
    with robot_with(Randomization(mass=(3.0, 3.0))) as robot:
        robot.reset(ResetRequest())
        held = robot.physics.data.joint("cube").qfrc_constraint[2]
        assert held == pytest.approx(0.3 * 9.81, rel=0.02)


def test_without_ranges_nothing_differs_bit_for_bit():
    paths = []
    for randomization in (None, Randomization()):
        with robot_with(randomization) as robot:
            robot.reset(ResetRequest(seed=7))
            paths.append([row.state["arm0/joint_position"] for row in move(robot, np.linspace(0, 0.05, 5))])
    np.testing.assert_array_equal(paths[0], paths[1])


def test_switching_one_range_on_leaves_the_draws_of_the_others():
    one, both = Randomization(mass=(0.5, 2.0)), Randomization(mass=(0.5, 2.0), colour=0.2)
    np.testing.assert_array_equal(one.draw("mass", 5, 3), both.draw("mass", 5, 3))
    assert (one.draw("mass", 5, 3) != one.draw("mass", 6, 3)).all()


def test_the_policy_sees_the_world_as_late_as_it_was_drawn():
    """A hand that moves at a constant 0.1 m/s is seen 3 mm behind, 30 ms late; time and steps go on as before."""
    seen = {}
    for late_s in (0.0, 0.03, 0.12):
        with robot_with(Randomization(observation_delay_s=(late_s, late_s))) as robot:
            start = robot.reset(ResetRequest())
            rows = move(robot, 0.005 * np.arange(1, 25))
            seen[late_s] = np.array([row.state["arm0/tcp_pose"][1] for row in rows])
            assert [row.stamp_ns - start.stamp_ns for row in rows] == [STEP_NS * (i + 1) for i in range(24)]
    np.testing.assert_allclose(seen[0.0][8:] - seen[0.03][8:], 0.003, atol=2e-4)
    np.testing.assert_allclose(seen[0.0][8:] - seen[0.12][8:], 0.012, atol=2e-4)
    np.testing.assert_allclose(seen[0.12][:2], 0.0, atol=1e-4)  # still the start


def test_the_arm_follows_its_reference_as_late_as_it_was_drawn():
    """The set points in force are not late, the arm is: 20 ms at 0.1 m/s are 2 mm."""
    behind, reports = {}, {}
    for late_s in (0.0, 0.02, 0.1):
        with robot_with(Randomization(action_delay_s=(late_s, late_s))) as robot:
            robot.reset(ResetRequest())
            rows = move(robot, 0.005 * np.arange(1, 25))
            behind[late_s] = np.array([row.state["arm0/tcp_pose"][1] for row in rows])
            reports[late_s] = np.array([row.report.executed["arm0/tcp"] for row in rows])
    np.testing.assert_allclose(behind[0.0][10:] - behind[0.02][10:], 0.002, atol=2e-4)
    np.testing.assert_allclose(behind[0.0][10:] - behind[0.1][10:], 0.01, atol=3e-4)
    np.testing.assert_allclose(reports[0.0], reports[0.1], atol=1e-6)


def test_delays_are_drawn_per_episode():
    ranges = Randomization(action_delay_s=(0.0, 0.1), observation_delay_s=(0.0, 0.04))
    with robot_with(ranges) as robot:
        ends = []
        for seed in (1, 2, 1):
            robot.reset(ResetRequest(seed=seed))
            ends.append(move(robot, 0.005 * np.arange(1, 9))[-1].state["arm0/tcp_pose"])
    np.testing.assert_array_equal(ends[0], ends[2])
    assert abs(ends[0][1] - ends[1][1]) > 5e-4


@pytest.mark.parametrize(
    "ranges",
    [{"camera_position_m": 0.03}, {"camera_rotation_rad": 0.05}, {"light": (0.4, 0.6)}, {"colour": 0.3}],
    ids=lambda ranges: next(iter(ranges)),
)
def test_pictures_differ_between_seeds_and_not_within(ranges):
    rig = CameraRig([FRONT], codec="raw")
    with robot_with(Randomization(**ranges), cameras=rig) as robot, robot_with(None, cameras=rig) as plain:
        images = [decode(robot.reset(ResetRequest(seed=seed)).frames["front"]).astype(int) for seed in (1, 2, 1)]
        described = decode(plain.reset(ResetRequest()).frames["front"]).astype(int)
    np.testing.assert_array_equal(images[0], images[2])
    assert np.abs(images[0] - images[1]).mean() > 0.2
    assert np.abs(images[0] - described).mean() > 0.2


def test_the_overview_shows_the_colours_of_the_episode_from_a_camera_that_stays():
    ranges = Randomization(colour=0.3, camera_position_m=0.3)
    with robot_with(ranges) as robot, robot_with(ranges) as late, robot_with(Randomization(colour=0.3)) as still:
        images = []
        for seed in (1, 2, 1):
            robot.reset(ResetRequest(seed=seed))
            images.append(robot.render())
        for other in (late, still):  # draws for the first time amid an episode
            other.reset(ResetRequest(seed=1))
            np.testing.assert_array_equal(other.render(), images[0])
    np.testing.assert_array_equal(images[0], images[2])
    assert np.abs(images[0].astype(int) - images[1]).mean() > 1.0


def test_a_dimmer_light_is_darker():
    rig = CameraRig([FRONT], codec="raw")
    brightness = []
    for factor in (0.5, 1.0):
        with robot_with(Randomization(light=(factor, factor)), cameras=rig) as robot:
            brightness.append(decode(robot.reset(ResetRequest()).frames["front"]).mean())
    assert brightness[0] < 0.85 * brightness[1]


def test_the_direction_of_the_light_moves_shadows():
    rig = CameraRig([FRONT], codec="raw", profile=Profile.FULL)
    with robot_with(Randomization(light_direction_rad=0.5), cameras=rig) as robot:
        images = [decode(robot.reset(ResetRequest(seed=seed)).frames["front"]).astype(int) for seed in (1, 2)]
    assert (np.abs(images[0] - images[1]).max(axis=-1) > 40).sum() > 20


def test_the_lift_expert_succeeds_under_moderate_randomisation():
    env, expert = configured("lift", "randomization=moderate")
    ends = [run_episode(env, expert, seed=seed) for seed in range(6)]
    env.close()
    assert [end.success for end in ends] == [True] * 6


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"mass": (0.0, 1.0)}, "mass.*at least 0.001"),
        ({"friction": (2.0, 1.0)}, "two numbers in order"),
        ({"observation_delay_s": (0.0, 2.0)}, "at most 0.5 s"),
        ({"colour": -0.1}, "colour"),
        ({"camera_position_m": float("nan")}, "camera_position_m"),
    ],
)
def test_impossible_ranges_are_refused(ranges, message):
    with pytest.raises(ConfigError, match=message):
        Randomization(**ranges)
