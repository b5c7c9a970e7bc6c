"""Frames in batches: the right ones, decoded the same in every tier, by any number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from robot_rl.data import aligned
from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.frame_encoding import encode_frame
from robot_rl.data.frames import ImageOptions, decode_frame
from robot_rl.data.prefetch import Prefetcher
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.store import EpisodeStore
from robot_rl.data.tables import MemoryEpisodes
from robot_rl.data.windows import WindowSampler
from robot_rl.errors import ConfigError, CorruptEpisodeError, EpisodeError, StoreError
from robot_rl.types import Array, Frame, Offsets, ReplayView, WindowSpec
from tests.data.test_replay import episode

SPEC = WindowSpec({"images/front": Offsets(0, 2), "action/commanded": Offsets(0, 2)}, pad_before=1, pad_after=1)
HEIGHT, WIDTH = 24, 32


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> Array:
    """RGB that differs per number and between channels, smooth enough for JPEG."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 4 + number * 9) % 200 + 40, y * 5 + 10, np.full_like(x, 20 + number)], 2).astype(np.uint8)


def filmed(
    id: str,
    frame_of_step: Sequence[int],
    *,
    codec: str = "png",
    first: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> Episode:
    """An episode whose rows show pictures ``first + frame_of_step``."""
    count = max(frame_of_step) + 1
    images = [picture(first + i, *size) for i in range(count)]
    encoded = [encode_frame(Frame(each.tobytes(), i, i, *size, codec="raw"), codec) for i, each in enumerate(images)]
    track = CameraTrack(
        data=np.frombuffer(b"".join(encoded), np.uint8),
        offset=np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        t_ns=np.arange(count, dtype=np.int64),
        frame_of_step=np.array(frame_of_step, dtype=np.int32),
        height=size[0],
        width=size[1],
        codec=codec,
    )
    return replace(episode(len(frame_of_step) - 1, id=id), cameras={"front": track})


def by_row(sampler: WindowSampler) -> dict[tuple[int, int], Array]:
    batch = sampler.take(0, len(sampler))
    places = zip(batch["episode"].tolist(), batch["row"].tolist(), strict=True)
    return dict(zip(places, batch["images/front"], strict=True))


@pytest.mark.parametrize("tier", ["decode", "cache"])
def test_windows_show_the_frame_of_each_row(tier: str, tmp_path: Path) -> None:
    """Row 1 repeats frame 0 (a slower camera), row 3 has none (dropped): it shows the one before."""
    episodes = [filmed("a", [0, 0, 1, -1, 2]), filmed("b", [-1, 0, 1], first=50)]
    shown = by_row(WindowSampler(episodes, SPEC, batch=2, images=ImageOptions(tier=tier, cache=tmp_path)))
    expected = {
        (0, -1): (0, 0), (0, 0): (0, 0), (0, 1): (0, 1), (0, 2): (1, 1), (0, 3): (1, 2),
        (1, -1): (50, 50), (1, 0): (50, 50), (1, 1): (50, 51),
    }  # fmt: skip
    assert shown.keys() == expected.keys()
    for place, numbers in expected.items():
        np.testing.assert_array_equal(shown[place], np.stack([picture(number) for number in numbers]))


def test_transitions_show_the_frames_before_and_after(tmp_path: Path) -> None:
    view = ReplayView(observation=("images/front",), horizon=2, history=2)
    sampler = ReplaySampler([filmed("a", [0, 1, 2, 3])], view, batch=1, images=ImageOptions(cache=tmp_path))
    batch = sampler.take(0, 3)
    first, last = batch["row"].tolist().index(0), batch["row"].tolist().index(2)
    np.testing.assert_array_equal(batch["images/front"][first], np.stack([picture(0), picture(0)]))
    np.testing.assert_array_equal(batch["next/images/front"][first], np.stack([picture(1), picture(2)]))
    np.testing.assert_array_equal(batch["next/images/front"][last], np.stack([picture(2), picture(3)]))


@pytest.mark.parametrize("codec", ["jpeg", "png", "raw"])
def test_frames_decode_to_rgb(codec: str) -> None:
    track = filmed("a", [0, 1], codec=codec).cameras["front"]
    difference = decode_frame(track, 1).astype(int) - picture(1)
    assert np.abs(difference).max() <= (12 if codec == "jpeg" else 0)
    assert abs(difference.mean()) < 1


def test_grey_frames_keep_one_channel() -> None:
    track = filmed("a", [0]).cameras["front"]
    grey = cv2.imencode(".png", picture(3)[..., 0])[1].reshape(-1)
    track = replace(track, data=grey, offset=np.array([0, len(grey)]), channels=1)
    np.testing.assert_array_equal(decode_frame(track, 0)[..., 0], picture(3)[..., 0])


def test_crop_and_size_are_the_same_in_both_tiers(tmp_path: Path) -> None:
    source = [filmed("a", [0, 1, 2], codec="jpeg"), filmed("b", [0, 1], codec="jpeg", size=(24, 32))]
    shown = [
        by_row(
            WindowSampler(
                source, SPEC, batch=2, images=ImageOptions(size=(8, 12), crop=(2, 4, 16, 24), tier=tier, cache=tmp_path)
            )
        )
        for tier in ("decode", "cache")
    ]
    image = decode_frame(source[0].cameras["front"], 1)[2:18, 4:28]
    np.testing.assert_array_equal(shown[0][0, 0][1], cv2.resize(image, (12, 8), interpolation=cv2.INTER_AREA))
    for place, frames in shown[0].items():
        np.testing.assert_array_equal(frames, shown[1][place])


def test_a_crop_that_leaves_the_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="leaves the image"):
        options = ImageOptions(crop=(10, 0, 20, 20), tier="decode")
        WindowSampler([filmed("a", [0, 1])], SPEC, batch=1, images=options).batch(0)


def test_a_store_keeps_its_cache_beside_the_episodes_and_grows_it(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "data")
    store.write(filmed("", [0, 1, 2], codec="jpeg"))
    sampler = WindowSampler(store, SPEC, batch=2)
    assert sampler.images is not None and sampler.images.tier == "cache"
    (log,) = (tmp_path / "data" / "cache" / "frames").glob("front-24x32x3-*/episodes.log")
    before = by_row(sampler)
    store.write(filmed("", [0, 1], codec="jpeg", first=50))
    assert sampler.refresh() == 1
    after = by_row(sampler)
    assert len(after) == len(before) + 2
    for place, frames in before.items():
        np.testing.assert_array_equal(after[place], frames)
    np.testing.assert_array_equal(after[1, 0][1], decode_frame(store.read(sampler.episodes[1]).cameras["front"], 1))
    written = log.read_bytes()
    again = WindowSampler(store, SPEC, batch=2, images=ImageOptions(tier="cache"))
    np.testing.assert_array_equal(by_row(again)[1, 0], after[1, 0])
    assert log.read_bytes() == written


def test_episodes_in_memory_are_decoded_on_demand_unless_a_folder_is_named() -> None:
    sampler = WindowSampler([filmed("a", [0, 1])], SPEC, batch=1)
    assert sampler.images is not None and sampler.images.tier == "decode"
    with pytest.raises(ConfigError, match="needs a folder"):
        WindowSampler([filmed("a", [0, 1])], SPEC, batch=1, images=ImageOptions(tier="cache"))


def test_without_a_place_for_a_cache_frames_are_decoded_unless_it_was_asked_for(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "file").touch()
    options = ImageOptions(cache=tmp_path / "file" / "cache")
    sampler = WindowSampler([filmed("a", [0, 1])], SPEC, batch=1, images=options)
    assert sampler.images is not None and sampler.images.tier == "decode"
    assert "decoded on demand" in caplog.text
    np.testing.assert_array_equal(by_row(sampler)[0, 0], np.stack([picture(0), picture(1)]))
    with pytest.raises(OSError, match="Not a directory"):
        WindowSampler([filmed("a", [0, 1])], SPEC, batch=1, images=replace(options, tier="cache"))


def test_frames_of_other_sizes_do_not_count_as_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little disk for these frames stays too little however much lies there decoded at another size."""
    WindowSampler(
        [filmed("a", [0, 1])], SPEC, batch=1, images=ImageOptions(cache=tmp_path, tier="cache", size=(60, 60))
    )
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    sampler = WindowSampler([filmed("a", [0, 1])], SPEC, batch=1, images=ImageOptions(cache=tmp_path))
    assert sampler.images is not None and sampler.images.tier == "decode"


@pytest.mark.parametrize("tier", ["cache", "decode"])
def test_announced_batches_are_read_as_others(tmp_path: Path, tier: str) -> None:
    """What happens when the decoded frames exceed the free memory; frames begin anywhere within a page."""
    sampler = WindowSampler(
        [filmed(f"e{i}", list(range(12)), first=i) for i in range(4)],
        SPEC,
        batch=8,
        images=ImageOptions(cache=tmp_path, tier=tier),
    )
    assert sampler.images is not None
    expected = [sampler.batch(step)["images/front"] for step in range(6)]
    sampler.images.cold = True
    with Prefetcher(sampler) as batches:
        for images in expected:
            np.testing.assert_array_equal(next(batches)["images/front"], images)


def test_batches_beyond_the_processors_caches_are_gathered_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    episodes = [filmed(f"e{i}", list(range(12)), first=i) for i in range(4)]
    sampler = WindowSampler(episodes, SPEC, batch=8, images=ImageOptions(cache=tmp_path, tier="cache"))
    expected = [sampler.batch(step)["images/front"] for step in range(3)]
    monkeypatch.setattr("robot_rl.data.frames._STREAMED", 0)
    for step, images in enumerate(expected):
        np.testing.assert_array_equal(sampler.batch(step)["images/front"], images)


def test_bad_frames_are_named(tmp_path: Path) -> None:
    good = filmed("bad", [0, 1])
    track = good.cameras["front"]
    data = track.data.copy()
    data[track.offset[1] :] = 7
    broken = replace(good, cameras={"front": replace(track, data=data)})
    with pytest.raises(CorruptEpisodeError, match="episode bad, array 'images/front': frame 1"):
        WindowSampler([broken], SPEC, batch=1, images=ImageOptions(tier="cache", cache=tmp_path))
    other = replace(good, cameras={"front": replace(track, codec="h264")})
    with pytest.raises(EpisodeError, match="codec 'h264'"):
        WindowSampler([other], SPEC, batch=1).batch(0)
    with pytest.raises(EpisodeError, match=r"episode large.*size="):
        WindowSampler([good, filmed("large", [0, 1], size=(48, 64))], SPEC, batch=1)
    with pytest.raises(EpisodeError, match="images/front"):
        WindowSampler([episode(3)], SPEC, batch=1)


@pytest.mark.parametrize("tier", ["cache", "decode"])
def test_many_threads_give_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tier: str) -> None:
    monkeypatch.setattr("robot_rl.data.frames._COPIED_AT_ONCE", 3 * HEIGHT * WIDTH * 3)
    view = ReplayView(observation=("images/front", "obs/x"), history=3, horizon=2)
    source = [filmed(f"e{i}", list(range(12)), first=i) for i in range(4)]
    samplers = [
        ReplaySampler(source, view, batch=29, images=ImageOptions(cache=tmp_path, tier=tier, threads=threads))
        for threads in (1, 5)
    ]
    for step in range(4):
        one, five = (sampler.batch(step) for sampler in samplers)
        assert one.keys() == five.keys()
        for key, value in one.items():
            np.testing.assert_array_equal(value, five[key])


def test_an_error_of_any_thread_is_raised(tmp_path: Path) -> None:
    good = filmed("bad", list(range(64)))
    track = good.cameras["front"]
    data = track.data.copy()
    data[track.offset[41] : track.offset[42]] = 7
    broken = replace(good, cameras={"front": replace(track, data=data)})
    for threads in (1, 4):
        options = ImageOptions(tier="cache", cache=tmp_path, threads=threads)
        with pytest.raises(CorruptEpisodeError, match="episode bad, array 'images/front': frame 41"):
            WindowSampler([broken], SPEC, batch=1, images=options)


@pytest.mark.parametrize(("shape", "dtype"), [((3, 5, 7), "uint8"), ((2, 3), "uint16"), ((2,), "f4")])
def test_batches_begin_at_a_cache_line(shape: tuple[int, ...], dtype: str) -> None:
    made = aligned.zeros(shape, np.dtype(dtype))
    assert (made.shape, made.dtype) == (shape, np.dtype(dtype))
    assert made.ctypes.data % 64 == 0 and made.flags.c_contiguous and made.flags.writeable and not made.any()


def test_unknown_tiers_are_refused_with_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'cache'"):
        ImageOptions(tier="cahce")
    with pytest.raises(StoreError, match="no episode"):
        WindowSampler(MemoryEpisodes([]), SPEC, batch=1)
