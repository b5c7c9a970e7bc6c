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
from tests.processes.robot_rl_processes import ARM, LEARNING, WAIT_S, recorded, running, wait_for

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
    with running("actor", *ARM, *where, f"wait_s={WAIT_S}", said=said) as actor:
        with running("learner", *LEARNER, *where, said=said) as learner:
            wait_for(lambda: (run / "checkpoints" / "latest").exists(), actor, learner)
            learner.send_signal(signal.SIGKILL)
            learner.wait()
        killed_at = read_manifest(find_checkpoint(run))["step"]
        assert killed_at < STEPS
        with running("learner", *LEARNER, *where, "resume=true", said=said) as learner:
            assert learner.wait(timeout=WAIT_S) == 0
            # the learner's stop ends the actor, if it was heard before the learner had gone
            actor.send_signal(signal.SIGINT)
            assert actor.wait(timeout=WAIT_S) in (0, 130)

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


def test_two_actors_feed_one_learner_and_share_its_evaluation(root: Path) -> None:
    run, where = root / "runs" / "run", [f"root={root}", f"address={free_address()}"]
    asked = ["evaluate_every=200", "evaluate_episodes=6"]
    actors = [["actor", *ARM, *where, f"wait_s={WAIT_S}", f"name={name}"] for name in ("left", "right")]
    said = [root / f"{name}.txt" for name in ("left", "right", "learner")]
    with (
        running("learner", *LEARNER, *where, *asked, said=said[2]) as learner,
        running(*actors[0], "first_seed=1000", said=said[0]) as left,
        running(*actors[1], "first_seed=5000", "keep_local=true", said=said[1]) as right,
    ):
        assert learner.wait(timeout=WAIT_S) == 0
        for actor in (left, right):
            actor.send_signal(signal.SIGINT)  # in case the learner had gone before its stop was heard
            assert actor.wait(timeout=WAIT_S) in (0, 130)
    manifest = read_manifest(find_checkpoint(run))
    assert manifest["updates"] == manifest["step"] // 2 * 2
    seeds = [info.metadata["seed"] for info in EpisodeStore.open(run / "store").infos()]
    ours = [[seed for seed in seeds if low <= seed < low + 4000] for low in (1000, 5000)]
    assert all(made == list(range(made[0], made[0] + len(made))) for made in ours)  # once each, in order
    assert [made[0] for made in ours] == [1000, 5000]
    assert read_rows(run / "evaluations.jsonl")[-1]["episodes"] == 6
    assert not list((root / "actor" / "left" / "episodes").iterdir())
    assert len(list((root / "actor" / "right" / "episodes").iterdir())) >= len(ours[1])
