"""Random actions as a policy: what an env does when nobody steers."""

from __future__ import annotations

import numpy as np

from robot_rl.types import ActContext, ActionChunk, Array, Arrays, EnvSpec, PolicySpec


class RandomPolicy:
    """Uniform actions within the limits of the spec, held for ``hold_steps``: a look at what an env can do."""

    def __init__(self, spec: EnvSpec, hold_steps: int = 5) -> None:
        self._action, self._hold = spec.action, hold_steps
        self.spec = PolicySpec({}, spec.action, horizon=hold_steps, execute=hold_steps)
        self._random: dict[int, np.random.Generator] = {}

    def reset(self, rows: Array, seeds: Array) -> None:
        """Row r draws from a generator of its own, seeded with seeds[r]."""
        self._random |= {int(row): np.random.default_rng(int(seed)) for row, seed in zip(rows, seeds, strict=True)}

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """One draw per row, repeated."""
        low, high = self._action.low, self._action.high
        drawn = np.stack([self._random[row].uniform(low, high) for row in range(len(context.step))])
        return ActionChunk(np.repeat(drawn[:, None], self._hold, axis=1).astype(np.float32), self._hold)
