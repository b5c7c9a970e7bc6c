"""Flow matching (Lipman et al. 2023; rectified flow, Liu et al. 2023): the second generator, on straight paths.

x_s = (1 - s) a + s n between a chunk a and noise n; the network predicts dx/ds = n - a, and sampling integrates it from
s = 1 to 0. A DiffusionPolicy becomes a flow by this schedule and this sampler; nothing else differs, so whatever acts
around one acts around the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from policies.noise_schedules import Schedule
from policies.samplers import Guide, Predict, check_falling
from robot_rl.errors import ConfigError
from robot_rl.types import Array


class StraightPath:
    """Noise levels s = (t + 1) / T for t = 0 .. T - 1: signal 1 - s, sigma s."""

    def __init__(self, steps: int = 100) -> None:
        if steps < 1:
            raise ConfigError(f"{steps} noise levels", limit="at least 1")
        self.steps = steps
        self.sigma: Array = np.arange(1, steps + 1) / steps
        self.signal: Array = 1.0 - self.sigma

    def timesteps(self, steps: int) -> list[int]:
        """Levels 1, 1 - 1/steps, ..., 1/steps, as timesteps."""
        if not 1 <= steps <= self.steps:
            raise ConfigError(f"{steps} sampling steps", limit=f"1 to {self.steps} noise levels")
        return [round(self.steps * level / steps) - 1 for level in range(steps, 0, -1)]


class Euler:
    """Euler's method on dx/ds; each step as x0 + (s' / s)(x - x0) with the clean estimate x0 = x - s dx/ds.

    That is DDIM on this path, so clipping and guides mean the same. ``clip`` None integrates the network untouched.
    """

    def __init__(
        self,
        schedule: Schedule,
        steps: int = 10,
        clip: float | None = 1.0,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        if not isinstance(schedule, StraightPath):
            raise ConfigError(f"a flow cannot follow a {type(schedule).__name__}", remedy="Use StraightPath")
        self.timesteps = list(timesteps) if timesteps is not None else schedule.timesteps(steps)
        check_falling(self.timesteps, schedule.steps)
        self.prediction, self.clip, self._schedule = "flow", clip, schedule
        levels = [float(schedule.sigma[t]) for t in self.timesteps]
        self._steps = list(zip(levels, [*levels[1:], 0.0], strict=True))

    def along(self, timesteps: Sequence[int]) -> Euler:
        return Euler(self._schedule, clip=self.clip, timesteps=timesteps)

    def noise_shape(self, chunk: tuple[int, ...]) -> tuple[int, ...]:
        return chunk

    def starting(self, x: Tensor, noise: Tensor) -> Tensor:
        return x

    def sample(self, predict: Predict, noise: Tensor, guide: Guide | None = None) -> Tensor:
        x = noise
        for index, (level, following) in enumerate(self._steps):
            clean = x - level * predict(x, index)
            clean = clean if self.clip is None else clean.clamp(-self.clip, self.clip)
            clean = clean if guide is None else guide(clean, index)
            x = clean + following / level * (x - clean)
        return x
