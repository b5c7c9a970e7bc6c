"""The evaluations of a run: when one is due, which was the best, whether it is enough (learning.md, section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from robot_rl.learning.training_run import TrainingRun, read_rows

ENOUGH_EPISODES = 150  # pooled over the last three evaluations, before a run may stop early


class Evaluations:
    """Those of ``run``, one every ``every`` control steps (0: none).

    Args:
        stop_success: the run may end when the last three, pooled, reach this success rate.
    """

    def __init__(self, run: TrainingRun, every: int, stop_success: float | None = None) -> None:
        self.run, self.every, self.stop_success = run, every, stop_success
        self.resume()

    def resume(self) -> None:
        """Go on after the last evaluation that the run's log still has."""
        self._rows: list[Mapping[str, float]] = list(read_rows(self.run.evaluations_file))

    def due(self, steps: int) -> bool:
        """Whether there should be one at ``steps`` control steps."""
        last = int(self._rows[-1]["step"]) if self._rows else 0
        return self.every > 0 and steps // self.every > last // self.every

    def log(self, steps: int, metrics: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """One line of the log; ``checkpoint`` becomes the best one if it is. Returns whether it is."""
        if checkpoint is not None and metrics["score"] > self.run.best_score:
            self.run.choose(checkpoint)  # before the log says so: a kill in between is made good by the next one
        self._rows.append({"step": steps, **metrics})
        return self.run.log_evaluation(steps, metrics)

    def enough(self) -> bool:
        """Whether the last three, pooled, say that the run may end."""
        rows = self._rows[-3:]
        episodes = sum(row["episodes"] for row in rows)
        if self.stop_success is None or len(rows) < 3 or episodes < ENOUGH_EPISODES:
            return False
        return sum(row["success"] * row["episodes"] for row in rows) / episodes >= self.stop_success
