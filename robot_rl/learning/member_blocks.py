"""The members of an ensemble some at a time, so that gradients go back through them before the next ones are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

Weights = Sequence[Sequence[Tensor]]  # of layers; the members lead


class Block:
    """Some members: their weights, and the place of their gradients."""

    def __init__(self, weights: Weights, gradients: Weights, members: slice) -> None:
        self.weights = [tuple(weight.detach()[members] for weight in layer) for layer in weights]
        self._gradients = [gradient[members] for layer in gradients for gradient in layer]

    @torch.no_grad()
    def learn(self, gradients: Weights) -> None:
        """Keep these, in the order of the weights, as the members' gradients."""
        given = [gradient for layer in gradients for gradient in layer]
        torch._foreach_copy_(self._gradients, given)  # pyright: ignore[reportPrivateImportUsage]


class MemberBlocks:
    """Blocks of ``ensemble``, which says by ``block`` how many of its ``members`` make one.

    The weights stay where they are: what an optimiser does to them is seen here.
    """

    def __init__(self, ensemble: nn.Module) -> None:
        self._weights: Weights = ensemble.weights()  # type: ignore[operator]
        self._gradients = [tuple(torch.zeros_like(weight) for weight in layer) for layer in self._weights]
        members, size = int(ensemble.members), int(ensemble.block)  # type: ignore[arg-type]
        starts = range(0, members, size)
        self._blocks = [Block(self._weights, self._gradients, slice(first, first + size)) for first in starts]

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    def hand_over(self) -> None:
        """Give the ensemble the gradients that its blocks have."""
        for weights, gradients in zip(self._weights, self._gradients, strict=True):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
