"""The two losses of soft actor-critic with an ensemble (Haarnoja et al. 2018; Ball et al. 2023) and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.learning.compilation import begin_step, compiler
from robot_rl.learning.gradients import gradients
from robot_rl.learning.member_blocks import Weights, blocks_of, hand_over

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class StochasticActor(Protocol):
    """A reparametrised policy with tanh-bounded actions, e.g. policies.gaussian."""

    @property
    def module(self) -> nn.Module:
        """Its trainable parts: ``encoder`` (trained by the critic's loss) and ``body``."""
        ...

    @property
    def spec(self) -> Any: ...

    @property
    def feature_size(self) -> int: ...

    @property
    def action_size(self) -> int:
        """Components that it commands: all, or all but the gripper's."""
        ...

    @property
    def gripper(self) -> Any:
        """What chooses the gripper's opening (policies.gripper_values), or None."""
        ...

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor: ...

    def sample(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]: ...

    def normalised(self, action: Tensor) -> Tensor: ...

    def state_dict(self) -> dict[str, Tensor]: ...


class SoftLosses:
    """Losses of critics and actor, and their gradients.

    Critics are asked ``block`` members at a time, forward and back: what passes between their layers stays in a core's
    cache meanwhile, and what is compiled is small and the same for all blocks. On a GPU all members are one block.

    Args:
        actor, critic, target: the networks. The critics tell their number by ``members``, and by ``block`` how many are
            asked at a time, of which ``judge`` makes values by their share of the ``weights``.
        subset: M target critics that make a target.
        entropy_backup: subtract the entropy term in the target.
        bounds: attainable returns, to which targets are clipped; with the entropy's bonus returns have no bounds.
        precision: of the products; weights, targets and losses are float32.
        compiled: see ``compilation.compiler``.
    """

    def __init__(
        self,
        actor: StochasticActor,
        critic: nn.Module,
        target: nn.Module,
        *,
        subset: int,
        entropy_backup: bool,
        bounds: tuple[float, float],
        precision: str,
        compiled: bool | str,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"no precision '{precision}'", limit=", ".join(PRECISIONS))
        self._actor, self._target = actor, target
        self._judge: Callable[..., Tensor] = critic.judge  # type: ignore[assignment]
        self._device = next(actor.module.parameters()).device
        self._members = int(critic.members)  # type: ignore[arg-type]
        self._all = subset == self._members
        self._entropy_backup, self._bounds, self._precision = entropy_backup, bounds, PRECISIONS[precision]
        self._weights: Weights = critic.weights()  # type: ignore[operator]
        self._blocks = blocks_of(critic)
        compile = compiler(compiled, self._device)
        self._target_of, self._error_of = compile(self.target_of), compile(self.error_of)
        self._act, self._slope_of = compile(self.act), compile(self.slope_of)

    # --- one step each

    def of_critic(
        self,
        features: Tensor,
        action: Tensor,
        reward: Tensor,
        bootstrap: Tensor,
        next_features: Tensor,
        noise: Tensor,
        chosen: Tensor,
        log_temperature: Tensor,
    ) -> Tensor:
        """Squared error of all critics against one target, its gradient left in their weights and behind ``features``;
        means of (the same, values, target).

        ``features`` and ``next_features`` [K * B, F] may be of K views of the same B transitions, one behind the
        other: the target is the mean over the views, and all of them learn it (Kostrikov et al. 2021, equation 4).
        """
        begin_step(self._device)
        target = self._target_of(reward, bootstrap, next_features, noise, chosen, log_temperature)
        found = [
            self._error_of(block, features.detach(), action, target, features.requires_grad) for block in self._blocks
        ]
        hand_over(self._weights, [of_weights for (of_weights, *_), _ in found])
        if features.requires_grad:
            features.backward(_added([behind for (_, behind), _ in found]))
        return _added([means for _, means in found]).clone()  # what a CUDA graph gave is void in its next step

    def of_actor(
        self,
        features: Tensor,
        noise: Tensor,
        log_temperature: Tensor,
        shown: Tensor | None = None,
        imitation: Tensor | None = None,
    ) -> Tensor:
        """What the actor descends, temperature times log-density less the critics' mean, its gradient left in the
        actor's weights; means of (the same, log-density).

        With ``shown`` [S, A], the actions that demonstrations took at the last S of ``features``, the mean action's
        squared distance from them is added, ``imitation`` times (Nair et al. 2018, without the filter by Q: early
        critics prefer their own errors).
        """
        begin_step(self._device)
        action, *terms = self._act(features, noise, shown)  # log-density, distance
        slopes, values = zip(*(self._slope_of(block, features, action.detach()) for block in self._blocks), strict=True)
        weights = [log_temperature.exp(), imitation][: len(terms)]
        torch.autograd.backward((action, *terms), (-_added(slopes), *weights))
        with torch.no_grad():
            loss = sum(weight * term for weight, term in zip(weights, terms, strict=True)) - _added(values)  # type: ignore[operator]
            return torch.stack((loss, terms[0]))

    # --- what is compiled

    @torch.no_grad()
    def target_of(
        self,
        reward: Tensor,
        bootstrap: Tensor,
        next_features: Tensor,
        noise: Tensor,
        chosen: Tensor,
        log_temperature: Tensor,
    ) -> Tensor:
        """Reward and what is ahead by the least of the chosen critics, [B]."""
        with self._cast():
            next_action, log_prob = self._actor.sample(next_features, noise)
            ahead = self._target(next_features, next_action, None if self._all else chosen).float().amin(dim=0)
        if self._entropy_backup:
            ahead = ahead - log_temperature.exp() * log_prob
        copies = len(next_features) // len(reward)
        target = reward + bootstrap * ahead.view(copies, -1).mean(dim=0)
        return target if self._entropy_backup else target.clamp(*self._bounds)

    def error_of(
        self, weights: Weights, features: Tensor, action: Tensor, target: Tensor, through: bool
    ) -> tuple[tuple[Any, ...], Tensor]:
        """Share of the critics with these ``weights`` in the gradient of the mean squared error, to the weights and, if
        it goes ``through`` them, to the features; and in the means of (error, values, target)."""
        copies = len(features) // len(target)
        taken, wanted = action.repeat(copies, 1), target.repeat(copies)

        def error(weights: Weights, features: Tensor = features) -> tuple[Tensor, Tensor]:
            values = self._values(weights, features, taken)
            share = len(values) / self._members
            loss = share * F.mse_loss(values, wanted.expand_as(values))
            return loss, torch.stack((loss, share * values.mean(), share * target.mean()))

        return gradients(error, weights, *([features] if through else []))

    def act(self, features: Tensor, noise: Tensor, shown: Tensor | None) -> tuple[Tensor, ...]:
        """Actions [B, A], their mean log-density, and the mean action's squared distance from what is ``shown``."""
        with self._cast():
            action, log_prob = self._actor.sample(features, noise)
        if shown is None:
            return action, log_prob.mean()
        with self._cast():
            mean, _ = self._actor.sample(features[-len(shown) :], torch.zeros_like(shown))
        return action, log_prob.mean(), (mean.float() - shown).square().sum(dim=-1).mean()

    def slope_of(self, weights: Weights, features: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Share of the critics with these ``weights`` in the mean value: its gradient to the actions, and it."""

        def value(action: Tensor) -> tuple[Tensor, Tensor]:
            values = self._values(weights, features, action)
            mean = len(values) / self._members * values.mean()
            return mean, mean

        (slope,), mean = gradients(value, action)
        return slope, mean

    def _values(self, weights: Weights, features: Tensor, action: Tensor) -> Tensor:
        with self._cast():
            return self._judge(weights, features, action).float()

    def _cast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision is torch.bfloat16)


def _added(parts: Sequence[Tensor]) -> Tensor:
    return sum(parts[1:], parts[0])


def attainable_returns(scale: float, shift: float, discount: float) -> tuple[float, float]:
    """Least and largest discounted return when a 0/1 success, scaled and shifted, ends the episode.

    Without shift it is [0, scale]; a shift b < 0 is paid every step, for ever at worst: [b / (1 - gamma), scale + b]
    and at most 0 for scale = -b = 1.
    """
    if scale <= 0.0 or shift > 0.0:
        raise ConfigError(f"reward_scale={scale}, reward_shift={shift}", limit="scale > 0, shift <= 0")
    return (shift / (1.0 - discount) if shift else 0.0), scale + shift
