"""What every control cycle of an episode took: a listener that writes a line a step when the episode has ended."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, StepRow

COLUMNS = ("episode", "step", "seen_ms", "decision_ms", "to_send_ms", "period_ms", "overrun", "source", "version")


@dataclass(frozen=True)
class CycleFigures:
    """Of all episodes so far, in ms: age of what was seen when it was there, the policy, and from there to sending."""

    cycles: int
    overruns: int
    seen_p99_ms: float
    decision_p50_ms: float
    decision_p99_ms: float
    to_send_p99_ms: float
    period_p99_ms: float


class CycleLog:
    """Appends to the CSV ``path``. Times are the robot clock's, but ``decision_ms``, which is the host's."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[list[object]] = []
        self._all: list[list[float]] = []
        self._overruns = 0
        self._episode = -1
        self._decision_ms = 0.0
        self._sent_ns: int | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(COLUMNS)

    @property
    def figures(self) -> CycleFigures:
        """Percentiles over all cycles."""
        rows = np.array(self._all) if self._all else np.zeros((1, 4))
        decided = rows[rows[:, 1] > 0.0, 1] if (rows[:, 1] > 0.0).any() else np.zeros(1)
        p99 = np.percentile(rows, 99, axis=0)
        return CycleFigures(
            len(self._all), self._overruns, float(p99[0]), float(np.median(decided)),
            float(np.percentile(decided, 99)), float(p99[2]), float(p99[3]),
        )  # fmt: skip

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._episode, self._sent_ns, self._decision_ms = self._episode + 1, None, 0.0

    def on_decision(self, decision: Decision) -> None:
        self._decision_ms = 1e3 * decision.latency_s

    def on_step(self, row: StepRow) -> None:
        seen_ms = 1e-6 * (row.obs_ready_ns - row.observation.stamp_ns)
        to_send_ms = 1e-6 * (row.action_sent_ns - row.obs_ready_ns)
        period_ms = 0.0 if self._sent_ns is None else 1e-6 * (row.action_sent_ns - self._sent_ns)
        times = [seen_ms, self._decision_ms, to_send_ms, period_ms]
        self._all.append(times)
        self._overruns += row.overrun
        told = [f"{value:.3f}" for value in times]
        source = row.action.source.name.lower()
        self._rows.append([self._episode, row.observation.step, *told, int(row.overrun), source, row.policy_version])
        self._sent_ns, self._decision_ms = row.action_sent_ns, 0.0

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerows(self._rows)
        self._rows.clear()
