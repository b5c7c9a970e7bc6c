"""The two losses of soft actor-critic with an ensemble (Haarnoja et al. 2018; Ball et al. 2023), as pure functions of
networks and tensors: what is compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.learning.compilation import begin_step, compiler

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
    """Losses of critics and actor.

    Args:
        actor, critic, target: the networks; the critics tell their number by ``members``.
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
        self._actor, self._critic, self._target = actor, critic, target
        self._device = next(actor.module.parameters()).device
        self._all = subset == int(critic.members)  # type: ignore[arg-type]
        self._entropy_backup, self._bounds, self._precision = entropy_backup, bounds, PRECISIONS[precision]
        compile = compiler(compiled, self._device)
        self._critic_error, self._actor_objective = compile(self.critic_error), compile(self.actor_objective)

    def of_critic(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        """``critic_error``, compiled if it is to be; the means stay valid after the next call."""
        begin_step(self._device)
        loss, means = self._critic_error(*arguments)
        return loss, means.clone()

    def of_actor(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        """``actor_objective`` likewise."""
        begin_step(self._device)
        loss, means = self._actor_objective(*arguments)
        return loss, means.clone()

    def critic_error(
        self,
        features: Tensor,
        action: Tensor,
        reward: Tensor,
        bootstrap: Tensor,
        next_features: Tensor,
        noise: Tensor,
        chosen: Tensor,
        log_temperature: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Squared error of all critics against one target; means of (the same, values, target).

        ``features`` and ``next_features`` [K * B, F] may be of K views of the same B transitions, one behind the
        other: the target is the mean over the views, and all of them learn it (Kostrikov et al. 2021, equation 4).
        """
        copies = len(features) // len(reward)
        with torch.no_grad(), self._cast():
            next_action, log_prob = self._actor.sample(next_features, noise)
            ahead = self._target(next_features, next_action, None if self._all else chosen).float().amin(dim=0)
            if self._entropy_backup:
                ahead = ahead - log_temperature.exp() * log_prob
            target = reward + bootstrap * ahead.view(copies, -1).mean(dim=0)
            if not self._entropy_backup:
                target = target.clamp(*self._bounds)
        with self._cast():
            values = self._critic(features, action.repeat(copies, 1))
        values = values.float()
        loss = F.mse_loss(values, target.repeat(copies).expand_as(values))
        return loss, torch.stack((loss.detach(), values.detach().mean(), target.mean()))

    def actor_objective(
        self,
        features: Tensor,
        noise: Tensor,
        log_temperature: Tensor,
        shown: Tensor | None = None,
        imitation: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What the actor descends: temperature times log-density, less the critics' mean; means of (the same,
        log-density).

        With ``shown`` [S, A], the actions that demonstrations took at the last S of ``features``, the mean action's
        squared distance from them is added, ``imitation`` times (Nair et al. 2018, without the filter by Q: early
        critics prefer their own errors).
        """
        with self._cast():
            action, log_prob = self._actor.sample(features, noise)
            values = self._critic(features, action).float().mean(dim=0)
        loss = (log_temperature.exp() * log_prob - values).mean()
        if shown is not None and imitation is not None:
            with self._cast():
                mean, _ = self._actor.sample(features[-len(shown) :], torch.zeros_like(shown))
            loss = loss + imitation * (mean.float() - shown).square().sum(dim=-1).mean()
        return loss, torch.stack((loss.detach(), log_prob.detach().mean()))

    def _cast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision is torch.bfloat16)


def attainable_returns(scale: float, shift: float, discount: float) -> tuple[float, float]:
    """Least and largest discounted return when a 0/1 success, scaled and shifted, ends the episode.

    Without shift it is [0, scale]; a shift b < 0 is paid every step, for ever at worst: [b / (1 - gamma), scale + b]
    and at most 0 for scale = -b = 1.
    """
    if scale <= 0.0 or shift > 0.0:
        raise ConfigError(f"reward_scale={scale}, reward_shift={shift}", limit="scale > 0, shift <= 0")
    return (shift / (1.0 - discount) if shift else 0.0), scale + shift
