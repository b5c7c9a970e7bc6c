"""Actor and learner as processes of their own, over real sockets, the learner killed and resumed in between."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, read_manifest
from robot_rl.learning.training_run import read_rows

ARM = ["task=lift", "robot=fake", "robot.objects=[cube]", "env.max_steps=20"]
STEPS = 400
LEARNER = [
    "demos=lift", "name=run", f"steps={STEPS}", "batch=16", "start=40", "update_ratio=1", "lowest_ratio=1",
    "policy.hidden=[16]", "algorithm.critic.hidden=[16]", "log_every=50", "checkpoint_every=50", "publish_every=2",
]  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    assert main(["record", *ARM, "episodes=2", "keep_failures=true", f"root={tmp_path}"]) == 0
    return tmp_path


@contextmanager
def running(*words: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(Path(sys.executable).with_name("robot-rl")), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 200
    while not condition():
        assert all(process.poll() is None for process in processes), "a process has ended"
        assert time.monotonic() < until
        time.sleep(0.005)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_a_learner_that_is_killed_goes_on_and_every_step_arrives_once(root: Path) -> None:
    run, where = root / "runs" / "run", [f"root={root}", f"address={free_address()}"]
    with running("actor", *ARM, *where, "wait_s=200") as actor:
        with running("learner", *LEARNER, *where) as learner:
            wait_for(lambda: (run / "checkpoints" / "latest").exists(), actor, learner)
            learner.send_signal(signal.SIGKILL)
            learner.wait()
        killed_at = read_manifest(find_checkpoint(run))["step"]
        assert killed_at < STEPS
        with running("learner", *LEARNER, *where, "resume=true") as learner:
            assert learner.wait(timeout=200) == 0
            # the learner's stop ends the actor, if it was heard before the learner had gone
            actor.send_signal(signal.SIGINT)
            assert actor.wait(timeout=60) in (0, 130)

    manifest = read_manifest(find_checkpoint(run))
    assert manifest["step"] >= STEPS
    # one per step, in pairs, made up for after the kill; the actor ran on while the last checkpoint was written
    assert STEPS <= manifest["updates"] <= manifest["step"]
    assert manifest["updates"] % 2 == 0
    assert load_checkpoint(run).spec.action.size == 4
    metrics = read_rows(run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == sorted({row["step"] for row in metrics})
    store = EpisodeStore.open(run / "store")
    seeds = [info.metadata["seed"] for info in store.infos()]
    assert seeds == list(range(1000, 1000 + len(seeds)))  # every episode once, in order
    episodes = [store.read(id) for id in store.ids()]
    versions = np.concatenate([episode.arrays["policy/version"][:-1] for episode in episodes])
    assert len(set(versions.tolist())) > 3  # weights went out
    assert all(episode.steps == 20 for episode in episodes[:-1])
