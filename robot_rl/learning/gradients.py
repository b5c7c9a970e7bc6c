"""Gradients of a function where they are needed at once, not left for later: compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten


def gradients(function: Callable[..., tuple[Tensor, Tensor]], *at: Any) -> tuple[tuple[Any, ...], Tensor]:
    """Gradients of the first thing that ``function(*at)`` returns to each of ``at`` (tensors, or sequences of them),
    and the second.

    What is compiled is one graph, there and back; without compiling autograd is quicker than torch.func by a quarter
    of an update.
    """
    if torch.compiler.is_compiling():
        return torch.func.grad(function, tuple(range(len(at))), has_aux=True)(*at)
    leaves, shape = tree_flatten(tree_map(lambda value: value.detach().requires_grad_(), at))
    output, told = function(*tree_unflatten(leaves, shape))
    return tree_unflatten(torch.autograd.grad(output, leaves), shape), told.detach()
