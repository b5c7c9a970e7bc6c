"""What an evaluation found: episodes, and their summary with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.runtime.statistics import bootstrap_mean, clopper_pearson


@dataclass(frozen=True)
class EpisodeScore:
    """One episode of an evaluation. ``best_reward`` is the best of any step, Push-T's score."""

    seed: int
    success: bool
    best_reward: float
    total_reward: float
    length: int
    reason: str


@dataclass(frozen=True)
class EvaluationReport:
    """The episodes of one policy, in the order of their seeds."""

    policy: str
    task: str
    episodes: tuple[EpisodeScore, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def successes(self) -> int:
        return sum(episode.success for episode in self.episodes)

    @property
    def success_rate(self) -> float:
        return self.successes / len(self.episodes)

    @property
    def success_interval(self) -> tuple[float, float]:
        """95 % Clopper-Pearson interval."""
        return clopper_pearson(self.successes, len(self.episodes))

    @property
    def faults(self) -> list[EpisodeScore]:
        """Episodes that a fault of the robot or its simulation ended; they count as failures."""
        return [episode for episode in self.episodes if episode.reason.startswith("fault")]

    @property
    def best_reward_mean(self) -> float:
        return float(np.mean([episode.best_reward for episode in self.episodes]))

    @property
    def best_reward_interval(self) -> tuple[float, float]:
        """95 % bootstrap interval over episodes."""
        return bootstrap_mean([episode.best_reward for episode in self.episodes])

    @property
    def mean_length(self) -> float:
        return float(np.mean([episode.length for episode in self.episodes]))

    def to_json(self) -> dict[str, Any]:
        """Summary and episodes as plain JSON types."""
        return {
            "policy": self.policy,
            "task": self.task,
            "episodes_total": len(self.episodes),
            "successes": self.successes,
            "success_rate": self.success_rate,
            "success_interval_95": list(self.success_interval),
            "best_reward_mean": self.best_reward_mean,
            "best_reward_interval_95": list(self.best_reward_interval),
            "mean_length_steps": self.mean_length,
            "faults": len(self.faults),
            "meta": dict(self.meta),
            "episodes": [asdict(episode) for episode in self.episodes],
        }

    def save(self, path: Path) -> None:
        """Write the JSON in one rename."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        draft.write_text(json.dumps(self.to_json(), indent=1) + "\n")
        draft.replace(path)

    @staticmethod
    def load(path: Path) -> EvaluationReport:
        """Inverse of ``save``. Raises ConfigError for a file that is no report."""
        try:
            data = json.loads(path.read_text())
            episodes = tuple(EpisodeScore(**episode) for episode in data["episodes"])
            return EvaluationReport(data["policy"], data["task"], episodes, data.get("meta", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no evaluation report: {error}") from error


class ScoreLog:
    """Finished episodes of a long evaluation, one JSON line each, so that it goes on after a kill.

    ``key`` names what is evaluated (checkpoint, settings); a log of something else is started anew.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def read(self) -> dict[int, EpisodeScore]:
        """Scores by seed; a torn last line is left out."""
        found: dict[int, EpisodeScore] = {}
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        if not lines or lines[0] != json.dumps({"key": self._key}):
            return found
        for line in lines[1:]:
            try:
                score = EpisodeScore(**json.loads(line))
            except (ValueError, TypeError):
                break
            found[score.seed] = score
        return found

    def start(self, finished: Iterable[EpisodeScore] = ()) -> None:
        """Begin the log with ``finished``, in one rename."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = [{"key": self._key}, *(asdict(score) for score in finished)]
        draft = self._path.with_name(f".{self._path.name}")
        draft.write_text("".join(json.dumps(line) + "\n" for line in lines))
        draft.replace(self._path)

    def append(self, score: EpisodeScore) -> None:
        """Add an episode."""
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(score)) + "\n")
