"""The learner's loop where actors are processes of their own: take in, update, publish, wait when starved, save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from robot_rl.learning.offline_training import signals_held
from robot_rl.learning.online_training import OnlineTraining
from robot_rl.learning.remote_evaluation import RemoteEvaluation
from robot_rl.transport.signals import GO_ON, PAUSE, STOP

WAIT_S = 0.25  # at most, for what wakes earlier: so often an idle learner tells of itself
TELL_S = 0.5
GROUPS = 8  # made before the next look at what has arrived


class LearnerService:
    """Runs until ``steps`` control steps have been received and the updates they are worth are made.

    Args:
        training: over the store that its transport fills.
        checkpoint_every: control steps, 0 is only at the end.
        evaluation: by the actors, from time to time; the run may end early by it.
        on_round: called with the steps received now and then, after some updates or a short wait.
        on_wait: called, with the steps received, when there is nothing to do.
    """

    def __init__(
        self,
        training: OnlineTraining,
        steps: int,
        *,
        checkpoint_every: int = 2000,
        evaluation: RemoteEvaluation | None = None,
        on_round: Callable[[int], None] = lambda steps: None,
        on_wait: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self.training, self.steps, self.checkpoint_every = training, steps, checkpoint_every
        self.evaluation = evaluation
        self._on_round, self._on_wait = on_round, on_wait
        self._saved, self._saved_worth, self._told_s = 0, 0.0, -math.inf
        self._pausing: bool | None = None  # what actors were told last; they may have been told by another learner

    def resume(self) -> int:
        """Go on from the newest checkpoint; what was received since counts, its updates are made up for."""
        self._saved = int(self.training.resume()["step"])
        self._saved_worth = self.training.ratio.updates / self.training.ratio.maximum
        if self.evaluation is not None:
            self.evaluation.evaluations.resume()
        return self._saved

    def run(self) -> None:
        """Learn; interrupted, it saves first and raises again. Actors hear ``stop`` at the end."""
        training = self.training
        training.begin()
        try:
            while not self._done():
                self._round()
            self.save()
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            training.run.close()
        training.transport.signal(STOP, keep=True)

    def _done(self) -> bool:
        """Whether all steps are there and made up for, both as of the last look, so that one tells of the other."""
        received = self.training.steps >= self.steps and not self.training.behind
        if self.evaluation is None:
            return received
        if self.evaluation.running:
            return False
        return self.evaluation.evaluations.enough() or (received and not self.evaluation.due)

    def _round(self) -> None:
        """Some updates, or a short wait for data."""
        training, every = self.training, self.checkpoint_every
        with signals_held():
            made = training.work(most=training.schedule.group * GROUPS)
        if self.evaluation is not None:
            self.evaluation.advance()
        self._pause_actors()
        worth = training.ratio.updates / training.ratio.maximum  # of a long catching-up not all may be lost
        if every and (training.steps // every > self._saved // every or worth - self._saved_worth >= every):
            self.save()
        if time.monotonic() - self._told_s >= TELL_S:
            self._told_s = time.monotonic()
            self._on_round(training.steps)
        if not made:
            self._on_wait(training.steps)
            training.transport.wait(WAIT_S)

    def save(self) -> None:
        """Checkpoint of now: of the steps that were taken in, and the updates made so far for them."""
        training = self.training
        self._saved, self._saved_worth = training.steps, training.ratio.updates / training.ratio.maximum
        training.save({})

    def _pause_actors(self) -> None:
        """Ask the actors to wait at their next reset while the lower bound of the ratio is not met, and while nothing
        but an evaluation is missing."""
        training = self.training
        over = self.evaluation is not None and training.steps >= self.steps
        pausing = training.ratio.verdict(training.steps).pause_actor or over
        if pausing is not self._pausing:
            self._pausing = pausing
            training.transport.signal(PAUSE if pausing else GO_ON, keep=True)
