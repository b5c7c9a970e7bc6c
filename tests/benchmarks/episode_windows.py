"""How fast training reads windows and transitions, beside diffusion policy's concatenated Zarr.

    python -m tests.benchmarks.episode_windows [folder]

Ten episodes of 300 steps, synthetic RGB: two cameras of 128x128, one of 640x480, state 30, action 7. Prints one line:
    windows_per_s_2cam, windows_per_s_3cam   random windows from the decoded cache, batch 64: 2 observed frames of
                                             the small (of all) cameras, 2 states, 16 actions
    windows_per_s_2cam_decode                decoding JPEG on demand instead
    windows_per_s_2cam_cold, _3cam_cold      the cache out of memory (told by mincore), each batch announced two batches
                                             ahead; six batches a round from the announcement of the first on, so that
                                             about a tenth of the frames were in an earlier one
    ratio_cold_vs_disk_2cam, _3cam           these to the same frames, as many windows, read past the page cache by
                                             eight threads at once: what the disk gives; interleaved
    windows_per_s_zarr_2cam, _3cam           the peer: lz4 blosc chunks of 2 MB read through zarr-python, interleaved
    ratio_windows_vs_zarr_concat             ours to the peer, 2 cameras; and ratio_windows_vs_zarr_concat_3cam
    transitions_per_s                        (s, a, r, s') with the 2 small cameras, batch 256
    transitions_ceiling_per_s                the frames of as many alone: random rows of the mapped cache copied into
                                             the arrays of a batch, shared evenly by as many threads; interleaved
    ratio_copies_vs_numpy_take               that ceiling to the same with numpy.take, by processor time
    ratio_transitions_vs_ceiling             the former to the latter, by processor time
    windows_per_s_low_dim                    2 states, 16 actions, batch 256; low_dim_batch_ms is the time of one batch
    windows_per_cpu_s_2cam, _3cam, _2cam_cold, _3cam_cold, transitions_per_cpu_s, low_dim_batch_cpu_ms
                                             the same by processor time, for machines whose cores are taken by others
    gather_gb_per_s                          bytes of windows_per_s_2cam
    cache_build_s, cache_mb                  decoding all frames once
Each rate is the median of five rounds, the cold ones of three.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
import zarr
from numcodecs import Blosc

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.frame_encoding import encode_frame
from robot_rl.data.frames import ImageOptions
from robot_rl.data.replay import NEXT, ReplaySampler
from robot_rl.data.row_copy import take_rows
from robot_rl.data.store import EpisodeStore
from robot_rl.data.windows import WindowSampler
from robot_rl.types import Array, Cut, Frame, Offsets, ReplayView, WindowSpec
from tests.benchmarks.page_cache import drop

EPISODES, STEPS, BATCH = 10, 300, 64
SIZES = {"left": (128, 128), "right": (128, 128), "scene": (480, 640)}
SMALL, ALL = ("left", "right"), ("left", "right", "scene")
Copies = Callable[[Array, Array, Array], None]  # source, rows, out
OBSERVED, ACTIONS, ROUNDS, COLD_BATCHES = 2, 16, 5, 6


def synthetic_frames(generator: np.random.Generator, height: int, width: int, count: int) -> Array:
    """Smooth texture with a moving hard-edged square and sensor noise, uint8 [count, height, width, 3]."""
    coarse = generator.integers(0, 256, (height // 16, width // 16, 3)).astype(np.float32)
    texture = np.kron(coarse, np.ones((16, 16, 1), dtype=np.float32))
    frames = np.empty((count, height, width, 3), dtype=np.uint8)
    noise = generator.normal(0, 4, (height, width, 3)).astype(np.float32)
    for i in range(count):
        image = texture + np.roll(noise, i * 7, axis=1)
        place = i * (width - 24) // count
        image[height // 3 : height // 3 + 24, place : place + 24] = (200, 30, 30)
        frames[i] = np.clip(image, 0, 255)
    return frames


def synthetic_episode(index: int) -> tuple[Episode, dict[str, Array]]:
    """An episode with encoded frames, and the raw ones."""
    generator = np.random.default_rng(index)
    rows = STEPS + 1
    valid = np.arange(rows) < STEPS
    arrays = {
        "obs/state": generator.normal(size=(rows, 30)).astype(np.float32),
        "action/commanded": generator.normal(size=(rows, 7)).astype(np.float32),
        "action_valid": valid,
        "time/t_ns": np.arange(rows, dtype=np.int64),
        "rl/reward": np.zeros(rows, dtype=np.float32),
        "rl/terminated": np.zeros(rows, dtype=bool),
        "rl/truncated": np.zeros(rows, dtype=bool),
    }
    cameras, raw = {}, {}
    for name, (height, width) in SIZES.items():
        raw[name] = synthetic_frames(generator, height, width, rows)
        encoded = [
            encode_frame(Frame(image.tobytes(), i, i, height, width, codec="raw"), "jpeg")
            for i, image in enumerate(raw[name])
        ]
        offset = np.cumsum([0, *(len(data) for data in encoded)], dtype=np.int64)
        frames = np.arange(rows)
        cameras[name] = CameraTrack(
            np.frombuffer(b"".join(encoded), np.uint8), offset, frames, frames.astype(np.int32), height, width
        )
    return Episode(f"episode{index:02d}", arrays, {}, cameras), raw


def window_spec(cameras: Sequence[str]) -> WindowSpec:
    images = {f"images/{name}": Offsets(0, OBSERVED) for name in cameras}
    low_dim = {"obs/state": Offsets(0, OBSERVED), "action/commanded": Offsets(0, ACTIONS)}
    return WindowSpec({**low_dim, **images}, pad_before=1, pad_after=7)


class ConcatenatedZarr:
    """Arrays of all episodes one behind the other, as diffusion policy keeps and reads them: format 2, lz4, 2 MB."""

    def __init__(self, path: Path) -> None:
        self._group = zarr.open_group(path, mode="w", zarr_format=2)
        self._ends: list[int] = []

    def append(self, arrays: Mapping[str, Array]) -> None:
        """Add an episode, its final row left out."""
        for name, value in arrays.items():
            value = value[:STEPS]
            if name not in self._group:
                rows = max(1, 2_000_000 // value[0].nbytes)
                self._group.create_array(
                    name,
                    shape=(0, *value.shape[1:]),
                    chunks=(min(rows, EPISODES * STEPS), *value.shape[1:]),
                    dtype=value.dtype,
                    compressors=Blosc("lz4", clevel=5, shuffle=Blosc.NOSHUFFLE),
                )
            array = self._group[name]
            assert isinstance(array, zarr.Array)
            array.append(value)
        self._ends.append((self._ends[-1] if self._ends else 0) + STEPS)

    def reader(self, spec: WindowSpec, generator: np.random.Generator) -> Callable[[], int]:
        """Reads one batch of random windows, slice by slice, and stacks them; returns its size."""
        arrays: list[tuple[Any, int]] = [(self._group[key], offsets.length) for key, offsets in spec.keys.items()]

        def read() -> int:
            starts = [
                end - STEPS + generator.integers(0, STEPS - ACTIONS) for end in generator.choice(self._ends, BATCH)
            ]
            for array, length in arrays:
                np.stack([array[start : start + length] for start in starts])
            return BATCH

        return read


def batches(sampler: WindowSampler | ReplaySampler) -> Callable[[], int]:
    """Reads the next batch into the same arrays again; returns its size."""
    out, steps = sampler.allocate(), count()

    def read() -> int:
        sampler.batch(next(steps), out)
        return sampler.batch_size

    return read


def numpy_take(source: Array, rows: Array, out: Array) -> None:
    """What ``take_rows`` does, through the caches."""
    np.take(source, rows, axis=0, out=out, mode="clip")


def bare_copies(replay: ReplaySampler, folder: Path, copies: Copies = take_rows) -> Callable[[], int]:
    """``copies`` frames of the cache in ``folder`` into the arrays of a batch of ``replay``: what no sampler beats."""
    out, generator, threads = replay.allocate(), np.random.default_rng(1), ImageOptions().threads
    pool, work = ThreadPoolExecutor(threads), []
    for name in SMALL:
        shape = (-1, *SIZES[name], 3)
        frames = np.memmap(next(folder.glob(f"{name}-*/frames.u8")), np.uint8, "r").reshape(shape)
        work += [
            (frames, step, out[prefix + f"images/{name}"].reshape(shape)) for step, prefix in enumerate(("", NEXT))
        ]
    share = replay.batch_size // threads

    def read() -> int:
        rows = generator.integers(0, EPISODES * (STEPS + 1) - 1, replay.batch_size)

        def copy(begin: int) -> None:
            part = slice(begin, begin + share)
            for frames, step, target in work:
                copies(frames, rows[part] + step, target[part])

        list(pool.map(copy, range(0, replay.batch_size, share)))
        return replay.batch_size

    return read


def cold_rates(store: EpisodeStore, rounds: int = 3) -> dict[str, tuple[float, float]]:
    """Windows per second and per processor second while the cache lies on disk alone."""
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in range(rounds):
        for name, cameras in (("2cam_cold", SMALL), ("3cam_cold", ALL)):
            with patch("robot_rl.data.frames._free_memory", return_value=0):  # as where the cache exceeds the memory
                options = ImageOptions(tier="cache")
                sampler = WindowSampler(store, window_spec(cameras), batch=BATCH, images=options, seed=seed)
            for path in store.root.glob("cache/frames/*/frames.u8"):
                drop(path)
            out = sampler.allocate()
            wall, cpu = time.perf_counter(), time.process_time()
            for step in range(2):
                sampler.prepare(step)
            for step in range(COLD_BATCHES):
                if step + 2 < COLD_BATCHES:
                    sampler.prepare(step + 2)
                sampler.batch(step, out)
            windows = COLD_BATCHES * BATCH
            rate = windows / (time.perf_counter() - wall), windows / (time.process_time() - cpu)
            found.setdefault(name, []).append(rate)
            del sampler
            gc.collect()  # its maps hold the pages in memory
            found.setdefault(f"{name}_disk", []).append((direct_reads(store, cameras, windows, seed), 1.0))
    return {name: (median(w for w, _ in each), median(c for _, c in each)) for name, each in found.items()}


def direct_reads(store: EpisodeStore, cameras: Sequence[str], windows: int, seed: int, threads: int = 8) -> float:
    """Windows per second when their frames alone are read from the disk, ``threads`` requests at a time."""
    generator, pieces = np.random.default_rng(seed), []
    for name in cameras:
        path = next((store.root / "cache" / "frames").glob(f"{name}-*/frames.u8"))
        size = int(np.prod(SIZES[name])) * 3
        first = generator.integers(0, EPISODES * (STEPS + 1) - OBSERVED, windows)
        pieces += [(path, int(frame) * size, OBSERVED * size) for frame in first]
    work = [pieces[index] for index in generator.permutation(len(pieces))]

    def read(number: int) -> None:
        buffer = mmap.mmap(-1, max(length for _, _, length in work))  # O_DIRECT asks for whole pages
        files = {path: os.open(path, os.O_RDONLY | os.O_DIRECT) for path, _, _ in pieces[::windows]}
        for path, start, length in work[number::threads]:
            os.preadv(files[path], [memoryview(buffer)[:length]], start)
        for descriptor in files.values():
            os.close(descriptor)

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(read, range(threads)))
    return windows / (time.perf_counter() - began)


def rates(readers: Mapping[str, tuple[Callable[[], int], int]]) -> dict[str, tuple[float, float]]:
    """Items per second and per processor second of each reader: medians over rounds in which all take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for read, calls in readers.values():
        for _ in range(max(calls // 2, 1)):
            read()
    for _ in range(ROUNDS):
        for name, (read, calls) in readers.items():
            wall, cpu = time.perf_counter(), time.process_time()
            items = sum(read() for _ in range(calls))
            found[name].append((items / (time.perf_counter() - wall), items / (time.process_time() - cpu)))
    return {name: (median(w for w, _ in each), median(c for _, c in each)) for name, each in found.items()}


def measure_windows(root: Path) -> dict[str, float]:
    """All figures named at the top; writes about 6 GB under ``root`` while it runs."""
    peer, episodes = ConcatenatedZarr(root / "concatenated.zarr"), []
    for index in range(EPISODES):
        episode, raw = synthetic_episode(index)
        low_dim = {name: episode.arrays[name] for name in ("obs/state", "action/commanded")}
        peer.append({**low_dim, **{f"images/{name}": frames for name, frames in raw.items()}})
        episodes.append(episode)
    store = EpisodeStore.create(root / "store")
    for episode in episodes:
        store.write(episode)
    started = time.perf_counter()
    cached = ImageOptions(tier="cache")
    windows = {
        cameras: WindowSampler(store, window_spec(cameras), batch=BATCH, images=cached) for cameras in (ALL, SMALL)
    }
    built = time.perf_counter() - started
    del windows
    gc.collect()
    measured = cold_rates(store)
    windows = {
        cameras: WindowSampler(store, window_spec(cameras), batch=BATCH, images=cached) for cameras in (ALL, SMALL)
    }
    decoding = WindowSampler(store, window_spec(SMALL), batch=BATCH, images=ImageOptions(tier="decode"))
    view = ReplayView(observation=("obs/state", *(f"images/{name}" for name in SMALL)), cut=Cut.NONE)
    replay = ReplaySampler(store, view, batch=256, images=cached)
    low_dim = WindowSampler(store, window_spec(()), batch=256)
    generator = np.random.default_rng(0)
    measured |= rates(
        {
            "2cam": (batches(windows[SMALL]), 200),
            "zarr_2cam": (peer.reader(window_spec(SMALL), generator), 2),
            "3cam": (batches(windows[ALL]), 40),
            "zarr_3cam": (peer.reader(window_spec(ALL), generator), 1),
            "2cam_decode": (batches(decoding), 8),
            "transitions": (batches(replay), 60),
            "ceiling": (bare_copies(replay, store.root / "cache" / "frames"), 60),
            "numpy_take": (bare_copies(replay, store.root / "cache" / "frames", numpy_take), 60),
            "low_dim": (batches(low_dim), 500),
        }
    )
    wall, cpu = ({name: each[i] for name, each in measured.items()} for i in (0, 1))
    small_bytes = OBSERVED * len(SMALL) * 128 * 128 * 3
    return {
        **{
            f"windows_per_s_{name}": round(wall[name])
            for name in wall
            if ("cam" in name and "disk" not in name) or name == "low_dim"
        },
        "ratio_windows_vs_zarr_concat": round(wall["2cam"] / wall["zarr_2cam"], 1),
        "ratio_windows_vs_zarr_concat_3cam": round(wall["3cam"] / wall["zarr_3cam"], 1),
        **{f"ratio_cold_vs_disk_{n}": round(wall[f"{n}_cold"] / wall[f"{n}_cold_disk"], 2) for n in ("2cam", "3cam")},
        "transitions_per_s": round(wall["transitions"]),
        "transitions_ceiling_per_s": round(wall["ceiling"]),
        "ratio_transitions_vs_ceiling": round(cpu["transitions"] / cpu["ceiling"], 3),
        "ratio_copies_vs_numpy_take": round(cpu["ceiling"] / cpu["numpy_take"], 3),
        "low_dim_batch_ms": round(256e3 / wall["low_dim"], 3),
        **{f"windows_per_cpu_s_{name}": round(cpu[name]) for name in ("2cam", "3cam", "2cam_cold", "3cam_cold")},
        "transitions_per_cpu_s": round(cpu["transitions"]),
        "low_dim_batch_cpu_ms": round(256e3 / cpu["low_dim"], 3),
        "gather_gb_per_s": round(wall["2cam"] * small_bytes / 1e9, 1),
        "cache_build_s": round(built, 1),
        "cache_mb": round(sum(file.stat().st_size for file in root.glob("store/cache/frames/*/frames.u8")) / 1e6),
    }


def main() -> None:
    """Measure in the folder given, or in a temporary one, and print the line."""
    parent = sys.argv[1] if len(sys.argv) > 1 else None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        print(json.dumps(measure_windows(Path(folder))))


if __name__ == "__main__":
    main()
