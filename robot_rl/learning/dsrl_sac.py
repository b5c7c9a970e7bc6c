"""DSRL-SAC (Wagenmaker et al. 2025): soft actor-critic whose action is the noise of a frozen generator.

Decisions are learnt from as they were taken, by the noise that was recorded with them, so that the generator is never
asked in learning: it may be far away. What a person took part in is left out; demonstrations have no noise.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.learning.batches import check_batches, place, transition_view
from robot_rl.learning.followed_critics import FollowedCritics
from robot_rl.learning.hand_over import HandOver
from robot_rl.learning.latent_steps import NEXT, LatentSteps, SteeringActor, critic_optimizer, observed
from robot_rl.learning.soft_losses import attainable_returns
from robot_rl.learning.step_generator import step_generator
from robot_rl.learning.training_state import fill, finite_numbers
from robot_rl.types import Cut, ReplayView

ONLINE = "online"


class DsrlSac:
    """A Learner. One ``update`` makes a critic step and an actor step for each group of the batches.

    Args:
        policy: acts by noise.
        subset, discount, learning_rate, polyak, reward_scale, reward_shift, actor_start, seed: as for Dsrl.
        regulariser, target, initial_price, price_rate, deviations, averaging: see LatentSteps.
        hand_over: as for Dsrl.
    """

    def __init__(
        self,
        policy: SteeringActor,
        *,
        subset: int = 2,
        discount: float = 0.99,
        actor_start: int = 1000,
        learning_rate: float = 3e-4,
        polyak: float = 0.005,
        reward_scale: float = 1.0,
        reward_shift: float = 0.0,
        regulariser: str = "divergence",
        target: float = 1.0,
        initial_price: float = 0.05,
        price_rate: float = 3e-3,
        deviations: float = 0.0,
        averaging: float = 0.0,
        hand_over: HandOver | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.hand_over, self.seed, self.step = policy, hand_over, seed, 0
        self._actor_start = actor_start
        self._bounds = attainable_returns(reward_scale, reward_shift, discount)
        view = transition_view(policy.spec, 1, discount, reward_scale, reward_shift)
        self._views = {ONLINE: replace(view, action="decision/noise", extras=("policy/arm",), cut=Cut.DROP_HUMAN)}
        make = functools.partial(policy.new_critic, policy.latent_size)
        self._critics = FollowedCritics(make, subset=subset, polyak=polyak, device=policy.device, seed=seed)
        self.steering = LatentSteps(
            policy,
            regulariser=regulariser,
            target=target,
            initial_price=initial_price,
            price_rate=price_rate,
            span=self._bounds[1] - self._bounds[0],
            deviations=deviations,
            averaging=averaging,
            learning_rate=learning_rate,
        )
        self._critic_optimizer = critic_optimizer(policy, self._critics.critic, learning_rate)

    # --- Learner

    @property
    def views(self) -> Mapping[str, ReplayView]:
        """Decisions that no human touched; each spans the control steps to the next one."""
        return self._views

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """Batches {view: {key: [G, B, ...]}} as ReplaySampler gives them. Raises as Dsrl's."""
        check_batches(batches, self.step)
        placed = place(batches[ONLINE], self.policy.device)
        metrics: dict[str, Tensor] = {}
        for group in range(len(placed["reward"])):
            batch = {key: value[group] for key, value in placed.items()}
            generator = step_generator(self.seed, self.step)
            found, features = self._critic_step(batch, generator)
            metrics |= found
            self.step += 1
            if self.step > self._actor_start:
                metrics |= self.steering.step(self._critics.critic, features, generator)
        return finite_numbers(metrics, self.step)

    def acting_state(self) -> dict[str, Tensor]:
        """What proposes and judges noise and who has the next episode, copied; the base is where it is."""
        judge = self._critics.critic.state_dict()
        state = self.steering.acting_state() | {f"module.critic.{key}": value.clone() for key, value in judge.items()}
        return state | (self.hand_over.state() if self.hand_over else {})

    def _critic_step(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Towards reward and what the noise is worth that the actor draws next; metrics, features [B, F]."""
        policy, critics = self.policy, self._critics
        draws = torch.randn((len(batch["reward"]), policy.latent_size), generator=generator)
        chosen = place({"draws": draws, "members": critics.draw(generator)}, policy.device)
        with torch.no_grad():
            next_features = policy.features(observed(policy, batch, NEXT), generator)
            next_noise = policy.actor(next_features, chosen["draws"])
            next_value = critics.target(next_features, next_noise, chosen["members"]).amin(dim=0)
            target = (batch["reward"] + batch["bootstrap"] * next_value).clamp(*self._bounds)
        features = policy.features(observed(policy, batch), generator)
        values = critics.critic(features, batch["action"].flatten(1))
        loss = F.mse_loss(values, target.expand_as(values))
        loss.backward()
        self._critic_optimizer.step()
        critics.follow()
        metrics = {"critic_loss": loss, "q": values.mean(), "target": target.mean()}
        return {key: value.detach() for key, value in metrics.items()}, features.detach()

    # --- resuming

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: weights, targets, moments, price, the frozen statistics and the step."""
        networks, moments = self._critics.networks(), self._critic_optimizer.state_dict()
        state = {"step": torch.tensor(self.step), **networks, **moments, **self.steering.state_dict()}
        return state | (self.hand_over.state_dict() if self.hand_over else {})

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.steering.load_state_dict(state)
        fill(self._critics.networks(), state)
        self._critic_optimizer.load_state_dict(state)
        if self.hand_over:
            self.hand_over.load_state_dict(state)
        self.step = int(state["step"])
