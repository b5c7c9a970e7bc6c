"""What a policy sees, frames included."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from policies.chunk_mlp import ChunkMlp
from policies.diffusion import DiffusionPolicy
from policies.image_encoder import ImageEncoder
from policies.noise_schedules import NoiseSchedule
from policies.samplers import DDIM
from robot_rl.data.frames import ImageOptions
from robot_rl.data.pusht import CAMERA
from robot_rl.data.store import EpisodeStore
from robot_rl.data.windows import WindowSampler
from robot_rl.errors import InvalidArrayError, SpecMismatchError, StaleObservationError
from robot_rl.runtime.frame_codec import compressed, decode, scaled
from robot_rl.runtime.random_policy import RandomPolicy
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.window import ObservationWindow, check_inputs
from robot_rl.types import ArraySpec, Frame, Observation, PolicySpec, StepRow
from sim.pusht_env import pusht_env


def smooth_image(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack((x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)), axis=-1).astype(np.uint8)


def raw(image: np.ndarray, sequence: int = 0) -> Frame:
    return Frame(image.tobytes(), 0, sequence, *image.shape, codec="raw")


def test_a_raw_frame_becomes_jpeg_once_and_decodes_to_nearly_the_same_colours() -> None:
    image = smooth_image(48, 64)
    frame = compressed(raw(image))
    assert frame.codec == "jpeg"
    assert compressed(frame) is frame
    assert np.abs(decode(frame).astype(int) - image).mean() < 2.0  # a swap of red and blue would give about 80


def test_grey_frames_keep_one_channel() -> None:
    image = smooth_image(16, 16)[..., :1]
    assert decode(compressed(raw(image))).shape == (16, 16, 1)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(b"", 0, 0, 8, 8),
        Frame(b"not a jpeg", 0, 0, 8, 8),
        Frame(b"123", 0, 0, 8, 8, codec="raw"),
        Frame(compressed(raw(smooth_image(8, 8))).data, 0, 0, 8, 9),
    ],
)
def test_bytes_that_are_no_such_image_are_refused(frame: Frame) -> None:
    with pytest.raises(InvalidArrayError, match=r"8, [89], 3"):
        decode(frame)


def test_scaling_averages_areas() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[:2, :2] = 200
    np.testing.assert_array_equal(scaled(image, (2, 2, 3))[..., 0], [[200, 0], [0, 0]])
    assert scaled(image, (4, 4, 3)) is image


def window_of(history: int, shape: tuple[int, ...] = (24, 24, 3)) -> ObservationWindow:
    spec = PolicySpec(
        {"x": ArraySpec((1,)), f"images/{CAMERA}": ArraySpec(shape, "uint8")}, pusht_env().spec.action, history
    )
    return ObservationWindow(spec)


def observation(step: int, sequence: int) -> Observation:
    image = np.full((48, 48, 3), 10 * sequence, dtype=np.uint8)
    state = {"x": np.array([step], dtype=np.float32)}
    return Observation(step, step, state, frames={CAMERA: compressed(raw(image, sequence))})


def test_windows_are_padded_slide_and_scale_images() -> None:
    window = window_of(3)
    window.push(observation(0, 0))
    np.testing.assert_array_equal(window.arrays()["x"], [[[0], [0], [0]]])
    for step, sequence in ((1, 1), (2, 1), (3, 2)):  # the camera is slower than the steps
        window.push(observation(step, sequence))
    seen = window.arrays()
    np.testing.assert_array_equal(seen["x"], [[[1], [2], [3]]])
    assert seen[f"images/{CAMERA}"].shape == (1, 3, 24, 24, 3)
    assert seen[f"images/{CAMERA}"].dtype == np.uint8
    np.testing.assert_allclose(seen[f"images/{CAMERA}"][0, :, 5, 5, 0], [10, 10, 20], atol=1)
    window.reset()
    window.push(observation(7, 5))
    np.testing.assert_array_equal(window.arrays()["x"], [[[7], [7], [7]]])


def test_frames_reach_acting_as_they_reached_training(tmp_path: Path) -> None:
    """96 px to 84 px is where two ways of averaging an area differ by grey levels."""
    env, store = pusht_env(max_steps=5, image_size_px=96), EpisodeStore.create(tmp_path / "data")
    camera = partial(ImageEncoder, height=84, width=84, channels=8)
    policy = DiffusionPolicy(env.spec, ChunkMlp, DDIM, NoiseSchedule(), cameras={CAMERA: camera}, pad_after=15)
    window, seen = ObservationWindow(policy.spec), []

    class Watch(EpisodeRecorder):
        def on_step(self, row: StepRow) -> None:
            window.push(row.observation)
            seen.append(window.arrays()[f"images/{CAMERA}"][0])
            super().on_step(row)

    run_episode(env, RandomPolicy(env.spec), [Watch(store)], seed=3)
    options = ImageOptions(size=policy.image_size, threads=1)
    sampler = WindowSampler(store, policy.windows, batch=1, seed=0, images=options)
    trained = sampler.gather(np.arange(5))[f"images/{CAMERA}"]
    np.testing.assert_array_equal(trained, [np.stack([seen[max(t - 1, 0)][-1], seen[t][-1]]) for t in range(5)])
    assert trained.shape == (5, 2, 84, 84, 3)


def test_a_camera_that_stops_is_named() -> None:
    window = window_of(1)
    window.push(Observation(4, 0, {"x": np.zeros(1, np.float32)}))
    with pytest.raises(StaleObservationError, match=f"camera '{CAMERA}'.*step 4"):
        window.arrays()


def test_inputs_are_checked_by_name_and_shape() -> None:
    env = pusht_env(image_size_px=96)
    wants = {"agent/position": ArraySpec((2,)), f"images/{CAMERA}": ArraySpec((48, 48, 3), "uint8")}
    check_inputs(PolicySpec(wants, env.spec.action), env.spec)
    with pytest.raises(SpecMismatchError, match=f"Did you mean 'images/{CAMERA}'"):
        check_inputs(PolicySpec({"images/bord": ArraySpec((9, 9, 3))}, env.spec.action), env.spec)
    with pytest.raises(SpecMismatchError, match=r"'agent/position' as \[3\]"):
        check_inputs(PolicySpec({"agent/position": ArraySpec((3,))}, env.spec.action), env.spec)
