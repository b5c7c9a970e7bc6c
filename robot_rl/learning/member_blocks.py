"""The members of an ensemble some at a time, so that gradients go back through them before the next ones are asked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Weights = Sequence[Sequence[Tensor]]  # of layers; the members lead


def blocks_of(ensemble: nn.Module) -> list[Weights]:
    """Weights of its ``members``, so many at a time as it says by ``block``.

    They share the ensemble's memory: what an optimiser does to it is seen in them.
    """
    members, size = int(ensemble.members), int(ensemble.block)  # type: ignore[arg-type]
    layers: Weights = ensemble.weights()  # type: ignore[operator]
    return [
        [tuple(weight.detach()[first : first + size] for weight in layer) for layer in layers]
        for first in range(0, members, size)
    ]


def hand_over(weights: Weights, gradients: Sequence[Weights]) -> None:
    """Make the gradients of all blocks those of the ensemble's ``weights``."""
    for layer, *its in zip(weights, *gradients, strict=True):
        for weight, *parts in zip(layer, *its, strict=True):
            weight.grad = parts[0] if len(parts) == 1 else torch.cat(parts)
