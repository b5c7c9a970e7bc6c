import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.runtime.frame_codec import decode
from robot_rl.types import ResetRequest
from sim.cameras import CameraRig, SceneCamera
from sim.mujoco_robot import MujocoRobot
from sim.scene import Scene, SceneObject

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
    before, after = np.argwhere(red(images[0]))[:, 1].mean(), np.argwhere(red(other))[:, 1].mean()
    assert after > before + 5  # +y is to the right of a camera that looks back at the arm


def test_the_full_profile_shows_shadows():
    images = {}
    for profile in ("fast", "full"):
        with MujocoRobot(SCENE, cameras=CameraRig([FRONT], codec="raw", profile=profile)) as robot:
            images[profile] = decode(robot.reset(ResetRequest(simulator_state=START)).frames["front"])
    darker = images["full"].astype(int).sum(-1) < images["fast"].astype(int).sum(-1) - 90
    assert darker.sum() > 50


def test_wrong_rigs_are_refused():
    with pytest.raises(ConfigError, match="jpeg, raw"):
        CameraRig([FRONT], codec="png")
    with pytest.raises(ConfigError, match="Did you mean 'fast'"):
        CameraRig([FRONT], profile="fat")
    with pytest.raises(ConfigError, match="share a name"):
        CameraRig([FRONT, FRONT])
    with pytest.raises(ConfigError, match="pixels"):
        SceneCamera("front", (1, 0, 1), (0, 0, 0), height=0)
