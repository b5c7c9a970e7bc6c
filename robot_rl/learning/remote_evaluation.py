"""Evaluation by the actors, between their training episodes: a real arm is where the actor is, and there is one.

    learner: checkpoint, publish, withhold newer weights ── evaluate {id, version, seeds} ──► actors, at the next reset
    learner: all seeds scored: log, best, publish again  ◄── score {id, seed, success, ...} ── one per episode

The learner never waits: it goes on making the updates that are due. Weights that do not change meanwhile cost nothing,
since whoever evaluates would not take them. Several actors share the seeds: each starts at another place, what is
scored first counts, and all stop when the learner says that it has every score. An actor that was killed hears of the
evaluation again when it is back; a learner that was killed asks anew.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_rl.interfaces import Report
from robot_rl.learning.evaluations import Evaluations
from robot_rl.learning.online_training import OnlineTraining
from robot_rl.transport.signals import EVALUATE, NO_EVALUATION, SCORE

PATIENCE_S = 600.0  # without any score, before an evaluation is given up


@dataclass
class _Asked:
    """The evaluation under way."""

    id: str
    steps: int
    version: int
    robot_minutes: float
    checkpoint: Path
    scores: dict[int, dict[str, Any]] = field(default_factory=dict)  # by seed
    heard_s: float = field(default_factory=time.monotonic)


class RemoteEvaluation:
    """Asks the actors for an evaluation on ``seeds`` (consecutive ones) whenever one is due."""

    def __init__(
        self,
        training: OnlineTraining,
        evaluations: Evaluations,
        seeds: Sequence[int],
        *,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.evaluations = evaluations
        self._training, self._seeds, self._tell = training, list(seeds), tell
        self._asked: _Asked | None = None
        self._signal(NO_EVALUATION)  # one that an earlier learner asked for is over

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._asked is not None

    @property
    def due(self) -> bool:
        """Whether there should be one now."""
        return self.evaluations.due(self._training.steps)

    def advance(self) -> None:
        """Begin one that is due; take the scores that came; finish when all are there."""
        reports, self._training.reports = self._training.reports, []
        if self._asked is None:
            if self.due:
                self._begin()
            return
        for report in reports:
            self._take(self._asked, report)
        if len(self._asked.scores) == len(self._seeds):
            self._finish(self._asked)
        elif time.monotonic() - self._asked.heard_s > PATIENCE_S:
            self._tell(f"evaluation at step {self._asked.steps} given up: no actor evaluates")
            self._end()

    def _begin(self) -> None:
        training = self._training
        if training.version != training.ratio.updates:
            training.publish()
        training.withheld = True
        asked = _Asked(
            secrets.token_hex(6), training.steps, training.version, training.robot_minutes, training.save({})
        )
        self._asked, training.run.candidate = asked, asked.checkpoint
        self._signal(asked.id, version=asked.version, first_seed=self._seeds[0], episodes=len(self._seeds))

    def _take(self, asked: _Asked, report: Report) -> None:
        """A score of this evaluation; any other report is from before, or of another kind."""
        told = report.payload
        seed, success, length = told.get("seed"), told.get("success"), told.get("length")
        if report.kind != SCORE or told.get("id") != asked.id or seed not in self._seeds or seed in asked.scores:
            return
        if not (isinstance(success, bool) and isinstance(length, int)):
            return
        asked.scores[seed] = {"success": success, "length": length}
        asked.heard_s = time.monotonic()

    def _finish(self, asked: _Asked) -> None:
        scores, episodes = list(asked.scores.values()), len(asked.scores)
        success = sum(score["success"] for score in scores) / episodes
        metrics = {
            "score": success,
            "success": success,
            "episodes": episodes,
            "mean_length": sum(score["length"] for score in scores) / episodes,
            "robot_minutes": asked.robot_minutes,
            "version": asked.version,
        }
        self.evaluations.log(asked.steps, metrics, asked.checkpoint)
        self._tell(f"evaluation at step {asked.steps}: {success:.2f} of {episodes} episodes succeeded")
        self._end()

    def _end(self) -> None:
        training = self._training
        self._asked = training.run.candidate = None
        self._signal(NO_EVALUATION)
        training.withheld = False
        if training.version != training.ratio.updates:
            training.publish()

    def _signal(self, id: str, **payload: int) -> None:
        """Kept for actors that join later."""
        self._training.transport.signal(EVALUATE, {"id": id, **payload}, keep=True)
