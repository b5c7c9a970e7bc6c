"""Recording, committing, opening, killing and reading episodes.

Run: python -m tests.benchmarks.episode_store [key=value ...], with kills=1000, episodes=10 (of 300 steps, recorded at
50 Hz), folder= (default: a temporary one), windows=1.
Rows: 2 cameras 128x128, 1 of 640x480 as raw RGB (the writer thread makes JPEG q95 4:4:4), proprio 30, action 7.

The last line is one JSON object:
  append_p50_ms, append_p99_ms, append_max_ms   wall time of EpisodeWriter.append, in a thread that runs first where
                           that is permitted, as that of an actor
  append_cpu_p99_ms, append_cpu_max_ms  processor time of the same calls: what a busy neighbour cannot add to
  noise_p99_ms, noise_max_ms  wall time of an equally long loop without I/O in the same ticks: the machine's own noise
  overruns                 appends that took more than the 20 ms period
  queue_high_water         most steps that ever waited in the ring
  commit_ms                median of EpisodeWriter.end for 300 steps; commit_cpu_ms is its processor time
  plain_write_ms           median of writing and fsyncing as many bytes to a new file right after: the disk's share
  kb_per_step              bytes of the episode file / steps / 1000
  archive_kb_per_step      the same of the first of these episodes in an archive (JPEG XL, restored to the byte);
                           archive_ms_per_step and restore_ms_per_step are the processor time of its frames
  zarr_append_p50_ms       one step into a Zarr v3 group on disk (arrays preallocated, a chunk per step, zstd level 1)
  ratio_append_vs_zarr_per_step  zarr_append_p50_ms / append_p50_ms, episodes of both alternating in one run
  recover_ms               recovery of one killed 300-step episode
  verify_gb_s              EpisodeStore.verify over the recorded episodes (zip CRC32, crc32c codec, whole-file CRC32C)
  open_1000_ms             EpisodeStore.open of 1,000 episodes, warm, median; open_1000_lowdim_ms reads 6 arrays each;
                           open_1000_cpu_ms and open_1000_lowdim_cpu_ms are the processor time of the same
  kills, kills_clean, max_steps_lost, kill_states  random SIGKILLs, each followed by recovery and comparison bit by bit
  windows_per_s_2cam, windows_per_s_3cam, ratio_windows_vs_zarr_concat   see tests/benchmarks/episode_windows.py
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.archive import archived, restored
from robot_rl.data.episode import Episode
from robot_rl.data.store import EpisodeStore
from robot_rl.runtime.priority import run_first
from robot_rl.types import Array, CameraSpec, EpisodeEnd, Frame, StepRow
from tests.data.killed_writer import KilledWriter
from tests.data.recorded_rows import PERIOD_NS, make_row, make_spec

STEPS = 300
PERIOD_S = PERIOD_NS / 1e9
SIZES = {"left": (128, 128), "right": (128, 128), "wrist": (480, 640)}
SPEC = make_spec({name: CameraSpec(h, w, 50.0) for name, (h, w) in SIZES.items()}, proprio=30, action=7)
DISTINCT = 25  # different images per camera
LOW_DIM = ("obs/arm0/joint_position", "action/commanded", "action_valid", "rl/reward", "rl/terminated", "time/t_ns")


def synthetic_images(height: int, width: int, seed: int) -> Array:
    """[DISTINCT, h, w, 3] uint8: coloured 1/f texture, boxes with hard edges, a moving gripper, sensor noise.

    Large images are smoother per pixel; JPEG at quality 95 then takes about 84 kB at 640x480 and 19 kB at 128x128.
    """
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1.0
    phase = random.normal(size=(3, height, width // 2 + 1)) + 1j * random.normal(size=(3, height, width // 2 + 1))
    texture = np.fft.irfft2(phase / frequency ** (2.0 if height > 200 else 1.25), s=(height, width)).transpose(1, 2, 0)
    phase[1:] = phase[:1] + 0.3 * phase[1:]  # the colours of a place resemble each other
    scene = 128 + 40 * texture / texture.std()
    for _ in range(6):
        y, x = random.integers(height - height // 5), random.integers(width - width // 5)
        scene[y : y + height // 5, x : x + width // 5] = random.integers(0, 255, 3)
    images = np.empty((DISTINCT, height, width, 3), np.uint8)
    for i in range(DISTINCT):
        image = scene.copy()
        x = i * (width - width // 8) // DISTINCT
        image[height // 3 : height // 2, x : x + width // 8] = (30, 30, 35)
        images[i] = np.clip(image + random.normal(scale=1.5, size=image.shape), 0, 255)
    return images


def make_rows() -> list[StepRow]:
    """The rows of an episode of STEPS steps with raw frames."""
    raw = {
        name: [i.tobytes() for i in synthetic_images(*size, seed)] for seed, (name, size) in enumerate(SIZES.items())
    }
    rows = []
    for t in range(STEPS + 1):
        row = make_row(replace(SPEC, cameras={}), 0, t, final=t == STEPS)
        frames = {
            name: Frame(raw[name][t % DISTINCT], row.observation.stamp_ns, t, h, w, codec="raw")
            for name, (h, w) in SIZES.items()
        }
        rows.append(replace(row, observation=replace(row.observation, frames=frames)))
    return rows


def paced(rows: list[StepRow], act: Callable[[StepRow], object]) -> tuple[Array, Array]:
    """Wall and processor time [ms] of ``act`` on each row, one row per period."""
    wall, cpu = [], []
    due = time.perf_counter()
    for row in rows:
        c0, t0 = time.thread_time_ns(), time.perf_counter_ns()
        act(row)
        wall.append(time.perf_counter_ns() - t0)
        cpu.append(time.thread_time_ns() - c0)
        due = max(due + PERIOD_S, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
    return np.array(wall) / 1e6, np.array(cpu) / 1e6


def spin(_: StepRow) -> int:
    """About as much work as an append, without I/O."""
    return sum(i * i for i in range(2500))


class ZarrPerStep:
    """What an online recorder on plain Zarr does: nine arrays, one chunk per step."""

    def __init__(self, root: Path, row: StepRow) -> None:
        import zarr
        from zarr.codecs import ZstdCodec

        group = zarr.create_group(root)
        values = self._values(row)
        codec = ZstdCodec(level=1)
        self._arrays = {
            name: group.create_array(
                name, shape=(STEPS + 1, *v.shape), chunks=(1, *v.shape), dtype=v.dtype, compressors=[codec]
            )
            for name, v in values.items()
        }
        self._t = 0

    def append(self, row: StepRow) -> None:
        """Write one row."""
        for name, value in self._values(row).items():
            self._arrays[name][self._t] = value
        self._t += 1

    @staticmethod
    def _values(row: StepRow) -> dict[str, Array]:
        frames = row.observation.frames.items()
        images = {n: np.frombuffer(f.data, np.uint8).reshape(f.height, f.width, f.channels) for n, f in frames}
        return images | {
            "proprio": row.observation.state["arm0/joint_position"],
            "action": row.action.commanded,
            "valid": np.array(row.action.valid),
            "t_ns": np.array(row.observation.stamp_ns),
            "reward": np.array(row.reward, np.float32),
            "terminated": np.array(row.terminated),
        }


def measure_recording(root: Path, episodes: int) -> dict[str, Any]:
    """Append, commit, size, recovery and verification; our episodes alternate with Zarr ones."""
    rows = make_rows()
    run_first()
    store = EpisodeStore.create(root / "recorded", spec=SPEC)
    wall, cpu, noise, commit, commit_cpu, sizes, zarr_wall, plain_write = ([] for _ in range(8))
    high_water = 0
    for number in range(episodes):
        say(f"recording {number + 1}/{episodes}")
        with store.begin(SPEC) as writer:
            ours = paced(rows, writer.append)
            start, start_cpu = time.perf_counter(), time.process_time()
            info = writer.end(EpisodeEnd("time_limit", None, STEPS))
            commit.append(1e3 * (time.perf_counter() - start))
            commit_cpu.append(1e3 * (time.process_time() - start_cpu))
        plain_write.append(measure_plain_write(root / "plain", store.root / info.file))
        sizes.append(info.bytes / STEPS / 1e3)
        high_water = max(high_water, info.metadata["queue_high_water"])
        wall.append(ours[0])
        cpu.append(ours[1])
        noise.append(paced(rows[:100], spin)[0])
        peer = ZarrPerStep(root / f"zarr{number}", rows[0])
        zarr_wall.append(paced(rows[:100], peer.append)[0])
    all_wall, all_noise = np.concatenate(wall), np.concatenate(noise)
    zarr_p50 = float(np.median(np.concatenate(zarr_wall)))
    p50 = float(np.median(all_wall))
    archive = measure_archive(store, root / "archive")
    recover_ms = measure_recovery(store, rows)
    start = time.perf_counter()
    assert store.verify() == []
    seconds = time.perf_counter() - start
    return {
        "append_p50_ms": p50,
        "append_p99_ms": float(np.percentile(all_wall, 99)),
        "append_max_ms": float(all_wall.max()),
        "append_cpu_p99_ms": float(np.percentile(np.concatenate(cpu), 99)),
        "append_cpu_max_ms": float(np.concatenate(cpu).max()),
        "noise_p99_ms": float(np.percentile(all_noise, 99)),
        "noise_max_ms": float(all_noise.max()),
        "appends": len(all_wall),
        "overruns": int((all_wall > 1e3 * PERIOD_S).sum()),
        "queue_high_water": high_water,
        "commit_ms": statistics.median(commit),
        "commit_cpu_ms": statistics.median(commit_cpu),
        "plain_write_ms": statistics.median(plain_write),
        "kb_per_step": statistics.median(sizes),
        **archive,
        "zarr_append_p50_ms": zarr_p50,
        "ratio_append_vs_zarr_per_step": zarr_p50 / p50,
        "recover_ms": recover_ms,
        "verify_gb_s": sum(info.bytes for info in store.infos()) / seconds / 1e9,
    }


def measure_plain_write(path: Path, like: Path) -> float:
    """Milliseconds to write a copy of the file ``like`` and sync it."""
    content = like.read_bytes()
    start = time.perf_counter()
    with path.open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    return 1e3 * (time.perf_counter() - start)


def measure_archive(store: EpisodeStore, root: Path) -> dict[str, float]:
    """Size of the first episode on the shelf, and what it costs to put it there and to take it back."""
    say("archive")
    episode = store.read(store.ids()[0])
    started = time.process_time()
    shelved = archived(episode)
    encoded = time.process_time()
    back = restored(shelved)
    decoded = time.process_time()
    for name, camera in episode.cameras.items():
        assert np.array_equal(back.cameras[name].data, camera.data)
    info = EpisodeStore.create(root, spec=SPEC).write(shelved)
    return {
        "archive_kb_per_step": info.bytes / STEPS / 1e3,
        "archive_ms_per_step": 1e3 * (encoded - started) / STEPS,
        "restore_ms_per_step": 1e3 * (decoded - encoded) / STEPS,
    }


def measure_recovery(store: EpisodeStore, rows: list[StepRow]) -> float:
    """Milliseconds to commit a 300-step episode from its journal after its writer is gone."""
    writer = store.begin(SPEC, ring_steps=2 * STEPS, ring_bytes=2**30)
    for row in rows:
        writer.append(row)
    writer.close()
    start = time.perf_counter()
    assert len(store.recover()) == 1
    return 1e3 * (time.perf_counter() - start)


def measure_opening(root: Path, episodes: int = 1000) -> dict[str, float]:
    """Opening a dataset of 1,000 episodes of 300 steps."""
    store = EpisodeStore.create(root / "thousand", spec=SPEC)
    source = root / "recorded"
    template = EpisodeStore.open(source).read(EpisodeStore.open(source).ids()[0])
    arrays = dict(template.arrays)
    for number in range(episodes):
        if number % 100 == 0:
            say(f"writing {number}/{episodes} episodes to be opened")
        store.write(Episode("", arrays, {"ordinal": number}, {}))
    plain, low_dim = [], []
    for _ in range(7):
        start = np.array([time.perf_counter(), time.process_time()])
        store = EpisodeStore.open(root / "thousand")
        ids = store.ids()
        plain.append(1e3 * (np.array([time.perf_counter(), time.process_time()]) - start))
        total = 0
        for id in ids:
            read = store.read(id).arrays
            total += sum(read[name].nbytes for name in LOW_DIM)
        low_dim.append(1e3 * (np.array([time.perf_counter(), time.process_time()]) - start))
        assert len(ids) == episodes and total > 0
    (wall, cpu), (low_wall, low_cpu) = np.median(plain, axis=0), np.median(low_dim, axis=0)
    return {
        "open_1000_ms": float(wall),
        "open_1000_cpu_ms": float(cpu),
        "open_1000_lowdim_ms": float(low_wall),
        "open_1000_lowdim_cpu_ms": float(low_cpu),
    }


def measure_kills(root: Path, kills: int) -> dict[str, Any]:
    """Random SIGKILLs of a recording process."""
    with closing(KilledWriter(root / "killed", seed=1)) as writer:
        for number in range(kills):
            writer.round()
            if number % 50 == 49:
                say(f"{number + 1}/{kills} kills, {writer.record.clean} clean, {dict(writer.record.found)}")
        record = writer.record
    for problem in record.problems:
        say(f"PROBLEM: {problem}")
    store = EpisodeStore.open(root / "killed")
    assert store.verify() == []
    return {
        "kills": record.kills,
        "kills_clean": record.clean,
        "max_steps_lost": record.max_steps_lost,
        "kill_states": dict(Counter(record.found).most_common()),
        "kill_episodes": len(store.ids()),
    }


def say(text: str) -> None:
    """Progress, beside the result."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> None:
    """Measure everything and print the JSON line."""
    options = {"kills": "1000", "episodes": "10", "folder": "", "windows": "1"}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options:
            raise SystemExit(f"unknown argument '{key}', valid: {', '.join(options)}")
        options[key] = value
    with tempfile.TemporaryDirectory(dir=options["folder"] or None) as folder:
        root = Path(folder)
        result = measure_recording(root, int(options["episodes"]))
        result |= measure_opening(root)
        result |= measure_kills(root, int(options["kills"]))
        if int(options["windows"]):
            from tests.benchmarks.episode_windows import measure_windows

            say("windows")
            result |= measure_windows(root / "windows")
    print(json.dumps({key: round(v, 4) if isinstance(v, float) else v for key, v in result.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
