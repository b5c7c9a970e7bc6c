"""A run's folder: metrics, checkpoints, TensorBoard. What is there after a kill is enough to go on.

runs/<name>/  config.json  metrics.jsonl  evaluations.jsonl  loss.png  samples.png  tensorboard/
              checkpoints/step_00001000/  checkpoints/latest  checkpoints/best
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.learning.checkpoint import LATEST, point_to, read_manifest, save_checkpoint
from robot_rl.types import EnvSpec

BEST = "best"


class TrainingRun:
    """Writes what a run leaves behind.

    Args:
        folder: of the run; a new run refuses one that holds checkpoints, ``resume`` goes on there.
        keep: newest checkpoints that stay, besides the best.
    """

    def __init__(self, folder: Path, *, resume: bool = False, keep: int = 2) -> None:
        self.folder, self.keep = folder, keep
        self.checkpoints = folder / "checkpoints"
        self.candidate: Path | None = None  # a checkpoint that is being evaluated, and stays meanwhile
        self.metrics_file, self.evaluations_file = folder / "metrics.jsonl", folder / "evaluations.jsonl"
        if (self.checkpoints / LATEST).exists() and not resume:
            raise ConfigError(f"run {folder} exists", remedy="Go on with resume=true, or choose another name=")
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for draft in self.checkpoints.glob(".*.partial"):  # what a kill left half written
            shutil.rmtree(draft)
        if not self.resumable:
            self.forget_after(0)  # a run that was killed before its first checkpoint begins anew
        self._board: Any = None

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.checkpoints / LATEST).exists()

    def forget_after(self, step: int) -> None:
        """Drop what was logged past the checkpoint that is resumed, so that no step is told twice."""
        for path in (path for path in (self.metrics_file, self.evaluations_file) if path.exists()):
            kept = [row for row in read_rows(path) if row["step"] <= step]
            draft = path.with_suffix(".partial")
            draft.write_text("".join(json.dumps(row) + "\n" for row in kept))
            draft.rename(path)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of training metrics, to file and TensorBoard."""
        self._append(self.metrics_file, step, metrics, "train")

    def log_evaluation(self, step: int, metrics: Mapping[str, float]) -> bool:
        """One line of evaluation metrics; True when its ``score`` is the best so far."""
        best = self.best_score
        self._append(self.evaluations_file, step, metrics, "evaluation")
        return metrics.get("score", float("-inf")) > best

    @property
    def best_score(self) -> float:
        """Of the evaluations so far; minus infinity before the first."""
        return max((row.get("score", float("-inf")) for row in read_rows(self.evaluations_file)), default=float("-inf"))

    def _append(self, path: Path, step: int, metrics: Mapping[str, float], group: str) -> None:
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import

            self._board = SummaryWriter(str(self.folder / "tensorboard"))
        with path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
        for name, value in metrics.items():
            self._board.add_scalar(f"{group}/{name}", value, step)

    def save(
        self,
        step: int,
        *,
        weights: Mapping[str, Tensor],
        training: Mapping[str, Tensor],
        config: Mapping[str, Any],
        env_spec: EnvSpec,
        meta: Mapping[str, Any],
        best: bool = False,
    ) -> Path:
        """Checkpoint of ``step``; older ones beyond ``keep`` go.

        ``meta`` tells states of one step apart, such as by their updates: each has a folder of its own.
        """
        folder = self._place(step, {"step": step, **meta})
        if not folder.exists():
            save_checkpoint(
                folder,
                weights=weights,
                config=config,
                env_spec=env_spec,
                training=training,
                meta={"step": step, **meta},
            )
        point_to(folder, LATEST)
        if best:
            self.choose(folder)
        self._prune()
        return folder

    def _place(self, step: int, meta: Mapping[str, Any]) -> Path:
        """The folder for this state: where it is already, else a new one."""
        folder, again = self.checkpoints / f"step_{step:08d}", 0
        meta = json.loads(json.dumps(meta))
        while folder.exists() and not meta.items() <= read_manifest(folder).items():
            again += 1
            folder = self.checkpoints / f"step_{step:08d}.{again}"
        return folder

    def choose(self, folder: Path) -> None:
        """Make this checkpoint the best one."""
        point_to(folder, BEST)

    def _prune(self) -> None:
        named = {(self.checkpoints / name).read_text().strip() for name in (LATEST, BEST) if self._has(name)}
        named |= {self.candidate.name} if self.candidate else set()
        for folder in sorted(self.checkpoints.glob("step_*"))[: -self.keep]:
            if folder.name not in named:
                shutil.rmtree(folder)

    def _has(self, name: str) -> bool:
        return (self.checkpoints / name).is_file()

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._board is not None:
            self._board.close()
            self._board = None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a line torn by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows
