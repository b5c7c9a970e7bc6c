"""Values of a gripper's few openings: the discrete part of an action (HIL-SERL, Luo et al. 2024, section III-C).

A Gaussian explores a gripper badly: fingers that tremble between open and closed hold nothing. Here the gripper's part
of the action is a choice, and the best one acts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.mlp import mlp
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.types import ActionKind, ActionSpec


class GripperValues(nn.Module):
    """Q(features, choice) of K openings.

    An opening is an absolute target, so a repeated choice stays where it is: there is none for staying.

    Args:
        feature_size, action: F and the whole action, given by the policy.
        openings: the choices in the action part's unit; what a human or a demonstration commanded is the nearest one.
        part: of the action; None is its only part of kind ``gripper``.
        measured: observation that tells the opening, for ``moves``.
        open_above: openings from here on count as open, measured and chosen ones alike.
        hidden, layer_norm: of the network.
        epsilon: share of exploring decisions that are drawn at random.
    """

    def __init__(
        self,
        feature_size: int,
        action: ActionSpec,
        *,
        openings: Sequence[float] = (0.0, 1.0),
        part: str | None = None,
        measured: str = "arm0/gripper_opening",
        open_above: float = 0.9,
        hidden: Sequence[int] = (256, 256),
        layer_norm: bool = True,
        epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        self.component = _component(action, part)
        low, high = float(action.low[self.component]), float(action.high[self.component])
        if len(openings) < 2 or not all(low <= opening <= high for opening in openings):
            raise ConfigError(f"openings={list(openings)}", limit=f"two or more from {low:g} to {high:g}")
        if not 0.0 <= epsilon <= 1.0:
            raise ConfigError(f"epsilon={epsilon}", limit="0 to 1")
        self.measured, self.open_above, self.epsilon = measured, open_above, epsilon
        self.network = mlp(feature_size, hidden, len(openings), layer_norm)
        self.openings: Tensor
        self.register_buffer("openings", torch.tensor([float(opening) for opening in openings]), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Features [B, F] -> values [B, K]."""
        return self.network(features)

    def choose(self, features: Tensor, noise: Tensor | None = None) -> Tensor:
        """Features [B, F] -> the best choice [B]; with standard-normal noise [B], now and then any."""
        best = self.network(features).argmax(dim=-1)
        if noise is None or not self.epsilon:
            return best
        uniform = 0.5 * torch.erfc(-noise / math.sqrt(2.0))
        count = len(self.openings)
        drawn = (uniform / self.epsilon * count).long().clamp(max=count - 1)
        return torch.where(uniform < self.epsilon, drawn, best)

    def choices(self, action: Tensor) -> Tensor:
        """Whole physical actions [..., A] -> the choices [...] nearest to what they command."""
        return (action[..., self.component, None] - self.openings).abs().argmin(dim=-1)

    def moves(self, choice: Tensor, measured: Tensor) -> Tensor:
        """Whether choices [B] open a gripper that is not open or close one that is, at measured openings [B]."""
        return (self.openings[choice] >= self.open_above) != (measured >= self.open_above)

    def without(self, action: Tensor) -> Tensor:
        """Whole actions [..., A] -> what is left for the arm [..., A - 1]."""
        return torch.cat((action[..., : self.component], action[..., self.component + 1 :]), dim=-1)

    def whole(self, arm: Tensor, choice: Tensor) -> Tensor:
        """Physical actions of the arm [B, A - 1] and choices [B] -> whole actions [B, A]."""
        opening = self.openings[choice][..., None]
        return torch.cat((arm[..., : self.component], opening, arm[..., self.component :]), dim=-1)


def _component(action: ActionSpec, name: str | None) -> int:
    """Place of the gripper's part in the action vector."""
    grippers = [part.name for part in action.parts if part.kind is ActionKind.GRIPPER]
    if name is None and len(grippers) != 1:
        raise ConfigError(f"an action with {len(grippers)} parts of kind gripper", remedy="Name one with gripper.part=")
    chosen = name or grippers[0]
    if chosen not in grippers:
        raise ConfigError(f"no gripper part '{chosen}' in the action", remedy=valid_choices(chosen, grippers))
    return action.slices[chosen].start
