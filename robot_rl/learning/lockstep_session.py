"""Actor and learner by turns in one process: after every control step exactly the updates it is worth.

With fixed seeds a session gives the same numbers bit for bit, also when it was killed and resumed: it goes on from its
newest checkpoint, made between two episodes, and what was acted since is acted again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.evaluations import Evaluations
from robot_rl.learning.online_training import OnlineTraining
from robot_rl.runtime.actor import Actor
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.tally import VOID
from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, StepRow

Evaluate = Callable[[Mapping[str, Tensor]], Mapping[str, float]]  # acting state -> success, episodes, score


@dataclass(frozen=True)
class SessionSchedule:
    """In control steps; 0 is never. ``stop_success``: end when the last three evaluations, pooled, reach it."""

    steps: int
    checkpoint_every: int = 2000
    evaluate_every: int = 1000
    stop_success: float | None = None


class Turns:
    """Listener behind the recorder: once a row is written, the learner's turn comes."""

    def __init__(self, recorder: EpisodeRecorder, training: OnlineTraining) -> None:
        self._recorder, self._training = recorder, training

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None: ...

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        self._recorder.flush()
        self._training.work()

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None: ...


class LockstepSession:
    """Runs episodes until ``schedule.steps`` control steps are made.

    Args:
        actor: its listeners are the recorder and ``Turns``, in this order.
        training: over the store that the recorder writes.
        evaluate: scores an acting state on the seeds for choosing.
        on_episode: hears of every episode and of the session's counters.
    """

    def __init__(
        self,
        actor: Actor,
        training: OnlineTraining,
        schedule: SessionSchedule,
        *,
        evaluate: Evaluate | None = None,
        on_episode: Callable[[EpisodeEnd, Mapping[str, float]], None] = lambda end, counters: None,
    ) -> None:
        self.actor, self.training, self.schedule = actor, training, schedule
        self._evaluate, self._on_episode = evaluate, on_episode
        self.evaluations = Evaluations(training.run, schedule.evaluate_every, schedule.stop_success)
        self.episodes = 0
        self._checked = 0

    def resume(self) -> int:
        """Go on from the newest checkpoint; returns its steps. Raises CheckpointError."""
        manifest = self.training.resume()
        self.episodes = int(manifest["episodes"])
        self.actor.next_seed = int(manifest["next_seed"])
        self.evaluations.resume()
        self._checked = int(manifest["step"])
        return self._checked

    def run(self) -> None:
        """Act and learn to the end; what is raised leaves the last checkpoint to go on from."""
        training, schedule = self.training, self.schedule
        training.begin()
        try:
            while training.steps < schedule.steps:
                end = self.actor.run_episode()
                training.work()
                self.episodes += end.reason not in VOID  # which the store does not keep
                self._on_episode(end, self.counters())
                best = self._evaluate_when_due()
                enough = self.evaluations.enough()
                every = schedule.checkpoint_every
                due = every > 0 and training.steps // every > self._checked // every
                if best or enough or due:
                    self.save(best=best)
                if enough:
                    break
            self.save()
        finally:
            training.run.close()

    def counters(self) -> dict[str, float]:
        """What a table of the session shows."""
        return {
            "episodes": self.episodes,
            "steps": self.training.steps,
            "robot_minutes": self.training.robot_minutes,
            **self.training.latest,
        }

    def save(self, *, best: bool = False) -> None:
        """Checkpoint between two episodes."""
        self._checked = self.training.steps
        self.training.save({"episodes": self.episodes, "next_seed": self.actor.next_seed}, best=best)

    def _evaluate_when_due(self) -> bool:
        """Whether an evaluation was due and its score is the best."""
        training = self.training
        if self._evaluate is None or not self.evaluations.due(training.steps):
            return False
        metrics = {**self._evaluate(training.learner.acting_state()), "robot_minutes": training.robot_minutes}
        return self.evaluations.log(training.steps, metrics)


def rewind(store: EpisodeStore, episodes: int) -> list[str]:
    """Drop what was recorded after the first ``episodes`` episodes, for good: it will be made again, bit for bit."""
    late = store.ids(excluded=True)[episodes:]
    for id in late:
        store.delete(id, who="resumed lockstep session")
    store.gc()
    return late
