from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ResetRequest
from sim.cameras import CameraRig, Profile, SceneCamera
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject
from sim.overview import Overview
from sim.scene import Scene
from tests.sim.lift_env import configured

SCENE = Scene([SceneObject("cube", "box", (0.03, 0.03, 0.03), rgba=(1, 0, 0, 1), position_m=(0.5, 0.0, 0.03))])
FRONT = SceneCamera("front", (1.0, 0.0, 0.5), (0.5, 0.0, 0.0), height=48, width=64)
WRIST = SceneCamera(
    "wrist", (0.08, 0, 0), (0.02, 0, 0.13), on_hand=True, up=(-1, 0, 0), fovy_deg=75, height=48, width=48
)
START = {"object/cube_pose": np.array([0.5, 0.0, 0.03, 0, 0, 0, 1.0])}


def red(image: np.ndarray) -> np.ndarray:
    """Pixels that show the cube."""
    image = image.astype(int)
    return (image[..., 0] > 120) & (image[..., 1] < 90)


def test_both_cameras_see_the_cube_at_step_rate():
    with MujocoRobot(SCENE, cameras=CameraRig([FRONT, WRIST])) as robot:
        spec = robot.connect()
        assert (spec.cameras["front"].height, spec.cameras["front"].width, spec.cameras["front"].rate_hz) == (
            48,
            64,
            20,
        )
        first = robot.reset(ResetRequest(simulator_state=START))
        for name, shape in (("front", (48, 64, 3)), ("wrist", (48, 48, 3))):
            frame = first.frames[name]
            assert (frame.codec, frame.stamp_ns) == ("jpeg", first.stamp_ns)
            image = decode(frame)
            assert image.shape == shape
            assert 10 < red(image).sum() < image.size // 12
        robot.clock.wait_until(first.stamp_ns + 50_000_000)
        second = robot.read()
        assert second.frames["front"].sequence == first.frames["front"].sequence + 1
        assert second.frames["front"].stamp_ns == second.stamp_ns
        assert robot.read() is second


def test_raw_frames_are_the_same_for_the_same_start_and_show_what_moved():
    rig = CameraRig([FRONT], codec="raw")
    images = []
    for _ in range(2):
        with MujocoRobot(SCENE, cameras=rig) as robot:
            frame = robot.reset(ResetRequest(simulator_state=START)).frames["front"]
            assert len(frame.data) == 48 * 64 * 3
            images.append(decode(frame))
            moved = {"object/cube_pose": START["object/cube_pose"] + [0, 0.1, 0, 0, 0, 0, 0]}
            other = decode(robot.reset(ResetRequest(simulator_state=moved)).frames["front"])
    np.testing.assert_array_equal(images[0], images[1])
    assert columns(other) > columns(images[0]) + 5  # +y is to the right of a camera that looks back at the arm


def test_equal_seeds_give_equal_jpegs_over_an_episode():
    episodes = []
    for _ in range(2):
        env, expert = configured("reach", "camera=front_wrist", "env.max_steps=4")
        frames: list[bytes] = []
        listener = FrameList(frames)
        try:
            run_episode(env, expert, [listener], seed=7)
        finally:
            env.close()
        episodes.append(frames)
    assert len(episodes[0]) == 10  # two cameras, five observations
    assert episodes[0] == episodes[1]


class FrameList:
    """Listener that keeps the encoded frames."""

    def __init__(self, frames: list[bytes]) -> None:
        self._frames = frames

    def on_reset(self, observation, spec, seed): ...

    def on_decision(self, decision): ...

    def on_step(self, row):
        self._frames.extend(frame.data for frame in row.observation.frames.values())

    def on_end(self, final, end):
        self.on_step(final)


def test_robots_of_other_sizes_draw_side_by_side_and_from_any_thread():
    """Each has a graphics context of its own, which must not stay with the thread that drew last."""
    small, large = SceneCamera("front", (1.0, 0.0, 0.5), (0.5, 0.0, 0.0), height=20, width=30), FRONT
    with MujocoRobot(SCENE, cameras=CameraRig([small])) as one, ThreadPoolExecutor(1) as thread:
        with MujocoRobot(SCENE, cameras=CameraRig([large])) as other:
            for robot in (one, other):
                robot.reset(ResetRequest(simulator_state=START))
            assert one.renderer is not None and other.renderer is not None
            here = [robot.renderer.pixels(robot.physics.data)["front"] for robot in (one, other)]
            there = [
                thread.submit(robot.renderer.pixels, robot.physics.data).result()["front"] for robot in (one, other)
            ]
        # closing one frees nothing of the other
        after = thread.submit(one.renderer.pixels, one.physics.data).result()["front"]
    assert [image.shape for image in here] == [(20, 30, 3), (48, 64, 3)]
    for first, second in zip(here, there, strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(after, here[0])


def test_what_is_changed_in_the_model_is_seen_in_the_next_image():
    with MujocoRobot(SCENE, cameras=CameraRig([FRONT], codec="raw")) as robot:
        robot.reset(ResetRequest(simulator_state=START))
        renderer, data = robot.renderer, robot.physics.data
        assert renderer is not None
        before = renderer.pixels(data)["front"]
        model, cube = renderer.model, renderer.model.geom("cube").id
        colour, position = model.geom_rgba[cube].copy(), model.cam_pos.copy()
        model.geom_rgba[cube] = [0, 0, 1, 1]
        assert red(before).sum() > 0 and red(renderer.pixels(data)["front"]).sum() == 0
        model.geom_rgba[cube] = colour
        model.cam_pos[0, 1] += 0.2
        assert abs(columns(renderer.pixels(data)["front"]) - columns(before)) > 3
        model.cam_pos[:] = position
        model.vis.headlight.diffuse[:] *= 0.5
        assert renderer.pixels(data)["front"].mean() < before.mean() - 5
        model.vis.headlight.diffuse[:] *= 2.0
        np.testing.assert_array_equal(renderer.pixels(data)["front"], before)


def columns(image: np.ndarray) -> float:
    """Middle column of the cube."""
    return float(np.argwhere(red(image))[:, 1].mean())


def test_the_full_profile_shows_shadows():
    images = {}
    for profile in ("fast", "full"):
        with MujocoRobot(SCENE, cameras=CameraRig([FRONT], codec="raw", profile=profile)) as robot:
            images[profile] = decode(robot.reset(ResetRequest(simulator_state=START)).frames["front"])
    darker = images["full"].astype(int).sum(-1) < images["fast"].astype(int).sum(-1) - 90
    assert darker.sum() > 50


@pytest.mark.parametrize("robot", ["sim_panda", "sim_ur5e", "sim_planar"])
def test_every_arm_is_seen_whole_in_both_profiles(robot: str):
    env, _ = configured("reach_planar" if robot == "sim_planar" else "reach", f"robot={robot}")
    seen = []
    try:
        env.reset(0)
        built = env.robot.physics.built
        for profile in (Profile.FAST, Profile.FULL):
            with closing(Overview(built.scene, built.arm, profile)) as overview:
                above = overview.draw(env.robot.physics).astype(int)[:180]  # nothing but arm and sky, which is bluish
                seen.append((np.ptp(above, axis=-1) < 12).mean())
    finally:
        env.close()
    assert 0.02 < seen[0] < 2.0 * seen[1]
    assert seen[1] < 2.0 * seen[0]


def test_wrong_rigs_are_refused():
    with pytest.raises(ConfigError, match="jpeg, raw"):
        CameraRig([FRONT], codec="png")
    with pytest.raises(ConfigError, match="Did you mean 'fast'"):
        CameraRig([FRONT], profile="fat")
    with pytest.raises(ConfigError, match="share a name"):
        CameraRig([FRONT, FRONT])
    with pytest.raises(ConfigError, match="pixels"):
        SceneCamera("front", (1, 0, 1), (0, 0, 0), height=0)
