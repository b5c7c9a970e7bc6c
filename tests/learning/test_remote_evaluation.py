"""Evaluation by actors, the learner's side: asked for once, scored once per seed, logged, the best one kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.interfaces import Weights
from robot_rl.learning import remote_evaluation
from robot_rl.learning.checkpoint import find_checkpoint, read_manifest
from robot_rl.learning.evaluations import Evaluations
from robot_rl.learning.online_training import OnlineTraining
from robot_rl.learning.remote_evaluation import RemoteEvaluation
from robot_rl.learning.service import LearnerService
from robot_rl.learning.training_run import TrainingRun, read_rows
from robot_rl.transport.local import LocalTransport
from robot_rl.transport.signals import EVALUATE, NO_EVALUATION, PAUSE, SCORE, STOP
from tests.learning.test_online_training import SPEC, make_learner, make_training, record

SEEDS = range(200_000, 200_003)


class Side:
    """The learner's side and the end of its transport at which an actor would be."""

    def __init__(self, root: Path, every: int, stop_success: float | None = None) -> None:
        self.store = EpisodeStore.create(root / "session", spec=SPEC)
        self.transport = LocalTransport(self.store)
        self.training: OnlineTraining = make_training(self.store, root / "run", make_learner(), self.transport)
        self.evaluation = RemoteEvaluation(
            self.training, Evaluations(self.training.run, every, stop_success), SEEDS, tell=lambda text: None
        )

    def round(self, steps: int = 0) -> None:
        """What the service does in one: with ``steps`` more received."""
        if self.transport.latest() is None:
            self.training.replay.refresh()
            self.training.publish()
        if steps:
            record(self.store, steps)
        self.training.work()
        self.evaluation.advance()

    def asked(self) -> str:
        """Id of the evaluation that was asked for last."""
        return next(s.payload["id"] for s in reversed(self.transport.signals()) if s.kind == EVALUATE)

    def score(self, id: str, seed: int, success: bool) -> None:
        self.transport.report(SCORE, {"id": id, "seed": seed, "success": success, "length": 7})

    def latest(self) -> Weights:
        weights = self.transport.latest()
        assert weights is not None
        return weights


def test_the_weights_stand_still_until_every_seed_is_scored_and_the_best_is_kept(tmp_path: Path) -> None:
    side = Side(tmp_path, every=6)
    side.round(steps=6)
    (over, asked) = [s for s in side.transport.signals() if s.kind == EVALUATE]
    assert over.payload == {"id": NO_EVALUATION}
    id = asked.payload["id"]
    assert asked.payload == {"id": id, "version": 12, "first_seed": 200_000, "episodes": 3}
    side.round(steps=3)  # it goes on learning, also past the next multiple
    assert side.training.ratio.updates == 18
    assert side.latest().version == 12
    for told in ((id, 200_000, True), (id, 200_000, False), ("another", 200_001, True), (id, 7, True)):
        side.score(*told)
    side.transport.report("other", {"id": id, "seed": 200_001, "success": True, "length": 7})
    side.transport.report(SCORE, {"id": id, "seed": 200_001, "success": 1, "length": "long"})
    side.round()
    assert side.evaluation.running
    side.score(id, 200_001, False)
    side.score(id, 200_002, True)
    side.round()
    assert side.asked() == NO_EVALUATION
    assert side.latest().version == 18
    (row,) = read_rows(tmp_path / "run" / "evaluations.jsonl")
    assert (row["step"], row["success"], row["episodes"], row["mean_length"]) == (6, pytest.approx(2 / 3), 3, 7.0)
    assert (row["version"], row["robot_minutes"]) == (12, 6 / SPEC.step_rate_hz / 60)
    best = read_manifest(find_checkpoint(tmp_path / "run" / "checkpoints" / "best"))
    assert (best["step"], best["updates"]) == (6, 12)
    for _ in range(4):  # more checkpoints than stay
        side.round(steps=1)
        side.training.save({})
    assert find_checkpoint(tmp_path / "run" / "checkpoints" / "best").exists()
    side.training.run.close()


def test_a_worse_one_does_not_become_the_best_and_stays_only_meanwhile(tmp_path: Path) -> None:
    side = Side(tmp_path, every=4)
    for success in (True, False):
        side.round(steps=4)
        id = side.asked()
        for seed in SEEDS:
            side.score(id, seed, success)
        for _ in range(3):
            side.training.save({"more": len(list((tmp_path / "run" / "checkpoints").iterdir()))})
        assert side.training.run.candidate is not None and side.training.run.candidate.exists()
        side.round()
    assert read_manifest(find_checkpoint(tmp_path / "run" / "checkpoints" / "best"))["step"] == 4
    assert [row["success"] for row in read_rows(tmp_path / "run" / "evaluations.jsonl")] == [1.0, 0.0]
    side.training.run.close()


def test_one_that_nobody_makes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side(tmp_path, every=4)
    side.round(steps=4)
    assert side.evaluation.running
    monkeypatch.setattr(remote_evaluation, "PATIENCE_S", 0.0)
    side.round(steps=1)
    assert not side.evaluation.running
    assert side.latest().version == side.training.ratio.updates
    side.training.run.close()


def test_a_learner_that_was_killed_in_it_asks_anew(tmp_path: Path) -> None:
    side = Side(tmp_path, every=4)
    side.round(steps=4)
    id = side.asked()
    side.training.run.close()
    side.transport = LocalTransport(side.store)
    training = make_training(side.store, tmp_path / "other", make_learner(), side.transport)
    training.run = TrainingRun(tmp_path / "run", resume=True)
    training.resume()
    assert training.ratio.updates == 8  # the checkpoint that is being evaluated
    evaluation = RemoteEvaluation(training, Evaluations(training.run, 4), SEEDS)
    training.replay.refresh()
    training.work()
    evaluation.advance()
    assert evaluation.running
    assert side.asked() not in (id, NO_EVALUATION)
    training.run.close()


def test_the_service_waits_at_its_end_for_the_evaluation_while_actors_pause(tmp_path: Path) -> None:
    side = Side(tmp_path, every=6)
    record(side.store, 6)
    heard: list[str] = []

    def act(steps: int) -> None:
        """What an actor would do."""
        for signal in side.transport.signals():
            heard.append(signal.kind)
            if signal.kind == EVALUATE and signal.payload["id"] != NO_EVALUATION:
                for seed in SEEDS:
                    side.score(signal.payload["id"], seed, success=True)

    LearnerService(side.training, steps=6, evaluation=side.evaluation, on_wait=act).run()
    heard += [signal.kind for signal in side.transport.signals()]
    assert heard == [EVALUATE, EVALUATE, PAUSE, EVALUATE, STOP]
    assert read_rows(tmp_path / "run" / "evaluations.jsonl")[-1]["success"] == 1.0


def test_enough_is_three_pooled_of_150_episodes(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path / "run")
    evaluations = Evaluations(run, 10, stop_success=0.9)
    for step, success in ((10, 1.0), (20, 0.8), (30, 0.85), (40, 1.0), (50, 0.9)):
        assert evaluations.due(step) and not evaluations.due(step - 1)
        evaluations.log(step, {"score": success, "success": success, "episodes": 50})
        assert evaluations.enough() == (step == 50)  # 0.883 after 30 and 40, then 0.917
    assert Evaluations(run, 10, stop_success=0.9).enough()
    assert not Evaluations(run, 10, stop_success=None).enough()
    assert not Evaluations(run, 0).due(1000)
    run.close()
