"""A tanh-squashed Gaussian over vectors in (-1, 1) (Haarnoja et al. 2018), such as whole chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.mlp import mlp


class SquashedGaussian(nn.Module):
    """a = tanh(mean + std * noise) of features.

    Args:
        feature_size, action_size: F and A, given by the learner.
        hidden: widths of the hidden layers.
        log_std: bounds of the standard deviation's logarithm, before the squashing.
    """

    def __init__(
        self,
        feature_size: int,
        action_size: int,
        *,
        hidden: Sequence[int] = (256, 256),
        log_std: Sequence[float] = (-5.0, 2.0),
    ) -> None:
        super().__init__()
        self.body = mlp(feature_size, hidden, 2 * action_size)
        self.low, self.high = float(log_std[0]), float(log_std[1])

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F], standard-normal noise [N, B, A] -> actions [N, B, A], log-density there [N, B]."""
        mean, log_std = self.body(features).float().chunk(2, dim=-1)
        log_std = self.low + 0.5 * (self.high - self.low) * (torch.tanh(log_std) + 1.0)
        before = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        # log(1 - tanh(u)^2), in a form that does not lose its digits for large |u|
        squash = 2.0 * (math.log(2.0) - before - F.softplus(-2.0 * before))
        return torch.tanh(before), (gaussian - squash).sum(dim=-1)
