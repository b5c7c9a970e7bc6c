"""Depth: metric, in mm on disk, the same after recording."""

from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.frame_encoding import encode_depth
from robot_rl.data.frames import decode_frame
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, EpisodeError, InvalidArrayError
from robot_rl.runtime.frame_codec import decode, depth_m, scaled
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import DEPTH_CODEC, CameraSpec, Frame, ResetRequest
from sim.cameras import CameraRig, SceneCamera
from sim.mujoco_robot import MujocoRobot
from sim.objects import SceneObject
from sim.scene import Scene
from tests.data.recorded_rows import make_row, make_spec
from tests.sim.lift_env import configured

# 1 m above the table, beside the arm, looking down at a box of 0.1 m height
ABOVE = SceneCamera(
    "above", (0.5, 0.35, 1.0), (0.5, 0.35, 0.0), up=(1, 0, 0), fovy_deg=30.0, height=64, width=48, depth=True
)
BOX = SceneObject("box", "box", (0.05, 0.05, 0.05), position_m=(0.5, 0.35, 0.05))


def test_depth_is_the_distance_along_the_axis_to_half_a_millimetre():
    with MujocoRobot(Scene([BOX]), cameras=CameraRig([ABOVE])) as robot:
        frames = robot.reset(ResetRequest()).frames
        assert robot.renderer is not None
        exact = robot.renderer.depths(robot.physics.data)["above"]
        assert robot.connect().cameras["above_depth"] == CameraSpec(64, 48, 20.0, 1, DEPTH_CODEC, "above_optical")
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact[32, 24], 0.9, atol=2e-4)  # the top of the box
    np.testing.assert_allclose(exact[2, :], 1.0, atol=2e-4)  # the table: no farther at the edge than in the middle
    frame = frames["above_depth"]
    assert decode(frame).dtype == np.uint16
    assert decode(frame).shape == (64, 48, 1)
    assert np.abs(depth_m(frame) - exact).max() < 0.0006
    half_height = np.tan(np.deg2rad(15.0))  # at 1 m; the box's top is at 0.9 m
    rows = (exact[:, 24] < 0.95).sum()
    assert abs(rows - 64 * 0.05 / (0.9 * half_height)) <= 1.0


def test_where_nothing_is_there_is_no_depth():
    sky = SceneCamera("sky", (0.5, 0.4, 0.5), (0.5, 0.9, 1.0), height=32, width=32, depth=True)
    with MujocoRobot(Scene(), cameras=CameraRig([sky])) as robot:
        frame = robot.reset(ResetRequest()).frames["sky_depth"]
        assert robot.renderer is not None
        assert np.isinf(robot.renderer.depths(robot.physics.data)["sky"]).all()
    assert np.isnan(depth_m(frame)).all()


def test_what_millimetres_cannot_hold_is_not_measured():
    depth = np.array([[0.0, -1.0, np.nan, np.inf], [0.0004, 0.0006, 65.535, 65.536]])
    frame = Frame(encode_depth(depth), 0, 0, 2, 4, 1, DEPTH_CODEC)
    np.testing.assert_array_equal(decode(frame)[..., 0], [[0, 0, 0, 0], [0, 1, 65535, 0]])


def test_depth_between_two_objects_is_never_invented():
    image = np.repeat(np.repeat(np.array([[500, 2000]], dtype=np.uint16), 8, axis=0), 4, axis=1)[..., None]
    assert set(np.unique(scaled(image, (3, 3, 1)))) == {500, 2000}


def test_a_recorded_depth_stream_comes_back_pixel_by_pixel(tmp_path: Path):
    env, expert = configured("reach", "camera=front_wrist_depth", "env.max_steps=3")
    seen: list[dict[str, Frame]] = []

    class Seen:
        def on_reset(self, observation, spec, seed): ...
        def on_decision(self, decision): ...
        def on_step(self, row):
            seen.append(dict(row.observation.frames))

        def on_end(self, final, end):
            seen.append(dict(final.observation.frames))

    store = EpisodeStore.open_or_create(tmp_path / "depth", spec=env.spec, name="depth")
    recorder = EpisodeRecorder(store, {}, extras=expert.spec.record)
    try:
        run_episode(env, expert, [recorder, Seen()], seed=0)
    finally:
        env.close()
    assert recorder.kept is not None
    track = store.read(recorder.kept.id).cameras["wrist_depth"]
    assert (track.codec, track.channels, track.attributes["unit"]) == (DEPTH_CODEC, 1, "mm")
    assert track.frames == len(seen) == 4
    for index, frames in enumerate(seen):
        image = decode_frame(track, index)
        assert image.dtype == np.uint16
        assert 50 < np.median(image) < 1000  # mm from the wrist to the table
        np.testing.assert_array_equal(image, decode(frames["wrist_depth"]))


def test_eight_bits_are_no_depth(tmp_path: Path):
    import cv2

    grey = cv2.imencode(".png", np.full((8, 8), 7, np.uint8))[1].tobytes()
    with pytest.raises(InvalidArrayError, match="nothing that can be decoded"):
        decode(Frame(grey, 0, 0, 8, 8, 1, DEPTH_CODEC))
    with pytest.raises(InvalidArrayError, match="holds no depth"):
        depth_m(Frame(grey, 0, 0, 8, 8, 1, "png"))
    spec = make_spec({"wrist": CameraSpec(8, 8, 50.0, 1, DEPTH_CODEC)})
    store = EpisodeStore.open_or_create(tmp_path / "raw", spec=spec, name="raw")
    writer = store.begin(spec, {})
    with pytest.raises(EpisodeError, match="frame codec 'raw'"):
        writer.append(make_row(spec, 0, 0))
    writer.discard("test")


def test_a_camera_cannot_be_named_like_a_depth_image():
    with pytest.raises(ConfigError, match="share a name"):
        CameraRig([ABOVE, SceneCamera("above_depth", (1, 0, 1), (0, 0, 0))])
