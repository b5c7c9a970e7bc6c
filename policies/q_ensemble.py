"""An ensemble of critics whose layers are batched products: E networks cost little more than one wide one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QEnsemble(nn.Module):
    """E independent MLPs Q_e(features, action), ReLU after LayerNorm (Ball et al. 2023, RLPD).

    Args:
        feature_size, action_size: F and A, given by the learner.
        members: E.
        hidden: widths of the hidden layers.
        layer_norm: normalise every hidden layer; keeps values of unseen actions bounded (RLPD, section 4.2).
    """

    def __init__(
        self,
        feature_size: int,
        action_size: int,
        *,
        members: int = 2,
        hidden: Sequence[int] = (256, 256),
        layer_norm: bool = True,
    ) -> None:
        super().__init__()
        self.members = members
        sizes = [feature_size + action_size, *hidden]
        self.layers = nn.ModuleList(_EnsembleLayer(members, a, b, layer_norm) for a, b in pairwise(sizes))
        self.out = _EnsembleLinear(members, sizes[-1], 1)

    def forward(self, features: Tensor, action: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Features [B, F] and normalised actions [B, A] (or [E, B, ...] for one input each) -> values [E, B].

        With ``chosen`` [M] only those members are computed: values [M, B].
        """
        x = torch.cat((features, action), dim=-1)
        if x.dim() == 2:
            x = x.expand(self.members if chosen is None else len(chosen), *x.shape)
        for layer in self.layers:
            x = layer(x, chosen)
        return self.out(x, chosen).squeeze(-1)


class _EnsembleLinear(nn.Module):
    """E affine maps [E, B, a] -> [E, B, b], initialised as torch.nn.Linear is."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        weight, bias = (value if chosen is None else value[chosen] for value in (self.weight, self.bias))
        return torch.baddbmm(bias, x, weight)


class _EnsembleLayer(nn.Module):
    """Affine map, LayerNorm with a scale and shift per member, ReLU."""

    def __init__(self, members: int, inputs: int, outputs: int, layer_norm: bool) -> None:
        super().__init__()
        self.linear, self.layer_norm = _EnsembleLinear(members, inputs, outputs), layer_norm
        self.activation = nn.ReLU()
        if layer_norm:
            self.scale = nn.Parameter(torch.ones(members, 1, outputs))
            self.shift = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor, chosen: Tensor | None = None) -> Tensor:
        x = self.linear(x, chosen)
        if self.layer_norm:
            scale, shift = (value if chosen is None else value[chosen] for value in (self.scale, self.shift))
            x = F.layer_norm(x, x.shape[-1:]) * scale + shift
        return self.activation(x)
