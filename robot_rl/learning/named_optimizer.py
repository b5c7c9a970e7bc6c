"""An optimiser whose moments go by the names of their weights, into the flat tensors of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor


class NamedOptimizer:
    """Steps the weights ``named``.

    Args:
        prefix: of the moments' names in a training state.
        make: called with the list of weights.
    """

    def __init__(
        self, prefix: str, named: Mapping[str, Tensor], make: Callable[[list[Tensor]], torch.optim.Optimizer]
    ) -> None:
        self.prefix, self.named = prefix, dict(named)
        self.optimizer = make(list(self.named.values()))

    def step(self) -> None:
        """One step along the gradients, which are used up."""
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """``<prefix>.<weight>.<moment>``; empty before the first step."""
        return {
            f"{self.prefix}.{name}.{key}": torch.as_tensor(moment)
            for name, value in self.named.items()
            for key, moment in self.optimizer.state.get(value, {}).items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the moments found in a training state, whatever else it holds."""
        for name, value in self.named.items():
            prefix = f"{self.prefix}.{name}."
            moments = {
                key.removeprefix(prefix): moment.clone().to(value.device)  # the step count too: Adam is fused
                for key, moment in state.items()
                if key.startswith(prefix)
            }
            if moments:
                self.optimizer.state[value] = moments


def adam(prefix: str, named: Iterable[tuple[str, Tensor]], learning_rate: float) -> NamedOptimizer:
    """Adam over those of the weights that are trained."""
    trained = {name: value for name, value in named if value.requires_grad}
    return NamedOptimizer(prefix, trained, lambda weights: torch.optim.Adam(weights, learning_rate, fused=True))
