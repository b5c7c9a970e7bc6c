"""Policy composition (GPC, Cao et al. 2025): several checkpoints denoise together, by a weighted sum of predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.row_noise import RowNoise
from policies.samplers import Predict, Sampler
from policies.white_box import WhiteBox, opened, tensors
from robot_rl.errors import ConfigError, SpecMismatchError
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, PolicySpec


class Composed:
    """``base`` and ``others`` as one generator: Policy, WhiteBox and so a base for everything that wraps one.

    eps = sum_i weights[i] eps_i at every step, from one shared noise. Members must agree in noise schedule, horizon,
    prediction, action normaliser and symmetry; what they observe may differ. A member of weight 1 alone is that member
    bit for bit (at equal batch shape), and members of weight 0 cost nothing. Sampler, seed, T_a are the base's.

    Args:
        base: the first member.
        others: the other members, or their checkpoints.
        weights: of base and others, at least 0, summing to 1; None for equal ones.
    """

    def __init__(self, base: Any, others: Sequence[Any] = (), weights: Sequence[float] | None = None) -> None:
        members = [opened(base, "composition"), *(opened(_loaded(other), "composition") for other in others)]
        shares = [1 / len(members)] * len(members) if weights is None else [float(weight) for weight in weights]
        if len(shares) != len(members) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(f"weights {shares}", limit=f"{len(members)} numbers of at least 0 that sum to 1")
        for member in members[1:]:
            _check_alike(members[0], member)
        self.weights, self._everyone = shares, members
        self._members = [(weight, member) for weight, member in zip(shares, members, strict=True) if weight > 0]
        first, several = members[0], [member for _, member in self._members]
        observation = {key: value for member in several for key, value in member.spec.observation.items()}
        history = max(member.spec.history for member in several)
        self.spec = PolicySpec(observation, first.spec.action, history, first.spec.horizon, first.spec.execute)
        self.seed, self.rate_hz = first.seed, first.rate_hz
        self.schedule, self.sampler, self.noise_shape = first.schedule, first.sampler, first.noise_shape
        self.action_normalizer = first.action_normalizer
        self._noise = RowNoise(self.seed)

    # --- Policy

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A] from the current step on, their noise in ``decision``."""
        noise = self._noise.draw(len(context.step), self.noise_shape)
        chunks = self.sample(tensors(self.spec, window), torch.from_numpy(noise))
        return ActionChunk(np.array(chunks.cpu().numpy()), self.spec.execute, decision={"noise": noise})

    # --- WhiteBox

    @torch.inference_mode()
    def sample(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """[B, T_o, ...] observations and [B, *noise_shape] noise -> chunks [B, T_p, A] in physical units."""
        if len(self._members) == 1:  # its own way, padding of batches included
            return self._members[0][1].sample(_recent(obs, self._members[0][1]), noise)
        return self.physical(obs, self.sampler.sample(self.predictor(obs, self.sampler), noise))

    def encode(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Conditioning vectors of all members side by side [B, sum of C]."""
        return torch.cat([member.encode(_recent(obs, member)) for _, member in self._members], dim=-1)

    def predict(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Weighted sum of predictions for noisy normalised chunks x [B, T_p, A] at timesteps t [B]."""
        sizes = [_condition_size(member) for _, member in self._members]
        parts = cond.split(sizes, dim=-1)
        each = [member.predict(x, t, part) for (_, member), part in zip(self._members, parts, strict=True)]
        return self._sum(each)

    def predictor(self, obs: Mapping[str, Tensor], sampler: Sampler) -> Predict:
        """``predict(x, index)`` at the timesteps of ``sampler`` under observations [B, T_o, ...]."""
        each = [member.predictor(_recent(obs, member), sampler) for _, member in self._members]
        return each[0] if len(each) == 1 else lambda x, index: self._sum([predict(x, index) for predict in each])

    def physical(self, obs: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Clean chunks [B, T_p, A] as the networks make them under ``obs`` -> physical units."""
        member = self._members[0][1]
        return member.physical(_recent(obs, member), x)

    def normalized(self, obs: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """Inverse of ``physical``."""
        member = self._members[0][1]
        return member.normalized(_recent(obs, member), actions)

    def sha256(self) -> str:
        """Of members and weights."""
        parts = [f"{weight} {member.sha256()}" for weight, member in zip(self.weights, self._everyone, strict=True)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _sum(self, each: Sequence[Tensor]) -> Tensor:
        weighted = [weight * value for (weight, _), value in zip(self._members, each, strict=True)]
        return torch.stack(weighted).sum(dim=0)


def _loaded(member: Any) -> Any:
    if not isinstance(member, str | Path):
        return member
    from robot_rl.learning.checkpoint import load_checkpoint

    return load_checkpoint(Path(member))


def _recent(obs: Mapping[str, Tensor], member: WhiteBox) -> dict[str, Tensor]:
    """What a member reads, of windows that may reach further back."""
    return {key: obs[key][:, -member.spec.history :] for key in member.spec.observation}


def _condition_size(member: WhiteBox) -> int:
    blank = {
        key: torch.zeros((1, member.spec.history, *value.shape), dtype=getattr(torch, value.dtype))
        for key, value in member.spec.observation.items()
    }
    return member.encode(blank).shape[-1]


def _check_alike(first: WhiteBox, member: WhiteBox) -> None:
    """Raise SpecMismatchError unless both denoise the same thing in the same units."""
    one, other = first.action_normalizer, member.action_normalizer
    differ = {
        "actions": first.spec.action != member.spec.action,
        "T_p": first.spec.horizon != member.spec.horizon,
        "rate": first.rate_hz != member.rate_hz,
        "noise schedule": not np.array_equal(first.schedule.signal, member.schedule.signal)
        or not np.array_equal(first.schedule.sigma, member.schedule.sigma),
        "prediction": first.sampler.prediction != member.sampler.prediction,
        "action normaliser": not np.array_equal(one.offset["action"], other.offset["action"])
        or not np.array_equal(one.scale["action"], other.scale["action"]),
        "symmetry": _symmetry(first) != _symmetry(member),
    }
    if found := [name for name, differs in differ.items() if differs]:
        raise SpecMismatchError(
            f"policies to compose differ in {', '.join(found)}", remedy="Train both on the same data and action option"
        )


def _symmetry(member: WhiteBox) -> Any:
    """What a member plans in a half of: None, or numbers that compare."""
    symmetry = getattr(member, "symmetry", None)
    if symmetry is None:
        return None
    maps = {key: (value.tolist(), symmetry.offset[key].tolist()) for key, value in symmetry.matrix.items()}
    return maps, symmetry.side_key, symmetry.normal.tolist(), symmetry.threshold
