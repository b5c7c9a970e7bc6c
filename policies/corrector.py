"""The network that corrects what a base proposes; an untrained one corrects nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.mlp import mlp


class Corrector(nn.Module):
    """tanh network of features and a proposal whose last layer is zero at the start (Ankile et al. 2024, ResiP).

    Args:
        feature_size, proposal_size, size: of what it sees, and of the correction it makes.
        hidden: widths of the hidden layers.
    """

    def __init__(self, feature_size: int, proposal_size: int, size: int, *, hidden: Sequence[int]) -> None:
        super().__init__()
        self.body = mlp(feature_size + proposal_size, hidden, size)
        last = self.body[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, features: Tensor, proposal: Tensor) -> Tensor:
        """Features [B, F] and proposals [B, P] in [-1, 1] of the limits -> corrections [B, R] in [-1, 1]."""
        return torch.tanh(self.body(torch.cat((features, proposal), dim=-1)))
