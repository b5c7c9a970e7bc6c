"""An actor in a process of its own judges and drops episodes of the running session; the learner's replay follows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot_rl.data.replay import ReplaySampler
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.online_training import OnlineTraining
from robot_rl.transport.learner import ZmqLearner
from tests.learning.test_online_training import SPEC, make_learner, make_training

ROOT = Path(__file__).parents[2]


def follow(training: OnlineTraining, link: ZmqLearner, condition: Callable[[], bool]) -> None:
    """Take in what arrives until the condition holds."""
    for _ in range(600):
        training._take_in()
        if condition():
            return
        link.wait(0.2)
    raise AssertionError("it never came")


def drawn(sampler: ReplaySampler) -> dict[str, list[tuple[float, float]]]:
    """Reward and bootstrap of the transitions, by episode."""
    batch = sampler.gather(np.arange(len(sampler)))
    found: dict[str, list[tuple[float, float]]] = {}
    for episode, reward, bootstrap in zip(batch["episode"], batch["reward"], batch["bootstrap"], strict=True):
        found.setdefault(sampler.episodes[episode], []).append((float(reward), float(bootstrap)))
    return found


def test_a_discarded_episode_is_drawn_no_more_and_a_relabelled_one_has_another_end(tmp_path: Path) -> None:
    arriving = EpisodeStore.create(tmp_path / "session", spec=SPEC)
    with ZmqLearner(arriving, "tcp://127.0.0.1:0") as link:
        store = EpisodeStore.open(tmp_path / "session", recover=False)
        training = make_training(store, tmp_path / "run", make_learner(), link)
        sampler = training.replay.online.committed
        command = [sys.executable, "-m", "tests.processes.annotating_actor", str(tmp_path / "actor"), link.address]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=os.environ) as actor:
            assert actor.stdin is not None and actor.stdout is not None
            dropped, judged, left = (actor.stdout.readline().strip() for _ in range(3))
            follow(training, link, lambda: len(sampler) == 12)
            truncated = [(0.0, 0.5)] * 4
            assert drawn(sampler) == {dropped: truncated, judged: truncated, left: truncated}
            actor.stdin.write(f"{dropped} deleted\n{judged} success\n")
            actor.stdin.flush()
            follow(training, link, lambda: len(sampler) == 8 and drawn(sampler)[judged] != truncated)
            assert drawn(sampler) == {judged: [*truncated[:3], (1.0, 0.0)], left: truncated}
            assert training.steps == 12  # all of them were received
            actor.communicate(timeout=100)
        assert actor.returncode == 0
        training.run.close()
