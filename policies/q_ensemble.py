"""An ensemble of critics whose layers are batched products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What passes between the layers of two members (256 wide, 256 rows) fits a core's second-level cache, that of ten does
# not: ten at once take 1.5 to 1.8 times as long, and twice as long where gradients go back through them. A GPU takes
# all of them in one product.
CPU_BLOCK = 2


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

    @property
    def block(self) -> int:
        """Members that are best asked at a time: on a GPU all."""
        return self.members if self.out.weight.is_cuda else min(CPU_BLOCK, self.members)

    def forward(self, features: Tensor, action: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Features [B, F] and normalised actions [B, A] (or [E, B, ...] for one input each) -> values [E, B].

        With ``chosen`` [M] only those members are computed: values [M, B].
        """
        x = torch.cat((features, action), dim=-1)
        if x.dim() == 2:
            x = x.expand(self.members if chosen is None else len(chosen), *x.shape)
        size = len(x) if x.is_cuda else CPU_BLOCK
        blocks = zip(x.split(size), *(_split(layer, chosen, size) for layer in self.weights()), strict=True)
        return torch.cat([self._block(*block) for block in blocks]).squeeze(-1)

    def weights(self) -> list[tuple[Tensor, ...]]:
        """Of each layer: products, biases and, where it normalises, scales and shifts; the members lead."""
        return [layer.weights for layer in (*self.layers, self.out)]  # type: ignore[misc]

    @staticmethod
    def judge(weights: Sequence[Sequence[Tensor]], features: Tensor, action: Tensor) -> Tensor:
        """Values [m, B] of the members with these ``weights``, at features [B, F] and normalised actions [B, A]: what
        ``forward`` computes, as a pure function."""
        x = torch.cat((features, action), dim=-1)
        x = x.expand(len(weights[0][0]), *x.shape)
        for layer in weights[:-1]:
            x = F.relu(_affine(x, *layer))
        return _affine(x, *weights[-1]).squeeze(-1)

    def _block(self, x: Tensor, *weights: Sequence[Tensor]) -> Tensor:
        """Some members from the input to the values [., B, 1]."""
        for layer, its in zip((*self.layers, self.out), weights, strict=True):
            x = layer(x, *its)
        return x


class _EnsembleLinear(nn.Module):
    """E affine maps [E, B, a] -> [E, B, b], initialised as torch.nn.Linear is."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """What ``forward`` takes, of all members."""
        return self.weight, self.bias

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return _affine(x, weight, bias)


class _EnsembleLayer(nn.Module):
    """Affine map, LayerNorm with a scale and shift per member, ReLU."""

    def __init__(self, members: int, inputs: int, outputs: int, layer_norm: bool) -> None:
        super().__init__()
        self.linear, self.layer_norm = _EnsembleLinear(members, inputs, outputs), layer_norm
        self.activation = nn.ReLU()
        if layer_norm:
            self.scale = nn.Parameter(torch.ones(members, 1, outputs))
            self.shift = nn.Parameter(torch.zeros(members, 1, outputs))

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """As _EnsembleLinear's."""
        return (*self.linear.weights, self.scale, self.shift) if self.layer_norm else self.linear.weights

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor, *norm: Tensor) -> Tensor:
        return self.activation(_affine(x, weight, bias, *norm))


def _affine(x: Tensor, weight: Tensor, bias: Tensor, *norm: Tensor) -> Tensor:
    x = torch.baddbmm(bias, x, weight)
    if not norm:
        return x
    scale, shift = norm
    return F.layer_norm(x, x.shape[-1:]) * scale + shift


def _split(values: Sequence[Tensor], chosen: Tensor | None, size: int) -> list[tuple[Tensor, ...]]:
    parts = [(value if chosen is None else value[chosen]).split(size) for value in values]
    return list(zip(*parts, strict=True))
