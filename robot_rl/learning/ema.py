"""Exponential moving average of weights: what is evaluated, saved and deployed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class ExponentialMovingAverage:
    """Average with a decay that grows from 0: 1 - (1 + step)^-power, at most ``maximum`` (Chi et al. 2023)."""

    def __init__(self, parameters: Mapping[str, Tensor], power: float = 0.75, maximum: float = 0.9999) -> None:
        self.power, self.maximum, self.step = power, maximum, 0
        self.average = {name: value.detach().clone() for name, value in parameters.items()}

    def decay(self) -> float:
        """Weight of the past at the current step."""
        return min(1 - (1 + self.step) ** -self.power, self.maximum)

    @torch.no_grad()
    def update(self, parameters: Mapping[str, Tensor]) -> None:
        """Move the average towards ``parameters``, once per gradient step."""
        move = 1 - self.decay()
        for name, average in self.average.items():
            average.lerp_(parameters[name].detach(), move)
        self.step += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The average under ``average.``, and its step."""
        named = {f"average.{name}": value for name, value in self.average.items()}
        return {**named, "average_step": torch.tensor(self.step)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``, whatever else the training state holds."""
        for name, average in self.average.items():
            average.copy_(state[f"average.{name}"])
        self.step = int(state["average_step"])
