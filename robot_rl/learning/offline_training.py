"""Offline training: batches of stored windows -> learner, with checkpoints that resume bit for bit.

The batch of a step is a pure function of the step, the learner's randomness is a counter of its step, so a run that
was killed and resumed ends with the same numbers as one that was not.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from robot_rl.interfaces import Learner
from robot_rl.learning.bc import DEMONSTRATIONS
from robot_rl.learning.checkpoint import find_checkpoint, load_training_state
from robot_rl.learning.training_run import TrainingRun
from robot_rl.types import Array, EnvSpec

Evaluate = Callable[[int, Mapping[str, Tensor]], Mapping[str, float]]  # (step, acting state) -> metrics with 'score'


class Batches(Protocol):
    """Windows by step, e.g. a WindowSampler."""

    def batch(self, step: int) -> dict[str, Array]:
        """{array path: [B, L, ...]}, a pure function of ``step``."""
        ...


@dataclass(frozen=True)
class OfflineSchedule:
    """How long and how often, in gradient steps; 0 is never."""

    steps: int
    group: int = 1  # gradient steps per call of ``update``
    log_every: int = 50
    checkpoint_every: int = 2000
    evaluate_every: int = 0


@dataclass(frozen=True)
class Provenance:
    """What goes into every checkpoint beside weights and training state."""

    policy_config: Mapping[str, Any]
    env_spec: EnvSpec
    meta: Mapping[str, Any]


class OfflineTraining:
    """Runs a learner over batches and keeps its run folder.

    Args:
        learner: whatever is updated from ``demonstrations``.
        batches: by step.
        evaluate: called with the acting state; its ``score`` chooses the best checkpoint.
    """

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        run: TrainingRun,
        schedule: OfflineSchedule,
        provenance: Provenance,
        *,
        evaluate: Evaluate | None = None,
        quiet: bool = False,
    ) -> None:
        self.learner, self.batches, self.run, self.schedule = learner, batches, run, schedule
        self.provenance, self.evaluate, self.quiet = provenance, evaluate, quiet
        self.step = 0

    def resume(self) -> int:
        """Take the newest checkpoint's training state; returns its step. Raises CheckpointError."""
        state, manifest = load_training_state(self.run.folder)
        self.learner.load_state_dict(state)
        self.step = int(manifest["step"])
        self.run.forget_after(self.step)
        return self.step

    def train(self) -> Path:
        """Train to the last step; returns the last checkpoint. Interrupted, it saves first and raises again."""
        schedule, clock = self.schedule, _Clock(self.step)
        with _progress(self.quiet) as progress:
            bar = progress.add_task("training", total=schedule.steps, completed=self.step, loss="", rate="")
            try:
                while self.step < schedule.steps:
                    batches = {DEMONSTRATIONS: self._group()}
                    with signals_held():
                        metrics = self.learner.update(batches)
                        self.step += schedule.group
                    if self._due(schedule.log_every):
                        rate = clock.rate(self.step)
                        self.run.log(self.step, {**metrics, "steps_per_s": rate, "wall_s": clock.seconds()})
                        progress.update(bar, completed=self.step, loss=f"{metrics['loss']:.4f}", rate=f"{rate:.1f}")
                    best = self._due(schedule.evaluate_every) and self._evaluate(clock)
                    if best or self._due(schedule.checkpoint_every) or self.step >= schedule.steps:
                        self.save(best=best)
            except KeyboardInterrupt:
                self.save()
                raise
            finally:
                self.run.close()
        return find_checkpoint(self.run.folder)

    def save(self, *, best: bool = False) -> Path:
        """Checkpoint of now."""
        return self.run.save(
            self.step,
            weights=self.learner.acting_state(),
            training=self.learner.state_dict(),
            config=self.provenance.policy_config,
            env_spec=self.provenance.env_spec,
            meta=self.provenance.meta,
            best=best,
        )

    def _group(self) -> dict[str, Tensor]:
        drawn = [self.batches.batch(step) for step in range(self.step, self.step + self.schedule.group)]
        return {key: torch.from_numpy(np.stack([batch[key] for batch in drawn])) for key in drawn[0]}

    def _due(self, every: int) -> bool:
        return every > 0 and (self.step // every > (self.step - self.schedule.group) // every)

    def _evaluate(self, clock: _Clock) -> bool:
        if self.evaluate is None:
            return False
        began = time.monotonic()
        metrics = self.evaluate(self.step, self.learner.acting_state())
        clock.pause(time.monotonic() - began)
        return self.run.log_evaluation(self.step, {**metrics, "wall_s": clock.seconds()})


@contextmanager
def signals_held() -> Iterator[None]:
    """Ctrl-C, TERM and HUP take effect on the way out: in the middle of an update the state is of no step at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in handlers:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in arrived[:1]:
            signal.raise_signal(number)


class _Clock:
    """Training speed; evaluation time does not count."""

    def __init__(self, step: int) -> None:
        self._start = self._mark = time.monotonic()
        self._step = step

    def pause(self, seconds: float) -> None:
        self._start += seconds
        self._mark += seconds

    def seconds(self) -> float:
        """Training time of this process."""
        return round(time.monotonic() - self._start, 2)

    def rate(self, step: int) -> float:
        """Steps per second since the last call."""
        now = time.monotonic()
        rate = (step - self._step) / max(now - self._mark, 1e-9)
        self._step, self._mark = step, now
        return round(rate, 3)


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[rate]} steps/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=quiet,
    )
