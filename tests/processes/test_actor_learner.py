"""Two actors and a learner as processes of their own, over real sockets, the learner killed and resumed in between."""

from __future__ import annotations

import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, read_manifest
from robot_rl.learning.training_run import read_rows
from tests.processes.robot_rl_processes import ARM, LEARNING, WAIT_S, recorded, running, wait_for

pytestmark = pytest.mark.timeout(3 * WAIT_S)  # only bounds a hang: several processes start, one after another
STEPS, EPISODE = 400, 20
LEARNER = [
    "learner", *LEARNING, "name=run", f"steps={STEPS}", "log_every=50", "checkpoint_every=50", "publish_every=2",
    "evaluate_every=200", "evaluate_episodes=6", "lowest_ratio=0.25", "update_ratio=0.25",
]  # fmt: skip
HEARD_S = 60.0  # by then an actor has ended that heard the learner's stop
FIRST_SEEDS = {"left": 1000, "right": 5000}  # of the actors


@dataclass(frozen=True)
class Finished:
    """What a session has left behind in the run folder ``run``, and in the actors' below ``root``."""

    root: Path
    run: Path
    killed_at: int  # step of the newest checkpoint

    def local(self, actor: str) -> set[str]:
        """Ids of the episodes that the actor has still."""
        return set(EpisodeStore.open(self.root / "actor" / actor, recover=False).ids())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """After a learner that was killed once and two actors, of which one keeps what it has recorded."""
    root = recorded(tmp_path_factory.mktemp("root"))
    run, where, said = root / "runs" / "run", [f"root={root}", f"address={free_address()}"], root / "said.txt"
    words = ["actor", *ARM, *where, f"wait_s={WAIT_S}"]
    with (
        running(*words, "name=left", f"first_seed={FIRST_SEEDS['left']}", said=said) as left,
        running(*words, "name=right", f"first_seed={FIRST_SEEDS['right']}", "keep_local=true", said=said) as right,
    ):
        with running(*LEARNER, *where, said=said) as learner:
            wait_for(lambda: (run / "checkpoints" / "latest").exists(), left, right, learner)
            learner.send_signal(signal.SIGKILL)
            learner.wait()
        killed_at = int(read_manifest(find_checkpoint(run))["step"])
        with running(*LEARNER, *where, "resume=true", said=said) as learner:
            assert learner.wait(timeout=WAIT_S) == 0, said.read_text()
        assert [ended(actor) in (0, 130) for actor in (left, right)] == [True, True], said.read_text()
    return Finished(root, run, killed_at)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def ended(actor: subprocess.Popen[bytes]) -> int:
    """Exit code by the learner's stop; interrupted where the learner had gone before its stop was heard."""
    try:
        return actor.wait(timeout=HEARD_S)
    except subprocess.TimeoutExpired:
        actor.send_signal(signal.SIGINT)
        return actor.wait(timeout=WAIT_S)


def test_a_learner_that_is_killed_goes_on_and_makes_up_for_all_updates(finished: Finished) -> None:
    manifest = read_manifest(find_checkpoint(finished.run))
    assert finished.killed_at < STEPS <= manifest["step"]
    # one for four steps, in pairs, made up for after the kill, in which the actors went on; what came while the last
    # checkpoint was written is not in it
    assert manifest["updates"] == manifest["step"] // 4 // 2 * 2
    assert load_checkpoint(finished.run).spec.action.size == 4
    metrics = read_rows(finished.run / "metrics.jsonl")
    assert [row["step"] for row in metrics] == sorted({row["step"] for row in metrics})


def test_every_episode_of_both_actors_arrives_once(finished: Finished) -> None:
    store = EpisodeStore.open(finished.run / "store")
    seeds = [info.metadata["seed"] for info in store.infos()]
    for first in FIRST_SEEDS.values():
        made = [seed for seed in seeds if first <= seed < first + 4000]
        assert made == list(range(first, first + len(made))) and len(made) > 1  # in order, evaluations left out
    episodes = [store.read(id) for id in store.ids()]
    assert {episode.steps for episode in episodes} == {EPISODE}
    versions = np.concatenate([episode.arrays["policy/version"][:-1] for episode in episodes])
    assert len(set(versions.tolist())) > 3  # weights went out


def test_the_actors_share_an_evaluation(finished: Finished) -> None:
    evaluations = read_rows(finished.run / "evaluations.jsonl")
    assert evaluations and all(row["episodes"] == 6 for row in evaluations)
    assert evaluations[-1]["step"] >= STEPS


def test_an_actor_drops_what_the_learner_has_unless_it_keeps_it(finished: Finished) -> None:
    arrived = set(EpisodeStore.open(finished.run / "store").ids())
    assert len(finished.local("left") & arrived) <= 1  # of the last the learner may not have been heard any more
    ours = {id for id in arrived if id in finished.local("right")}
    seeds = [info.metadata["seed"] for info in EpisodeStore.open(finished.run / "store").infos()]
    assert len(ours) == sum(seed >= FIRST_SEEDS["right"] for seed in seeds)
