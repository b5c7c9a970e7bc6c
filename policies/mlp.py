"""The plain network of policies and critics: linear layers, LayerNorm, ReLU."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def mlp(inputs: int, hidden: Sequence[int], outputs: int, layer_norm: bool = True) -> nn.Sequential:
    """[..., inputs] -> [..., outputs], each hidden layer normalised before its ReLU if ``layer_norm``."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), *([nn.LayerNorm(width)] if layer_norm else []), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
