"""One of K samples of a generator, picked by a rule; all K are denoised in one batched call."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from policies.black_box import as_sampler
from policies.diffusion import DiffusionPolicy
from policies.row_noise import RowNoise
from robot_rl.errors import ConfigError
from robot_rl.interfaces import ChunkSampler
from robot_rl.types import ActContext, ActionChunk, ActionSpec, Array, Arrays, PolicySpec

_CHOICE_STREAM = 1  # chance in choosing is independent of the candidates' noise


class Choice(Protocol):
    """A rule that picks one candidate per row."""

    def __call__(self, executed: Tensor, chance: Tensor) -> Tensor:
        """Executed parts of candidates [B, K, T_a, A] in [-1, 1] of the limits, N(0, I) draws [B, K] -> index [B]."""
        ...


class Medoid:
    """The candidate with the smallest summed Euclidean distance to all others: the middle of the densest mode."""

    def __call__(self, executed: Tensor, chance: Tensor) -> Tensor:
        points = executed.flatten(2)
        distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.sum(dim=2).argmin(dim=1)


class AtRandom:
    """Any candidate with equal probability: the base again, and the check that drawing many changes nothing."""

    def __call__(self, executed: Tensor, chance: Tensor) -> Tensor:
        return chance.argmax(dim=1)


class Candidates:
    """K samples of ``base`` per decision, denoised in one batched call.

    Candidate 0 has the noise that the base would act with, and the candidates of a smaller K are the first ones of a
    larger (nested noise). One candidate is the base bit for bit (at equal batch shape).
    """

    def __init__(self, base: DiffusionPolicy | ChunkSampler, candidates: int) -> None:
        if candidates < 1:
            raise ConfigError(f"candidates={candidates}", limit="at least 1")
        self.sampler, self.many = as_sampler(base), candidates
        spec = self.sampler.spec
        self.spec = PolicySpec(spec.observation, spec.action, spec.history, spec.horizon, spec.execute)
        self._noise, self._chance = RowNoise(spec.seed), RowNoise(spec.seed, _CHOICE_STREAM)

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)
        self._chance.reset(rows, seeds)

    def draw(self, window: Arrays, rows: int) -> tuple[Tensor, Array, Tensor]:
        """Windows {key: [B, T_o, ...]} -> chunks [B, K, T_p, A], their noise [B, K, ...], N(0, I) draws [B, K] to
        choose by."""
        noise = self._noise.draw(rows, (self.many, *self.sampler.spec.noise_shape))
        chance = torch.from_numpy(self._chance.draw(rows, (self.many,)))
        seen = {key: torch.from_numpy(np.repeat(window[key], self.many, axis=0)) for key in self.spec.observation}
        drawn = self.sampler.sample(seen, torch.from_numpy(noise.reshape(rows * self.many, *noise.shape[2:]))).cpu()
        return drawn.unflatten(0, (rows, self.many)), noise, chance


class Chosen:
    """``base`` acting by the one of its ``candidates`` samples that ``choice`` picks; see Candidates."""

    def __init__(self, base: DiffusionPolicy | ChunkSampler, choice: Choice, candidates: int = 100) -> None:
        self._candidates, self._choice = Candidates(base, candidates), choice
        self.spec = self._candidates.spec

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._candidates.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A]; the chosen candidate's noise goes into ``decision``."""
        chunks, noise, chance = self._candidates.draw(window, len(context.step))
        index = self._choice(in_limits(chunks[:, :, : self.spec.execute], self.spec.action), chance)
        return taken(chunks, noise, index, self.spec.execute)


def taken(chunks: Tensor, noise: Array, index: Tensor, execute: int) -> ActionChunk:
    """The candidate ``index`` [B] of chunks [B, K, T_p, A], with its noise in ``decision``."""
    row = torch.arange(len(index))
    chosen = np.ascontiguousarray(chunks[row, index].numpy())
    return ActionChunk(chosen, execute, decision={"noise": noise[row.numpy(), index.numpy()]})


def in_limits(actions: Tensor, spec: ActionSpec) -> Tensor:
    """Actions [..., A] in physical units -> what the env makes of them: clipped to the limits, as -1 to 1 of them."""
    low, high = torch.from_numpy(spec.low), torch.from_numpy(spec.high)
    return 2.0 * (actions.clamp(low, high) - low) / (high - low) - 1.0
