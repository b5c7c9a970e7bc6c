"""Residual off-policy learning (ResFiT, Ankile et al. 2025): TD3 with an ensemble, on what a residual adds to a base.

The critics judge the summed action, of several steps at a time; the residual begins at zero, learns later and more
rarely than they do, and half of every batch are demonstrations with the base's own actions beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.learning.batches import place, transition_view
from robot_rl.learning.correction_training import DEMONSTRATIONS, NEXT, ONLINE, Correcting, CorrectionTraining
from robot_rl.learning.diagnostics import Recorded
from robot_rl.learning.hand_over import HandOver
from robot_rl.learning.imitation import Imitation
from robot_rl.learning.soft_losses import attainable_returns
from robot_rl.learning.step_generator import step_generator
from robot_rl.types import ReplayView, WindowSpec

BASE_ACTION, ARM = "policy/base_action", "policy/arm"


class Residual:
    """A Learner. One ``update`` makes as many critic steps as the batches have groups, then one of the residual on the
    last group (delayed, Fujimoto et al. 2018).

    Args:
        policy: policies.residual; its base is not asked, its actions are in the batches.
        subset: M target critics, drawn anew, whose least makes a target.
        discount: per control step.
        n_step: control steps summed before the bootstrap.
        learning_rate, actor_learning_rate: of critics and of the residual.
        polyak, averaging: of target critics and of what acts, see CorrectionTraining.
        actor_start: critic steps before the residual's first.
        reward_scale, reward_shift: of stored 0/1 rewards.
        demonstrations: draw half of every batch from the view of that name.
        imitation: weight, at the start, of the squared distance (in largest residuals) from what would make the base's
            action the demonstrated one; 0 is ResFiT. How it falls with ``imitation_steps``: see Imitation.
        hand_over: which episodes are the base's, see CorrectionTraining.
        seed: of noise and subsets; every step has a generator of its own, by counter.
    """

    def __init__(
        self,
        policy: Correcting,
        *,
        subset: int = 2,
        discount: float = 0.99,
        n_step: int = 3,
        learning_rate: float = 3e-4,
        actor_learning_rate: float = 3e-4,
        polyak: float = 0.005,
        averaging: float = 0.99,
        actor_start: int = 2000,
        reward_scale: float = 1.0,
        reward_shift: float = 0.0,
        demonstrations: bool = True,
        imitation: float = 0.0,
        imitation_steps: float = 20_000.0,
        hand_over: HandOver | None = None,
        seed: int = 0,
    ) -> None:
        self.training = CorrectionTraining(
            policy,
            subset=subset,
            polyak=polyak,
            learning_rate=learning_rate,
            actor_learning_rate=actor_learning_rate,
            averaging=averaging,
            hand_over=hand_over,
            seed=seed,
        )
        self.policy, self.networks, self.hand_over, self.seed = policy, policy.networks, hand_over, seed
        self.actor_start, self._imitation = actor_start, Imitation(imitation, imitation_steps, demonstrations)
        self.pretrains = bool(self._imitation)
        self._bounds = attainable_returns(reward_scale, reward_shift, discount)
        view = transition_view(self.networks.reads, n_step, discount, reward_scale, reward_shift)
        self._views: dict[str, ReplayView | WindowSpec] = {ONLINE: replace(view, extras=(BASE_ACTION, ARM))}
        self._views |= {DEMONSTRATIONS: replace(view, extras=(BASE_ACTION,))} if demonstrations else {}

    # --- Learner

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        """Online rows and demonstrations, half a batch each; the base's action at either end of a transition."""
        return self._views

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """Batches {view: {key: [G, B/2, ...]}} as ReplaySampler gives them, G critic steps; demonstrations alone will
        do before anything has acted.

        Raises as ``over`` of CorrectionTraining does.
        """
        return self.training.over(batches, self._views, self._critic_step, self._actor_step, self.actor_start)

    def acting_state(self) -> dict[str, Tensor]:
        """Residual, critics, statistics and shares; nothing of the base."""
        return self.training.acting_state()

    # --- steps

    def _critic_step(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the critics; metrics and the features seen."""
        training, networks = self.training, self.networks
        generator = step_generator(self.seed, training.step)
        features = training.observed(batch, "", generator)
        with torch.no_grad():
            ahead = training.observed(batch, NEXT, generator)
        noise = training.drawn(len(features), generator)
        target = self.targets(batch, ahead, noise, training.critics.draw(generator).to(networks.device))
        values = training.critics.critic(features, networks.seen(batch["action"]))
        loss = F.mse_loss(values, target.expand_as(values))
        training.descend_critic(loss)
        means = {"critic_loss": loss.detach(), "q": values.detach().mean(), "target": target.mean()}
        return means, features.detach()

    @torch.no_grad()
    def targets(self, batch: Mapping[str, Tensor], ahead: Tensor, noise: Tensor, chosen: Tensor) -> Tensor:
        """r + bootstrap * least of the ``chosen`` target critics at s', where the slow residual, with noise [B, R],
        adds to what the base would do there; [B], within attainable returns."""
        networks, base = self.networks, batch[f"{NEXT}{BASE_ACTION}"][:, None]
        by = (self.training.slow(ahead, networks.seen(base)) + noise).clamp(-1.0, 1.0)
        action = networks.seen(networks.corrected(base, by))
        least = self.training.critics.target(ahead, action, chosen).amin(dim=0)
        return (batch["reward"] + batch["bootstrap"] * least).clamp(*self._bounds)

    def _actor_step(self, features: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One step of the residual up the critics' mean at ``features`` [B, F]."""
        networks, base = self.networks, batch[BASE_ACTION][:, None]
        by = networks.actor(features, networks.seen(base))
        with self.training.critics.judging():
            values = self.training.critics.critic(features, networks.seen(networks.corrected(base, by)))
            loss = -values.mean()
            metrics = {"actor_loss": loss.detach(), "residual": by.detach().abs().mean()}
            if self._imitation:
                error = self.training.imitation_error(by, base, batch)
                loss = loss + self._imitation.at(self.training.step) * error
                metrics["imitation_error"] = error.detach()
            self.training.descend_actor(loss)
        return metrics

    # --- being asked

    @torch.no_grad()
    def values(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Batch {key: [B, ...]} -> mean over the critics of Q(s, a), and of Q(s', what acts there), [B] each."""
        placed, networks, training = place(batch, self.networks.device), self.networks, self.training
        features, ahead = (training.observed(placed, prefix) for prefix in ("", NEXT))
        base = placed[f"{NEXT}{BASE_ACTION}"][:, None]
        action = networks.seen(networks.corrected(base, training.slow(ahead, networks.seen(base))))
        critic = training.critics.critic
        taken = critic(features, networks.seen(placed["action"]))
        return taken.mean(dim=0), critic(ahead, action).mean(dim=0)

    @torch.no_grad()
    def activations(self, batch: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """What the hidden units of residual and critics put out for a batch {key: [B, ...]}."""
        placed, networks = place(batch, self.networks.device), self.networks
        features, base = self.training.observed(placed, ""), networks.seen(placed[BASE_ACTION][:, None])
        critics = self.training.critics.critic
        with Recorded(networks.actor, (nn.ReLU,)) as actor, Recorded(critics, (nn.ReLU,)) as critic:
            networks.actor(features, base)
            critics(features, base)
        return {"actor": actor.outputs, "critic": critic.outputs}

    # --- resuming

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: everything that is learnt, and what has to be known to go on."""
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.training.load_state_dict(state)
