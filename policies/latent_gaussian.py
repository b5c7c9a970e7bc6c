"""The latent that a generator is steered by: w = 3 tanh(u / 3) with u Gaussian, the prior itself at the start.

A box of 1 holds a draw of the prior in 28 dimensions with probability 0; this one hardly bends what lies within two
standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.mlp import mlp

REACH = 3.0  # |w| stays below


class LatentGaussian(nn.Module):
    """u ~ N(mean, std) of features, mean 0 and std 1 before training.

    Args:
        feature_size, latent_size: F and L.
        hidden: widths of the hidden layers.
        log_std: bounds of the standard deviation's logarithm, on either side of 0.
    """

    def __init__(
        self,
        feature_size: int,
        latent_size: int,
        *,
        hidden: Sequence[int] = (256, 256),
        log_std: Sequence[float] = (-4.0, 1.0),
    ) -> None:
        super().__init__()
        self.body = mlp(feature_size, hidden, 2 * latent_size)
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        low, high = float(log_std[0]), float(log_std[1])
        self._middle, self._half = 0.5 * (high + low), 0.5 * (high - low)
        self._start = math.atanh(-self._middle / self._half)  # where log_std is 0

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F] -> mean and logarithm of the standard deviation of u, [B, L] each."""
        mean, raw = self.body(features).float().chunk(2, dim=-1)
        return mean, self._middle + self._half * torch.tanh(raw + self._start)

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        """Features [B, F] and noise [..., B, L] -> w [..., B, L]."""
        mean, log_std = self.moments(features)
        return squashed(mean + log_std.exp() * noise)


def squashed(u: Tensor) -> Tensor:
    """u -> w, strictly inside the reach."""
    return REACH * torch.tanh(u / REACH)


def log_density(mean: Tensor, log_std: Tensor, noise: Tensor) -> Tensor:
    """log p(w) [...] at w = squashed(mean + std * noise), [..., L] each: Gaussian less log dw/du = log(1 - tanh^2)."""
    x = (mean + log_std.exp() * noise) / REACH
    gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
    slope = 2.0 * (math.log(2.0) - x - F.softplus(-2.0 * x))
    return (gaussian - slope).sum(dim=-1)


def divergence(mean: Tensor, log_std: Tensor) -> Tensor:
    """KL(N(mean, std) || N(0, I)) [...], [..., L] each, in nats.

    The same for w and the prior brought within reach alike, since u -> w is one-to-one.
    """
    return (0.5 * (mean.square() + (2.0 * log_std).exp() - 1.0) - log_std).sum(dim=-1)
