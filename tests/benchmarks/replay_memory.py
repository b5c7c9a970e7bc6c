"""Memory that replay of camera frames takes: demonstrations and a session's steps, seen by both views of RLPD.

    python -m tests.benchmarks.replay_memory [folder]

Ten episodes of 100 steps for either, two cameras of 128 x 128, one state of 18 and actions of 7; every transition is
drawn about once from each view. Counted is what the process holds more than before (Pss of /proc/self/smaps_rollup:
pages that are mapped twice count once), less what it holds more for one episode of either: the room for batches does
not grow with the steps. The last line is JSON:
    memory_mb_per_1000_steps    of everything: decoded frames, JPEG, columns, indices
    anonymous_mb_per_1000_steps of it that no file stands behind
    frame_mb_per_1000_steps     the bytes of two decoded frames a step: where the total is near it, none is kept twice
    cache_mb_per_1000_steps     of the frame caches on disk
    fixed_mb                    what replay of one episode holds, mostly room for a batch of each view
    steps                       control steps in both stores
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.frame_encoding import encode_frame
from robot_rl.data.frames import ImageOptions
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.online_training import OnlineReplay
from robot_rl.types import Frame, ReplayView
from tests.benchmarks.episode_windows import synthetic_frames

EPISODES, STEPS, CAMERAS, SIDE = 10, 100, ("left", "right"), 128
VIEW = ReplayView(observation=("obs/state", *(f"images/{name}" for name in CAMERAS)))


def main(folder: Path) -> dict[str, float]:
    warm = make_store(folder / "warm", 1)
    draw_all(warm, warm, 1)  # what is loaded once is not the replay's
    demonstrations, session = (make_store(folder / name, EPISODES) for name in ("demonstrations", "session"))
    one = make_store(folder / "one", 1)
    empty = held_mb()
    replay = draw_all(one, one, 1)
    before = held_mb()
    del replay
    replay = draw_all(session, demonstrations, EPISODES)
    after = held_mb()
    assert len(replay.unions) == 2
    steps = 2 * EPISODES * STEPS - STEPS  # of the one episode, whose cache both of its views share
    caches = sum(path.stat().st_size for store in (demonstrations, session) for path in store.root.rglob("frames.u8"))
    return {
        "memory_mb_per_1000_steps": round((after["Pss"] - before["Pss"]) / steps * 1000, 1),
        "anonymous_mb_per_1000_steps": round((after["Pss_Anon"] - before["Pss_Anon"]) / steps * 1000, 1),
        "frame_mb_per_1000_steps": round(len(CAMERAS) * SIDE * SIDE * 3 / 1e3, 1),
        "cache_mb_per_1000_steps": round(caches / 1e6 / (2 * EPISODES * STEPS) * 1000, 1),
        "fixed_mb": round(before["Pss"] - empty["Pss"], 1),
        "steps": 2 * EPISODES * STEPS,
    }


def make_store(folder: Path, episodes: int) -> EpisodeStore:
    """Episodes of STEPS steps with two cameras."""
    store = EpisodeStore.create(folder)
    for index in range(episodes):
        store.write(make_episode(np.random.default_rng(index)))
    return store


def make_episode(generator: np.random.Generator) -> Episode:
    """Drawn pictures, random states and actions."""
    rows = STEPS + 1
    arrays = {
        "obs/state": generator.normal(size=(rows, 18)).astype(np.float32),
        "action/commanded": generator.normal(size=(rows, 7)).astype(np.float32),
        "action_valid": np.arange(rows) < STEPS,
        "time/t_ns": np.arange(rows, dtype=np.int64),
        "rl/reward": np.zeros(rows, dtype=np.float32),
        "rl/terminated": np.zeros(rows, dtype=bool),
        "rl/truncated": np.zeros(rows, dtype=bool),
    }
    tracks = {}
    for name in CAMERAS:
        frames = synthetic_frames(generator, SIDE, SIDE, rows)
        raw = [Frame(image.tobytes(), i, i, SIDE, SIDE, codec="raw") for i, image in enumerate(frames)]
        encoded = [encode_frame(frame, "jpeg") for frame in raw]
        offset = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        data, stamps = np.frombuffer(b"".join(encoded), np.uint8), np.arange(rows)
        tracks[name] = CameraTrack(data, offset, stamps, stamps.astype(np.int32), SIDE, SIDE)
    return Episode("", arrays, {}, tracks)


def draw_all(session: EpisodeStore, demonstrations: EpisodeStore, episodes: int) -> OnlineReplay:
    """Replay of both, of which about every transition was drawn."""
    views = {"online": VIEW, "demonstrations": VIEW}
    replay = OnlineReplay(views, session, demonstrations, batch=128, images=ImageOptions(threads=1))
    replay.refresh()
    for step in range(2 * episodes * STEPS // 128 + 1):
        replay.batches(step, 1)
    gc.collect()
    return replay


def held_mb() -> dict[str, float]:
    """What this process holds in memory, MB by kind; what is free is given back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6 for line in lines}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(main(Path(sys.argv[1]))))
    else:
        with tempfile.TemporaryDirectory() as place:
            print(json.dumps(main(Path(place))))
