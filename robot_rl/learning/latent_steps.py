"""What both forms of DSRL have in common: the step of the actor that proposes noise, and how it is kept near the prior.

The actor climbs what critics of noise say, less a price times a distance from the prior N(0, I); the price is learnt so
that the distance meets its target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.learning.batches import array_path
from robot_rl.learning.ema import ExponentialMovingAverage
from robot_rl.learning.named_optimizer import NamedOptimizer, adam
from robot_rl.learning.training_state import fill, part
from robot_rl.types import EnvSpec

NEXT = "next/"
REGULARISERS = ("divergence", "entropy")


class SteeringActor(Protocol):
    """A policy that acts by the noise it gives a frozen generator, e.g. policies.steered."""

    env_spec: EnvSpec
    horizon: int  # T_a
    latent_size: int  # L
    chunk_size: int  # h * A
    encoder: nn.Module
    actor: nn.Module  # noise of features and draws
    critic: nn.Module  # of noise
    device: torch.device

    @property
    def module(self) -> nn.Module:
        """Encoder and actor."""
        ...

    @property
    def spec(self) -> Any: ...

    @property
    def feature_size(self) -> int: ...

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor: ...

    def new_critic(self, action_size: int) -> nn.Module: ...

    def chunks(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor: ...

    def chunk(self, actions: Tensor) -> Tensor: ...

    def density(self, features: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, F] and draws [B, L] -> noise [B, L], its log-density [B] and KL from the prior [B]."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class LatentSteps:
    """Actor and price, with their optimisers.

    Args:
        regulariser: ``divergence``: KL from the prior, at most ``target`` nats per dimension; ``entropy``: the paper's,
            at least ``target`` nats in all.
        initial_price: of a nat, in units of value; scaled with ``span``, the width of attainable returns. With a low
            one the actor runs to where critics of noise know nothing yet.
        price_rate: learning rate of its logarithm: it soon falls to what differences of value are worth.
        deviations: a noise is worth its critics' mean minus so many of their standard deviations.
        averaging: what acts is an average of the actor that keeps at most this share of the past per step; 0: newest.
    """

    def __init__(
        self,
        policy: SteeringActor,
        *,
        regulariser: str,
        target: float,
        initial_price: float,
        price_rate: float,
        span: float,
        deviations: float,
        averaging: float,
        learning_rate: float,
    ) -> None:
        if regulariser not in REGULARISERS:
            raise ConfigError(f"no regulariser '{regulariser}'", remedy=valid_choices(regulariser, REGULARISERS))
        self.policy, self._deviations, self._divergence = policy, deviations, regulariser == "divergence"
        self._target = target * policy.latent_size if self._divergence else target
        self.log_price = torch.tensor(math.log(initial_price * span), device=policy.device, requires_grad=True)
        self.actor = adam("moments.actor", policy.actor.named_parameters(prefix="actor"), learning_rate)
        self._price = adam("moments.price", [("price", self.log_price)], price_rate)
        self.average = ExponentialMovingAverage(self.actor.named, maximum=averaging) if averaging else None

    def step(self, critics: nn.Module, features: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One step of the actor up ``critics`` (features, noise) -> [E, B], and one of the price."""
        draws = torch.randn((len(features), self.policy.latent_size), generator=generator).to(features.device)
        noise, log_density, divergence = self.policy.density(features, draws)
        cost = divergence if self._divergence else log_density
        for weight in critics.parameters():  # they judge, they do not learn
            weight.requires_grad_(False)
        values = critics(features, noise)
        value = values.mean(dim=0) - self._deviations * values.std(dim=0, unbiased=False)
        price = self.log_price.detach().exp()
        (price * cost - value).mean().backward()
        for weight in critics.parameters():
            weight.requires_grad_(True)
        self.actor.step()
        if self.average is not None:
            self.average.update(self.actor.named)
        mean = cost.detach().mean()
        # up while the distance is beyond its target: entropy is the negative of its cost
        wanted = self._target if self._divergence else -self._target
        self.log_price.grad = price * (wanted - mean)
        self._price.step()
        return {
            "noise_value": value.detach().mean(),
            "divergence": divergence.detach().mean() / self.policy.latent_size,
            "entropy": -log_density.detach().mean(),
            "price": price,
        }

    # --- states

    def acting_state(self) -> dict[str, Tensor]:
        """The policy's state, copied; the actor's weights averaged where they are to be."""
        state = {key: value.detach().clone() for key, value in self.policy.state_dict().items()}
        averaged = {} if self.average is None else self.average.average
        return state | {f"module.{name}": value.clone() for name, value in averaged.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Policy, price, moments and average, as flat tensors."""
        state = {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        averaged = {} if self.average is None else self.average.state_dict()
        return {**state, "log_price": self.log_price.detach(), **averaged, **self.moments()}

    def moments(self) -> dict[str, Tensor]:
        """Of both optimisers."""
        return self.actor.state_dict() | self._price.state_dict()

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.policy.load_state_dict(part(state, "policy."))
        fill({"log_price": self.log_price}, state)
        for optimizer in (self.actor, self._price):
            optimizer.load_state_dict(state)
        if self.average is not None:
            self.average.load_state_dict(state)


def critic_optimizer(policy: SteeringActor, critic: nn.Module, learning_rate: float) -> NamedOptimizer:
    """Of the critics and of the encoder, which learns from their loss alone."""
    learnt = [*critic.named_parameters(prefix="critic"), *policy.encoder.named_parameters(prefix="encoder")]
    return adam("moments.critic", learnt, learning_rate)


def observed(policy: SteeringActor, batch: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """What policy and base see of a batch of transitions, at s or (``next/``) at s'."""
    return {key: batch[f"{prefix}{array_path(key)}"] for key in policy.spec.observation}
