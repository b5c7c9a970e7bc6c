"""Learns the gripper's choices beside the arm's actor-critic (HIL-SERL, Luo et al. 2024): double Q-learning over a few
openings (van Hasselt et al. 2016), one step ahead, and alone in paying for moving the fingers."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.learning.named_optimizer import adam
from robot_rl.types import PolicySpec


class GraspCritic:
    """Trains the values that choose in the acting policy.

    Features come detached: the encoder is the arm's. Data of any source counts as the choice nearest to what was
    commanded.

    Args:
        values: the policy's network (policies.gripper_values), changed in place.
        spec: of the policy; it must see the opening that a penalty depends on.
        penalty: taken from the reward of a step that opens or closes.
        bounds: attainable returns without the penalty.
        discount: per control step.
        n_step: of the batches, which the arm's critics share: 1.
    """

    def __init__(
        self,
        values: Any,
        spec: PolicySpec,
        *,
        penalty: float,
        bounds: tuple[float, float],
        discount: float,
        n_step: int,
        learning_rate: float,
        polyak: float,
    ) -> None:
        if penalty < 0.0:
            raise ConfigError(f"gripper_penalty={penalty}", limit="0 or more")
        if n_step != 1:
            raise ConfigError(f"n_step={n_step} with a gripper that is chosen", remedy="Set algorithm.n_step=1")
        if penalty and values.measured not in spec.observation:
            raise ConfigError(
                f"a gripper_penalty, but the policy does not observe '{values.measured}'",
                remedy="Add it to the policy's features, or set algorithm.gripper_penalty=0",
            )
        self.values, self.penalty, self.polyak = values, penalty, polyak
        self.target = copy.deepcopy(values).requires_grad_(False)
        self._bounds = (bounds[0] - penalty / (1.0 - discount), bounds[1])
        self.optimizer = adam("moments.gripper", values.named_parameters(prefix="gripper"), learning_rate)

    def update(self, batch: Mapping[str, Tensor], features: Tensor, next_features: Tensor) -> dict[str, Tensor]:
        """One gradient step on a 1-step batch {key: [B, ...]} as ReplaySampler gives it, features [B, F] of both ends.

        Returns the loss, the mean value of what was chosen, and the share of steps that moved the fingers.
        """
        choice = self.values.choices(batch["action"][:, 0])
        moved = self._moved(batch, choice)
        target = self.targets(batch["reward"] - self.penalty * moved, batch["bootstrap"], next_features)
        chosen = self.values(features.detach()).gather(-1, choice[:, None])[:, 0]
        loss = F.mse_loss(chosen, target)
        loss.backward()
        self.optimizer.step()
        self._follow()
        return {"grasp_loss": loss.detach(), "grasp_q": chosen.detach().mean(), "gripper_moves": moved.mean()}

    @torch.no_grad()
    def targets(self, reward: Tensor, bootstrap: Tensor, next_features: Tensor) -> Tensor:
        """r + bootstrap * Q_target(s', argmax Q(s')), [B], within attainable returns."""
        best = self.values(next_features).argmax(dim=-1, keepdim=True)
        ahead = self.target(next_features).gather(-1, best)[:, 0]
        return (reward + bootstrap * ahead).clamp(*self._bounds)

    def _moved(self, batch: Mapping[str, Tensor], choice: Tensor) -> Tensor:
        """1 where a step opened or closed, else 0, [B]; all 0 where the opening is not observed."""
        measured = batch.get(f"obs/{self.values.measured}")
        if measured is None:
            return torch.zeros_like(batch["reward"])
        return self.values.moves(choice, measured[:, -1].flatten(1)[:, 0]).float()

    @torch.no_grad()
    def _follow(self) -> None:
        for slow, fast in zip(self.target.parameters(), self.values.parameters(), strict=True):
            slow.lerp_(fast, self.polyak)

    def networks(self) -> dict[str, Tensor]:
        """What is learnt beside the policy, by name."""
        return {f"target.gripper.{name}": value for name, value in self.target.state_dict().items()}
