"""Actor and learner as processes of their own, over real sockets, the learner killed and resumed in between."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, read_manifest
from robot_rl.learning.training_run import read_rows
from tests.processes.robot_rl_processes import ARM, LEARNING, recorded, running, wait_for

STEPS = 400
LEARNER = [*LEARNING, "name=run", f"steps={STEPS}", "log_every=50", "checkpoint_every=50", "publish_every=2"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return recorded(tmp_path)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_a_learner_that_is_killed_goes_on_and_every_step_arrives_once(root: Path) -> None:
    run, where = root / "runs" / "run", [f"root={root}", f"address={free_address()}"]
    said = root / "said.txt"
    with running("actor", *ARM, *where, "wait_s=200", said=said) as actor:
        with running("learner", *LEARNER, *where, said=said) as learner:
            wait_for(lambda: (run / "checkpoints" / "latest").exists(), actor, learner)
            learner.send_signal(signal.SIGKILL)
            learner.wait()
        killed_at = read_manifest(find_checkpoint(run))["step"]
        assert killed_at < STEPS
        with running("learner", *LEARNER, *where, "resume=true", said=said) as learner:
            assert learner.wait(timeout=200) == 0
            # the learner's stop ends the actor, if it was heard before the learner had gone
            actor.send_signal(signal.SIGINT)
            assert actor.wait(timeout=60) in (0, 130)

    manifest = read_manifest(find_checkpoint(run))
    assert manifest["step"] >= STEPS
    # one per step, in pairs, made up for after the kill; what came while the last checkpoint was written is not in it
    assert manifest["updates"] == manifest["step"] // 2 * 2
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
