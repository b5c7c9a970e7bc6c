"""The learner's loop: all updates that the received steps are worth, actors paused while it is far behind, resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, load_training_state, read_manifest
from robot_rl.learning.service import LearnerService
from robot_rl.learning.training_run import TrainingRun
from robot_rl.learning.update_ratio import UpdateRatio
from robot_rl.transport.local import LocalTransport
from robot_rl.transport.signals import GO_ON, PAUSE
from tests.learning.test_online_training import SPEC, make_learner, make_training, record


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / "session", spec=SPEC)


def test_it_learns_what_has_arrived_pauses_actors_meanwhile_and_stops_them_at_the_end(
    store: EpisodeStore, tmp_path: Path
) -> None:
    record(store, 12)
    transport = LocalTransport(store)
    training = make_training(store, tmp_path / "run", make_learner(), transport)
    training.ratio = UpdateRatio(2.0, 2.0, slack=0)
    LearnerService(training, steps=12).run()
    # 24 updates are owed, 16 are made at a time
    assert [signal.kind for signal in transport.signals()] == [PAUSE, GO_ON, "stop"]
    manifest = read_manifest(find_checkpoint(tmp_path / "run"))
    assert (manifest["step"], manifest["updates"]) == (12, 24)
    weights = transport.latest()
    assert weights is not None
    assert weights.version == 24
    assert weights.meta["policy"]["hidden"] == [8]


def test_a_starved_learner_waits_and_an_interrupted_one_saves(store: EpisodeStore, tmp_path: Path) -> None:
    record(store, 6)
    waited: list[int] = []

    def interrupt(steps: int) -> None:
        waited.append(steps)
        if len(waited) == 3:
            raise KeyboardInterrupt

    training = make_training(store, tmp_path / "run", make_learner(), LocalTransport(store))
    with pytest.raises(KeyboardInterrupt):
        LearnerService(training, steps=100, on_wait=interrupt).run()
    assert waited == [6, 6, 6]
    assert read_manifest(find_checkpoint(tmp_path / "run"))["updates"] == 12


def test_what_arrived_while_it_was_away_is_made_up_for(store: EpisodeStore, tmp_path: Path) -> None:
    """As one that was there all the time: the same updates on the same rows are not claimed, their number is."""
    record(store, 6)
    LearnerService(make_training(store, tmp_path / "run", make_learner(), LocalTransport(store)), steps=6).run()
    record(store, 6)
    learner = make_learner()
    training = make_training(store, tmp_path / "other", learner, LocalTransport(store))
    training.run = TrainingRun(tmp_path / "run", resume=True)
    service = LearnerService(training, steps=12)
    assert service.resume() == 6
    state, _ = load_training_state(tmp_path / "run")
    assert all(torch.equal(value, state[name]) for name, value in learner.state_dict().items())
    service.run()
    assert read_manifest(find_checkpoint(tmp_path / "run"))["updates"] == 24


def test_what_was_discarded_counts_after_a_restart_too(store: EpisodeStore, tmp_path: Path) -> None:
    """It was received, and the updates that it was worth were made."""
    first, transport = record(store, 6), LocalTransport(store)
    record(store, 4)
    training = make_training(store, tmp_path / "run", make_learner(), transport)
    training.replay.refresh()
    assert training.work() == 20
    transport.annotate(first.id, {"deleted": True})
    assert training.work() == 0
    assert training.steps == 10
    training.run.close()
    again = make_training(store, tmp_path / "again", make_learner(), LocalTransport(store))
    again.replay.refresh()
    assert again.steps == 10
    assert len(again.replay.online.committed) == 4
    again.run.close()


def test_a_checkpoint_of_the_same_step_with_more_updates_is_another_one(store: EpisodeStore, tmp_path: Path) -> None:
    """The newest one is resumed from; saved twice, one state is one checkpoint."""
    record(store, 12)
    training = make_training(store, tmp_path / "run", make_learner(), LocalTransport(store))
    training.replay.refresh()
    names = []
    for most in (16, 16, 0):
        training.work(most)
        names.append(training.save({}).name)
    assert names == ["step_00000012", "step_00000012.1", "step_00000012.1"]
    manifest = read_manifest(find_checkpoint(tmp_path / "run"))
    assert (manifest["step"], manifest["updates"]) == (12, 24)
    training.run.close()


def test_a_long_catching_up_is_saved_on_the_way(store: EpisodeStore, tmp_path: Path) -> None:
    """30 steps have come at once: 60 updates, 16 at a time; a checkpoint after as many as 10 steps are worth."""
    record(store, 30)
    training = make_training(store, tmp_path / "run", make_learner(), LocalTransport(store))
    training.run.keep = 100
    LearnerService(training, steps=30, checkpoint_every=10).run()
    saved = [read_manifest(folder)["updates"] for folder in sorted((tmp_path / "run" / "checkpoints").glob("step_*"))]
    assert saved == [16, 48, 60]
