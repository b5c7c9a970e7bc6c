"""The listener that writes what the loop does into an episode store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from robot_rl.data.index import EpisodeInfo
from robot_rl.data.store import EpisodeStore
from robot_rl.data.writer import EpisodeWriter
from robot_rl.errors import RecordingOverflowError
from robot_rl.runtime.calibration_in_use import embedded_calibration
from robot_rl.runtime.tally import VOID
from robot_rl.types import EMPTY, ArraySpec, Decision, EnvSpec, EpisodeEnd, Observation, StepRow


class EpisodeRecorder:
    """Records every episode it hears; the seed is added to ``metadata``.

    ``extras`` are the per-step extras of the policy (``PolicySpec.record``). With ``keep_failures`` False only
    successes are kept. ``discard`` drops the running episode at its end, as the person's key does. Committing happens
    at the end of an episode, never in a step.
    """

    def __init__(
        self,
        store: EpisodeStore,
        metadata: Mapping[str, Any] = EMPTY,
        *,
        extras: Mapping[str, ArraySpec] = EMPTY,
        keep_failures: bool = True,
    ) -> None:
        self._store, self._metadata, self._extras = store, dict(metadata), dict(extras)
        self._keep_failures = keep_failures
        self._writer: EpisodeWriter | None = None
        self._refused = False
        self._discard = ""
        self.kept: EpisodeInfo | None = None
        """The last episode if it was kept, else None."""

    def discard(self, reason: str) -> None:
        """Drop the running episode when it ends."""
        self._discard = reason

    def flush(self) -> None:
        """Wait until what was heard can be read from the journal; not for a control thread."""
        self._open().flush()

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._discard, self._refused, self.kept = "", False, None
        metadata = {**self._metadata, **embedded_calibration(spec), "seed": seed}
        self._writer = self._store.begin(spec, metadata, extras=self._extras)

    def on_decision(self, decision: Decision) -> None:
        self._put(lambda writer: writer.append_decision(decision))

    def on_step(self, row: StepRow) -> None:
        self._refused = True
        self._append(row)
        self._refused = False

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        """Commit the episode, or discard it. After a refused row it ends at the last good one."""
        writer = self._open()
        reason = self._discard or self._unwanted(end)
        if reason:
            writer.discard(reason)
            return
        if not self._refused:
            self._append(final)
        self.kept = writer.end(end)

    def _unwanted(self, end: EpisodeEnd) -> str:
        """Why the episode is not kept; empty when it is."""
        if end.reason in VOID:
            return f"{end.reason} by a person"
        return "" if self._keep_failures or end.success else f"not a success: {end.reason}"

    def _append(self, row: StepRow) -> None:
        self._put(lambda writer: writer.append(row))

    def _put(self, hand_over: Callable[[EpisodeWriter], None]) -> None:
        """Hand a row or a decision over. A full ring is waited for in simulation, and an error on hardware."""
        writer = self._open()
        while True:
            try:
                return hand_over(writer)
            except RecordingOverflowError:
                if not writer.spec.simulated:
                    raise
                time.sleep(0.001)  # a simulator outruns any disk, and its time waits

    def _open(self) -> EpisodeWriter:
        assert self._writer is not None, "on_reset comes first"
        return self._writer
