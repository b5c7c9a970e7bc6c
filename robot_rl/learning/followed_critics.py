"""An ensemble of critics and the targets that follow it slowly (polyak averaging)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError


class FollowedCritics:
    """Two equal ensembles, of which the second is not trained.

    Args:
        make: constructor of an ensemble; it tells its number by ``members``.
        subset: members drawn for a target.
        polyak: share of the new weights that the targets take at each ``follow``.
        seed: of the initial weights.
    """

    def __init__(
        self, make: Callable[[], nn.Module], *, subset: int, polyak: float, device: torch.device, seed: int
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.critic, self.target = (make().to(device) for _ in range(2))
        self.target.load_state_dict(self.critic.state_dict())
        self.target.requires_grad_(False)
        self._polyak = polyak
        self._weights: list[Tensor] = list(self.critic.parameters())
        self._target_weights: list[Tensor] = list(self.target.parameters())
        self._members, self._subset = int(self.critic.members), subset  # type: ignore[arg-type]
        if not 1 <= subset <= self._members:
            raise ConfigError(f"subset={subset} of {self._members} critics", limit=f"1 to {self._members}")

    def draw(self, generator: torch.Generator) -> Tensor:
        """Numbers of the members that make a target, without replacement, [M]."""
        return torch.randperm(self._members, generator=generator)[: self._subset]

    @torch.no_grad()
    def follow(self) -> None:
        """Move the targets towards the critics, once per critic step."""
        # one kernel over all tensors
        torch._foreach_lerp_(self._target_weights, self._weights, self._polyak)  # pyright: ignore[reportPrivateImportUsage]

    @contextmanager
    def judging(self) -> Iterator[None]:
        """They judge in here, they do not learn: no gradient is made for their weights."""
        for weight in self._weights:
            weight.requires_grad_(False)
        try:
            yield
        finally:
            for weight in self._weights:
                weight.requires_grad_(True)

    def networks(self) -> dict[str, Tensor]:
        """Weights of both, by name."""
        named: dict[str, Tensor] = {f"target.{name}": value for name, value in self.target.state_dict().items()}
        return named | {f"critic.{name}": value for name, value in self.critic.state_dict().items()}
