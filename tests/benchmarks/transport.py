"""Shipping of recorded steps: how many per second, how large, and what it costs the control loop.

Run: python -m tests.benchmarks.transport [key=value ...], with rounds=12, segment_s=10, rate_hz=100 (of the loop),
episodes=20 (of 500 steps, for the throughput), repeats=3.
Rows: proprio 18, action 7; image rows add 2 cameras of 128 px whose JPEG bytes (quality 95, 4:4:4) travel as recorded.

The last line is one JSON object:
  state_steps_per_s, image_steps_per_s  from the journals of an actor to committed, verified, durable episodes of a
                           learner in another process (medians; a restarted actor ships what it had recorded before)
  durable_image_steps_per_s  the same until the learner has acknowledged all of it as durable, not yet as episodes
  bytes_per_image_step, bytes_per_state_step  on the wire: the journal's own bytes, headers included
  loop_p999_ms_shipping, loop_p999_ms_learner_dead, loop_p999_ms_learner_restart
                           p99.9 of the loop's lateness (a tick's work done after its due time) minus that of the same
                           loop without transport; segments of all four alternate in random order, the learner's process
                           runs beside all but "dead"; in "restart" it is killed and started again in mid-segment
  loop_p999_ms_none        p99.9 of the loop without transport; loop_max_ms_<arm>: the maxima; ticks: of each arm
"""

from __future__ import annotations

import json
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.frame_encoding import encode_frame
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import RecordingOverflowError
from robot_rl.runtime.priority import run_first
from robot_rl.transport.actor import ZmqActor
from robot_rl.transport.learner import ZmqLearner
from robot_rl.types import Array, CameraSpec, EnvSpec, EpisodeEnd, Frame, StepRow
from tests.benchmarks.episode_store import synthetic_images
from tests.data.recorded_rows import make_row, make_spec

STEPS = 500
ARMS = ("none", "shipping", "learner_dead", "learner_restart")
STATE = make_spec({}, proprio=18, action=7)
IMAGES = make_spec({name: CameraSpec(128, 128, 50.0) for name in ("front", "wrist")}, proprio=18, action=7)


def jpeg_frames(spec: EnvSpec) -> dict[str, list[bytes]]:
    """Encoded images by camera."""
    found: dict[str, list[bytes]] = {}
    for seed, (name, camera) in enumerate(spec.cameras.items()):
        images = synthetic_images(camera.height, camera.width, seed)
        raw = [Frame(image.tobytes(), 0, 0, camera.height, camera.width, 3, "raw") for image in images]
        found[name] = [bytes(encode_frame(frame, "jpeg")) for frame in raw]
    return found


def image_rows(spec: EnvSpec, count: int, frames: dict[str, list[bytes]]) -> list[StepRow]:
    """Rows of one episode, the last an observation."""
    plain = make_spec({}, proprio=18, action=7)
    rows = []
    for t in range(count):
        row = make_row(plain, 0, t, final=t == count - 1)
        stamp = row.observation.stamp_ns - 5
        row.observation.frames.update(  # type: ignore[attr-defined]
            {name: Frame(data[t % len(data)], stamp, t, 128, 128, 3, "jpeg") for name, data in frames.items()}
        )
        rows.append(row)
    return rows


def record(store: EpisodeStore, spec: EnvSpec, rows: list[StepRow]) -> None:
    """One episode, as fast as the disk takes it."""
    with store.begin(spec, ring_steps=4096) as writer:
        for row in rows:
            while True:
                try:
                    writer.append(row)
                    break
                except RecordingOverflowError:
                    time.sleep(0.001)
        writer.end(EpisodeEnd("time_limit", None, len(rows) - 1))


class Learner:
    """A learner in a process of its own that takes in what comes and publishes 1 MB of weights per second."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, wait: bool = True) -> None:
        """Start it where it does not run."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.benchmarks.transport", "learner", str(self.root), self.address]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            if wait:
                assert self._process.stdout is not None and self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.communicate()
            self._process = None


def learn(root: Path, address: str) -> None:
    """The learner's process."""
    version, tensors = int(time.time()), {"w": np.zeros(250_000, np.float32)}
    with ZmqLearner(EpisodeStore.open_or_create(root), address) as link:
        print("ready", flush=True)
        while True:
            link.arrivals()
            version += 1
            link.publish(version, tensors)
            time.sleep(1.0)


def measure_throughput(root: Path, spec: EnvSpec, rows: list[StepRow], episodes: int) -> dict[str, float]:
    """Steps per second from the actor's journals to the learner's store."""
    store = EpisodeStore.create(root / "actor", spec=spec)
    (store.root / "outbox").mkdir()
    for _ in range(episodes):
        record(store, spec, rows)
    journals = sum(path.stat().st_size for path in (store.root / "outbox").iterdir())
    steps = episodes * (len(rows) - 1)
    learner = Learner(root / "session")
    learner.start()
    try:
        began = time.perf_counter()
        durable = 0.0
        with ZmqActor(store.root, learner.address) as link:
            while not link.flush(0.05):
                if not durable and link.status().version and link.status().lag_bytes == 0:
                    durable = time.perf_counter() - began
        seconds = time.perf_counter() - began
    finally:
        learner.kill()
    assert len(EpisodeStore.open(root / "session").ids()) == episodes
    return {"steps_per_s": steps / seconds, "durable": steps / (durable or seconds), "bytes": journals / steps}


def measure_loop(root: Path, options: dict[str, int], rows: list[StepRow]) -> dict[str, Any]:
    """Lateness of a loop that records, with and without transport."""
    random, late = np.random.default_rng(0), {arm: [np.empty(0)] for arm in ARMS}
    learner = Learner(root / "session")
    for number in range(options["rounds"]):
        for arm in random.permutation(ARMS):
            if arm == "learner_dead":
                learner.kill()
            else:
                learner.start()
            store = EpisodeStore.create(root / f"{number}-{arm}", spec=IMAGES)
            link = None if arm == "none" else ZmqActor(store.root, learner.address)
            restart = learner if arm == "learner_restart" else None
            late[arm].append(run_loop(store, link, rows, options["rate_hz"], restart))
            if link is not None:
                link.close()
        print(f"[{time.strftime('%H:%M:%S')}] round {number + 1}", file=sys.stderr, flush=True)
    learner.kill()
    joined = {arm: np.concatenate(parts) for arm, parts in late.items()}
    p999 = {arm: float(np.percentile(values, 99.9)) for arm, values in joined.items()}
    result: dict[str, Any] = {f"loop_p999_ms_{arm}": p999[arm] - p999["none"] for arm in ARMS[1:]}
    result |= {"loop_p999_ms_none": p999["none"], "ticks": len(joined["none"])}
    return result | {f"loop_max_ms_{arm}": float(values.max()) for arm, values in joined.items()}


def run_loop(
    store: EpisodeStore, link: ZmqActor | None, rows: list[StepRow], rate_hz: int, restart: Learner | None
) -> Array:
    """How late [ms] the work of each tick was done."""
    late, period = np.zeros(len(rows)), 1.0 / rate_hz
    with store.begin(IMAGES) as writer:
        run_first()  # as an actor whose arm keeps time does; the threads of the recording began before
        began = time.perf_counter()
        for t, row in enumerate(rows):
            due = began + t * period
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            writer.append(row)
            if link is not None:
                link.latest()
                link.signals()
            late[t] = 1e3 * (time.perf_counter() - due)
            if restart is not None and t == len(rows) // 4:
                restart.kill()
                began = time.perf_counter() - t * period  # the bystander's own work is not the loop's
            if restart is not None and t == len(rows) // 2:
                restart.start(wait=False)
                began = time.perf_counter() - t * period
        writer.end(EpisodeEnd("time_limit", None, len(rows) - 1))
    return late


def main(arguments: list[str]) -> None:
    """Measure everything and print the JSON line."""
    if arguments[:1] == ["learner"]:
        learn(Path(arguments[1]), arguments[2])
    options = {"rounds": 12, "segment_s": 10, "rate_hz": 100, "episodes": 20, "repeats": 3}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options:
            raise SystemExit(f"unknown argument '{key}', valid: {', '.join(options)}")
        options[key] = int(value)
    frames = jpeg_frames(IMAGES)
    found: dict[str, list[dict[str, float]]] = {"state": [], "image": []}
    for _ in range(options["repeats"]):
        for name, spec in (("state", STATE), ("image", IMAGES)):
            rows = image_rows(spec, STEPS + 1, frames if spec is IMAGES else {})
            with tempfile.TemporaryDirectory() as folder:
                found[name].append(measure_throughput(Path(folder), spec, rows, options["episodes"]))
            print(f"[{time.strftime('%H:%M:%S')}] {name} {found[name][-1]}", file=sys.stderr, flush=True)
    result: dict[str, Any] = {
        f"{name}_steps_per_s": statistics.median(run["steps_per_s"] for run in runs) for name, runs in found.items()
    }
    result["durable_image_steps_per_s"] = statistics.median(run["durable"] for run in found["image"])
    result |= {f"bytes_per_{name}_step": runs[0]["bytes"] for name, runs in found.items()}
    with tempfile.TemporaryDirectory() as folder:
        rows = image_rows(IMAGES, options["segment_s"] * options["rate_hz"], frames)
        result |= measure_loop(Path(folder), options, rows)
    print(json.dumps({key: round(v, 3) if isinstance(v, float) else v for key, v in result.items()}))


if __name__ == "__main__":
    main(sys.argv[1:])
