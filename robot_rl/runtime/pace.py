"""A simulator at the speed of real time, for a person who steers it."""

from __future__ import annotations

import time

from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, StepRow


class RealTime:
    """Listener that ends no step before its time; who comes late is not hurried afterwards."""

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._period_s = 1.0 / spec.step_rate_hz
        self._due_s = time.monotonic() + self._period_s

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        now_s = time.monotonic()
        time.sleep(max(0.0, self._due_s - now_s))
        self._due_s = max(self._due_s, now_s) + self._period_s

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None: ...
