"""A generator under scaled start noise: 0 gives its most typical chunk, 1/2 a narrower spread; no learning involved."""

from __future__ import annotations

import numpy as np
import torch

from policies.black_box import as_sampler
from policies.diffusion import DiffusionPolicy
from policies.row_noise import RowNoise
from robot_rl.errors import ConfigError
from robot_rl.interfaces import ChunkSampler
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, PolicySpec


class ScaledNoise:
    """``base`` with its noise times ``scale``; 1 is the base bit for bit (at equal batch shape).

    A control that every method which claims to improve a base is measured against: often it is the larger gain. With
    ``reach`` r the noise w becomes r tanh(w / r), as what steers by noise has it before it has learnt.
    """

    def __init__(self, base: DiffusionPolicy | ChunkSampler, scale: float, reach: float | None = None) -> None:
        if not 0.0 <= scale <= 2.0:
            raise ConfigError(f"noise is scaled by {scale}", limit="0 to 2")
        if reach is not None and reach <= 0.0:
            raise ConfigError(f"noise is brought within {reach}", limit="above 0")
        self._sampler, self._scale, self._reach = as_sampler(base), np.float32(scale), reach
        spec = self._sampler.spec
        self.spec = PolicySpec(spec.observation, spec.action, spec.history, spec.horizon, spec.execute)
        self._noise = RowNoise(spec.seed)

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A]; the scaled noise goes into ``decision``."""
        noise = self._scale * self._noise.draw(len(context.step), self._sampler.spec.noise_shape)
        if self._reach is not None:
            noise = np.float32(self._reach) * np.tanh(noise / np.float32(self._reach))
        seen = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in self.spec.observation}
        chunks = self._sampler.sample(seen, torch.from_numpy(noise))
        return ActionChunk(chunks.cpu().numpy(), self.spec.execute, decision={"noise": noise})
