"""Noise by counter: what a policy draws depends on its seed, the episode's seed and the decision, on nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.types import Array


class RowNoise:
    """Standard-normal draws per batch row.

    Equal (seed, episode seed, decision) give equal noise in any batch, after any history and on any device, so that
    runs can be repeated, split and compared pair by pair. Draws of shape [K, ...] are nested: the first of more are
    what fewer would be. Another ``stream`` of the same seed is independent.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        self.seed, self.stream = seed, stream
        self._episode: dict[int, int] = {}
        self._decision: dict[int, int] = {}

    def reset(self, rows: Array, seeds: Array) -> None:
        """Rows [R] start episodes of ``seeds`` [R] at decision 0."""
        for row, seed in zip(np.asarray(rows).tolist(), np.asarray(seeds).tolist(), strict=True):
            self._episode[int(row)], self._decision[int(row)] = int(seed), 0

    def draw(self, batch: int, shape: Sequence[int]) -> Array:
        """Noise of the next decision of rows 0 .. batch - 1, float32 [batch, *shape]; never reset rows use seed 0."""
        noise = np.empty((batch, *shape), dtype=np.float32)
        for row in range(batch):
            decision = self._decision.get(row, 0)
            entropy = [self.seed % 2**64, self._episode.get(row, 0) % 2**64, decision]
            entropy += [self.stream] if self.stream else []
            bits = np.random.Philox(np.random.SeedSequence(entropy))
            np.random.Generator(bits).standard_normal(out=noise[row], dtype=np.float32)
            self._decision[row] = decision + 1
        return noise
