"""robot-rl session mode=processes as a user runs it: killed ends come back, the parent's end is everybody's end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, load_training_state, read_manifest
from robot_rl.learning.training_run import read_rows
from tests.processes.robot_rl_processes import ARM, LEARNING, WAIT_S, alive, children, recorded, running, wait_for

pytestmark = pytest.mark.timeout(3 * WAIT_S)  # only bounds a hang: several processes start, one after another
SESSION = [
    "session", "mode=processes", *ARM, *LEARNING, "log_every=20", "checkpoint_every=40", "publish_every=2",
    "evaluate_every=0", "restarts=4",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded(tmp_path_factory.mktemp("root"))


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """Where the session's words go."""
    return tmp_path / "said.txt"


def child_of(session: int, name: str) -> int | None:
    """Number of the process that is the session's ``name`` at present."""
    found = [pid for pid, words in children(session).items() if "robot_rl.apps.session_end" in words and name in words]
    return found[0] if found else None


def has_steps(run: Path, more_than: int) -> Callable[[], bool]:
    """Whether there is a checkpoint of more steps."""
    return lambda: (run / "checkpoints" / "latest").exists() and read_manifest(find_checkpoint(run))["step"] > more_than


def test_actor_and_learner_are_killed_and_the_session_goes_on_to_its_end(root: Path, said: Path) -> None:
    run = root / "runs" / "killed"
    words = ["name=killed", "steps=600", "evaluate_every=300", "evaluate_episodes=3"]
    with running(*SESSION, f"root={root}", *words, said=said) as it:
        steps = 0
        for name in ("actor", "learner"):
            wait_for(has_steps(run, steps), it)
            killed = child_of(it.pid, name)
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda name=name, killed=killed: child_of(it.pid, name) not in (None, killed), it)
            steps = read_manifest(find_checkpoint(run))["step"]
        assert it.wait(timeout=WAIT_S) == 0
    assert said.read_text().count("SIGKILL) and is started again") == 2
    manifest = read_manifest(find_checkpoint(run))
    assert manifest["step"] >= 600
    assert manifest["updates"] == manifest["step"] // 2 * 2
    evaluations = read_rows(run / "evaluations.jsonl")
    assert evaluations[-1]["step"] >= 600
    assert all(row["episodes"] == 3 for row in evaluations)
    best = read_manifest(find_checkpoint(run / "checkpoints" / "best"))
    assert best["step"] == evaluations[0]["step"]  # all alike here, and the first stays
    store = EpisodeStore.open(run / "store")
    seeds = [info.metadata["seed"] for info in store.infos()]
    assert len(set(seeds)) == len(seeds)  # no episode twice
    assert all(seed < 200_000 for seed in seeds)  # evaluations are not learnt from
    assert list((run / "actor" / "episodes").iterdir()) == []  # the learner has them


def test_nobody_outlives_a_killed_session_and_a_resumed_one_saves_when_it_is_interrupted(
    root: Path, said: Path
) -> None:
    run = root / "runs" / "stopped"
    words = [*SESSION, f"root={root}", "name=stopped", "steps=100000"]
    with running(*words, said=said) as it:
        wait_for(has_steps(run, 0), it)
        before = read_manifest(find_checkpoint(run))["step"]
        ends = list(children(it.pid))
        assert len(ends) == 2
        it.send_signal(signal.SIGKILL)
        it.wait()
        wait_for(lambda: not any(map(alive, ends)))
    saved = read_manifest(find_checkpoint(run))
    assert saved["step"] >= before  # the learner saved what it had
    with running(*words, "resume=true", said=said) as it:
        wait_for(has_steps(run, saved["step"]), it)
        ends = list(children(it.pid))
        it.send_signal(signal.SIGINT)
        assert it.wait(timeout=WAIT_S) == 130
    assert not any(map(alive, ends))
    assert f"resuming at step {saved['step']}" in said.read_text()
    manifest = read_manifest(find_checkpoint(run))
    assert manifest["updates"] > saved["updates"]
    received = sum(info.length for info in EpisodeStore.open(run / "store").infos())
    assert manifest["step"] <= received
    assert load_training_state(run)[0]


def test_a_session_that_cannot_begin_says_so(root: Path, said: Path) -> None:
    with running(*SESSION, f"root={root}", "name=wrong", "demos=lyft", said=said) as it:
        assert it.wait(timeout=WAIT_S) == 2
    assert "Did you mean 'lift'" in said.read_text()
