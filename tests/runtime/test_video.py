"""mp4 files that play."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from robot_rl.errors import ConfigError, InvalidArrayError
from robot_rl.runtime.random_policy import RandomPolicy
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.video import VideoListener, video_of, write_mp4
from sim.pusht_env import pusht_env
from tests.runtime.counting import counting_env


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]


def test_pictures_come_back_in_order_at_an_even_size(tmp_path: Path) -> None:
    images = [np.full((33, 48, 3), level, dtype=np.uint8) for level in (20, 120, 220)]
    write_mp4(tmp_path / "deep" / "a.mp4", images, rate_hz=10.0)
    frames = frames_of(tmp_path / "deep" / "a.mp4")
    assert [frame.shape for frame in frames] == [(32, 48, 3)] * 3
    np.testing.assert_allclose([frame.mean() for frame in frames], [20, 120, 220], atol=4)


def test_one_file_per_episode_from_the_camera_or_from_the_drawing(tmp_path: Path) -> None:
    env = pusht_env(max_steps=6, image_size_px=48)
    camera = VideoListener(tmp_path / "camera-{seed}.mp4", camera="board", overlay=False)
    drawn = video_of(env, tmp_path / "drawn-{seed}.mp4")
    assert drawn is not None
    for seed in (3, 4):
        run_episode(env, RandomPolicy(env.spec), [camera, drawn], seed=seed)
    assert camera.written == [tmp_path / "camera-3.mp4", tmp_path / "camera-4.mp4"]
    assert [len(frames_of(path)) for path in camera.written + drawn.written] == [7] * 4
    assert frames_of(drawn.written[0])[0].shape == (512, 512, 3)
    assert frames_of(camera.written[0])[0].shape == (384, 384, 3)  # 48 px, eight times
    assert not np.array_equal(frames_of(camera.written[0])[0], frames_of(camera.written[0])[-1])


def test_an_env_without_pictures_has_no_video(tmp_path: Path) -> None:
    assert video_of(counting_env(), tmp_path / "none.mp4") is None
    with pytest.raises(ConfigError, match="either"):
        VideoListener(tmp_path / "x.mp4")


def test_an_unknown_camera_is_named_and_an_empty_video_is_no_file(tmp_path: Path) -> None:
    env = pusht_env(max_steps=3, image_size_px=32)
    with pytest.raises(ConfigError, match="Did you mean 'board'"):
        run_episode(env, RandomPolicy(env.spec), [VideoListener(tmp_path / "x.mp4", "bord")], seed=0)
    with pytest.raises(InvalidArrayError, match="without images"):
        write_mp4(tmp_path / "empty.mp4", [], rate_hz=10.0)
    assert list(tmp_path.iterdir()) == []
