"""How the control loop went in an episode: its periods as they really were, and who was in command."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, Phase, StepRow


@dataclass(frozen=True)
class LoopFigures:
    """Of one episode."""

    steps: int = 0
    human_steps: int = 0
    period_p50_ms: float = 0.0
    period_p99_ms: float = 0.0


class LoopMeter:
    """Listener; ``figures`` are those of the last episode that ended. Measured on the wall clock, in simulation too."""

    def __init__(self) -> None:
        self.figures = LoopFigures()
        self._stamps_ns: list[int] = []
        self._human_steps = 0

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._stamps_ns, self._human_steps = [], 0

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        self._stamps_ns.append(time.perf_counter_ns())
        self._human_steps += row.action.source is Phase.HUMAN

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        periods = np.diff(self._stamps_ns) / 1e6 if len(self._stamps_ns) > 1 else np.zeros(1)
        p50, p99 = (float(value) for value in np.percentile(periods, [50, 99]))
        self.figures = LoopFigures(len(self._stamps_ns), self._human_steps, p50, p99)
