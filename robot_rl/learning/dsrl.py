"""DSRL-NA (Wagenmaker et al. 2025, algorithm 1): learning which noise a frozen generator should get.

Critics of chunks learn from whatever was executed, demonstrations and corrections included; what they think of the
chunks that noise leads to is distilled into critics of noise, which the actor climbs. No gradient passes the generator.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.learning.batches import check_batches, joined, place, transition_view
from robot_rl.learning.followed_critics import FollowedCritics
from robot_rl.learning.hand_over import HandOver
from robot_rl.learning.latent_steps import NEXT, LatentSteps, SteeringActor, critic_optimizer, observed
from robot_rl.learning.named_optimizer import adam
from robot_rl.learning.soft_losses import attainable_returns
from robot_rl.learning.step_generator import step_generator
from robot_rl.learning.training_state import fill, finite_numbers
from robot_rl.types import ReplayView

DEMONSTRATIONS, ONLINE = "demonstrations", "online"


class Dsrl:
    """A Learner. One ``update`` makes a critic step and an actor step for each group of the batches, and a
    distillation step for every ``distil_every`` of them.

    Args:
        policy: acts by noise, and has the critics of it; its base is asked for chunks, here or in another process.
        subset: M target critics that make a target.
        discount: per control step; a chunk counts the steps that were executed of it.
        n_step: chunks summed before the bootstrap.
        distil_every: critic steps per distillation step.
        own: share of the distilled noise that is the actor's, the rest is the prior's.
        actor_start: critic steps before the actor's first.
        demonstrations: draw half of every batch from the view of that name.
        learning_rate, polyak, reward_scale, reward_shift: as for Rlpd.
        regulariser, target, initial_price, price_rate, deviations, averaging: see LatentSteps.
        hand_over: who has how many of the episodes; None: the policy has all of them.
        seed: of weights, noise and subsets, by counter.
    """

    def __init__(
        self,
        policy: SteeringActor,
        *,
        subset: int = 2,
        discount: float = 0.99,
        n_step: int = 1,
        distil_every: int = 2,
        own: float = 0.5,
        actor_start: int = 1000,
        demonstrations: bool = True,
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
        if distil_every < 1 or not 0.0 <= own <= 1.0:
            raise ConfigError(f"distil_every={distil_every}, own={own}", limit="at least 1, 0 to 1")
        self.policy, self.hand_over, self.seed, self.step = policy, hand_over, seed, 0
        self._distil_every, self._own, self._actor_start = distil_every, own, actor_start
        self._bounds = attainable_returns(reward_scale, reward_shift, discount)
        view = chunk_view(policy, n_step, discount, reward_scale, reward_shift)
        self._views = {ONLINE: replace(view, extras=("policy/arm",))} | (
            {DEMONSTRATIONS: view} if demonstrations else {}
        )
        judge = functools.partial(policy.new_critic, policy.chunk_size)
        self._critics = FollowedCritics(judge, subset=subset, polyak=polyak, device=policy.device, seed=seed)
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
        self._distiller = adam("moments.noise_critic", self.policy.critic.named_parameters(), learning_rate)

    # --- Learner

    @property
    def views(self) -> Mapping[str, ReplayView]:
        """Executed chunks of h control steps from every step on, never across a change of command."""
        return self._views

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """Batches {view: {key: [G, B / views, ...]}} as ReplaySampler gives them.

        Raises InvalidArrayError for a batch that is not finite, before anything is changed, and RobotRlError when a
        loss is not.
        """
        check_batches(batches, self.step)
        whole = place(joined({view: batches[view] for view in self._views}), self.policy.device)
        metrics: dict[str, Tensor] = {}
        for group in range(len(whole["reward"])):
            batch = {key: value[group] for key, value in whole.items()}
            generator = step_generator(self.seed, self.step)
            found, features = self._critic_step(batch, generator)
            metrics |= found
            self.step += 1
            if self.step % self._distil_every == 0:
                metrics |= self._distil(batch, features, generator)
            if self.step > self._actor_start:
                metrics |= self.steering.step(self.policy.critic, features, generator)
        return finite_numbers(metrics, self.step)

    def acting_state(self) -> dict[str, Tensor]:
        """What proposes noise and who has the next episode, copied; the base is where it is."""
        return self.steering.acting_state() | (self.hand_over.state() if self.hand_over else {})

    # --- steps

    def _critic_step(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Towards reward and what the chunk is worth that the actor's noise leads to; metrics, features [B, F]."""
        policy, critics = self.policy, self._critics
        draws = torch.randn((len(batch["reward"]), policy.latent_size), generator=generator)
        chosen = place({"draws": draws, "members": critics.draw(generator)}, policy.device)
        with torch.no_grad():
            ahead = observed(policy, batch, NEXT)
            next_features = policy.features(ahead, generator)
            next_chunk = policy.chunks(ahead, policy.actor(next_features, chosen["draws"]))
            next_value = critics.target(next_features, next_chunk, chosen["members"]).amin(dim=0)
            target = (batch["reward"] + batch["bootstrap"] * next_value).clamp(*self._bounds)
        features = policy.features(observed(policy, batch), generator)
        values = critics.critic(features, policy.chunk(batch["action"]))
        loss = F.mse_loss(values, target.expand_as(values))
        loss.backward()
        self._critic_optimizer.step()
        critics.follow()
        metrics = {"critic_loss": loss, "q": values.mean(), "target": target.mean()}
        return {key: value.detach() for key, value in metrics.items()}, features.detach()

    def _distil(self, batch: Mapping[str, Tensor], features: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Each critic of noise towards what its fellow thinks of the chunk that the noise leads to."""
        policy, rows = self.policy, len(features)
        noise = torch.randn((rows, policy.latent_size), generator=generator).to(policy.device)
        with torch.no_grad():
            mine = torch.arange(rows, device=policy.device) < round(self._own * rows)
            order = torch.randperm(rows, generator=generator).to(policy.device)  # of both halves of the batch alike
            noise = torch.where(mine[order, None], policy.actor(features, noise), noise)
            target = self._critics.critic(features, policy.chunks(observed(policy, batch), noise))
        values = self.policy.critic(features, noise)
        loss = F.mse_loss(values, target)
        loss.backward()
        self._distiller.step()
        return {"distillation_loss": loss.detach(), "noise_spread": target.std(dim=1).mean()}

    # --- resuming

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: weights, targets, moments, price, the frozen statistics and the step."""
        moments = self._critic_optimizer.state_dict() | self._distiller.state_dict()
        state = {"step": torch.tensor(self.step), **self._networks(), **moments, **self.steering.state_dict()}
        return state | (self.hand_over.state_dict() if self.hand_over else {})

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.steering.load_state_dict(state)
        fill(self._networks(), state)
        for optimizer in (self._critic_optimizer, self._distiller):
            optimizer.load_state_dict(state)
        if self.hand_over:
            self.hand_over.load_state_dict(state)
        self.step = int(state["step"])

    def _networks(self) -> dict[str, Tensor]:
        """Critics of chunks and their targets, by name; those of noise are the policy's."""
        return self._critics.networks()


def chunk_view(policy: SteeringActor, n_step: int, discount: float, scale: float, shift: float) -> ReplayView:
    """Every chunk of T_a executed control steps, ``n_step`` of them summed."""
    return replace(transition_view(policy.spec, n_step, discount, scale, shift), horizon=policy.horizon)
