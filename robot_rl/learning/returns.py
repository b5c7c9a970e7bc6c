"""Monte-Carlo returns of stored steps: what was earned from there on, by the labels and rewards of a view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.tables import EpisodeSource
from robot_rl.learning.diagnostics import earned
from robot_rl.types import Array, Cut

RETURN = "return"


class WithReturns:
    """Batches of a ReplaySampler with ``return`` [B]: what the episode earned from row t on, discounted.

    Args:
        source, where: what the sampler draws from.
        beyond: what comes after an episode that a time limit or a fault cut off. The least that is attainable makes
            every return a lower bound.
    """

    def __init__(
        self,
        sampler: ReplaySampler,
        source: EpisodeSource | Iterable[Episode],
        *,
        where: Callable[[Any], bool] | None = None,
        beyond: float = 0.0,
    ) -> None:
        self.sampler = sampler
        view = replace(sampler.view, observation=sampler.view.observation[:1], extras=(), n_step=1, horizon=1, stride=1)
        steps = ReplaySampler(source, replace(view, cut=Cut.NONE), batch=1, where=where)
        batch = steps.gather(np.arange(len(steps)))
        returns = earned(batch["reward"], batch["bootstrap"], np.full(len(steps), beyond), batch["episode"])
        self._first = np.asarray(sampler.table.first)
        self._returns = np.full(sampler.table.rows, beyond)
        self._returns[self._first[batch["episode"]] + batch["row"]] = returns

    def batch(self, step: int) -> dict[str, Array]:
        """As ReplaySampler's, with the returns."""
        return self._with(self.sampler.batch(step))

    def gather(self, chosen: Array) -> dict[str, Array]:
        """Likewise."""
        return self._with(self.sampler.gather(chosen))

    def __len__(self) -> int:
        return len(self.sampler)

    def _with(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        found = self._returns[self._first[batch["episode"]] + batch["row"]]
        return {**batch, RETURN: found.astype(np.float32)}
