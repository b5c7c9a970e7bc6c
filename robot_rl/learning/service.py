"""The learner's loop where actors are processes of their own: take in, update, publish, wait when starved, save."""

from __future__ import annotations

import time
from collections.abc import Callable

from robot_rl.learning.offline_training import signals_held
from robot_rl.learning.online_training import OnlineTraining

PAUSE, GO_ON = "pause_at_reset", "go_on"
_NAP_S = 0.005


class LearnerService:
    """Runs until ``steps`` control steps have been received and the updates they are worth are made.

    Args:
        training: over the store that its transport fills.
        checkpoint_every: control steps, 0 is only at the end.
        on_wait: called, with the steps received, when there is nothing to do.
    """

    def __init__(
        self,
        training: OnlineTraining,
        steps: int,
        *,
        checkpoint_every: int = 2000,
        on_wait: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self.training, self.steps, self.checkpoint_every = training, steps, checkpoint_every
        self._on_wait = on_wait
        self._saved, self._pausing = 0, False

    def resume(self) -> int:
        """Go on from the newest checkpoint; what was received since counts, its updates are made up for."""
        self._saved = int(self.training.resume()["step"])
        return self._saved

    def run(self) -> None:
        """Learn; interrupted, it saves first and raises again. Actors hear ``stop`` at the end."""
        training = self.training
        training.replay.refresh()
        training.publish()
        try:
            while training.steps < self.steps or training.behind:
                self._round()
        except KeyboardInterrupt:
            self.save()
            raise
        finally:
            training.run.close()
        self.save()
        training.transport.signal("stop", keep=True)

    def _round(self) -> None:
        """Some updates, or a short wait for data."""
        training, every = self.training, self.checkpoint_every
        with signals_held():
            made = training.work(most=training.schedule.group * 8)
        self._pause_when_behind()
        if every and training.steps // every > self._saved // every:
            self.save()
        if not made:
            self._on_wait(training.steps)
            time.sleep(_NAP_S)

    def save(self) -> None:
        """Checkpoint of now."""
        self._saved = self.training.steps
        self.training.save({})

    def _pause_when_behind(self) -> None:
        """Ask the actors to wait at their next reset while the lower bound of the ratio is not met."""
        behind = self.training.ratio.verdict(self.training.steps).pause_actor
        if behind != self._pausing:
            self._pausing = behind
            self.training.transport.signal(PAUSE if behind else GO_ON, keep=True)
