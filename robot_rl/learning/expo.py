"""EXPO (Dong et al. 2025): a frozen generator proposes chunks, a small network edits them, the best of all acts.

The value of a state is that of the chunk that would act there, by the rule that acts: an arg-max over the candidates
the actor drew and recorded there, and their edits. So no update samples the base.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.learning.batches import transition_view
from robot_rl.learning.candidates import best_candidate
from robot_rl.learning.correction_training import DEMONSTRATIONS, NEXT, ONLINE, CorrectionTraining
from robot_rl.learning.hand_over import HandOver
from robot_rl.learning.imitation import Imitation
from robot_rl.learning.soft_losses import attainable_returns
from robot_rl.learning.step_generator import step_generator
from robot_rl.types import ReplayView, WindowSpec

CANDIDATES, ARM = "policy/candidates", "policy/arm"


class Expo:
    """A Learner. One ``update`` makes as many critic steps as the batches have groups, then one of the edits on the
    last group.

    Args:
        policy: policies.edited; its base is not asked, its samples are in the batches.
        subset: M target critics, drawn anew, who choose the chunk that a target is of, and whose least makes it.
        discount: per control step, whatever a chunk's length.
        learning_rate, actor_learning_rate: of critics and of the edits.
        polyak, averaging: of target critics and of what acts, see CorrectionTraining.
        actor_start: critic steps before the edits' first.
        reward_scale, reward_shift: of stored 0/1 rewards.
        demonstrations: draw half of every batch from the view of that name.
        imitation: weight, at the start, of the squared distance (in largest edits) from what would make a chunk of the
            base the demonstrated one; 0 is EXPO. How it falls with ``imitation_steps``: see Imitation.
        hand_over: which episodes are the base's, see CorrectionTraining.
        seed: of noise and subsets; every step has a generator of its own, by counter.
    """

    def __init__(
        self,
        policy: Any,
        *,
        subset: int = 2,
        discount: float = 0.99,
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
        self.actor_start, self._deviations = actor_start, policy.deviations
        self._imitation = Imitation(imitation, imitation_steps, demonstrations)
        self.pretrains = bool(self._imitation)
        self._bounds = attainable_returns(reward_scale, reward_shift, discount)
        horizon = self.networks.reads.execute
        view = transition_view(self.networks.reads, 1, discount, reward_scale, reward_shift)
        view = replace(view, horizon=horizon, stride=horizon)  # from decision to decision: candidates are of these
        self._views: dict[str, ReplayView | WindowSpec] = {ONLINE: replace(view, extras=(CANDIDATES, ARM))}
        self._views |= {DEMONSTRATIONS: replace(view, extras=(CANDIDATES,))} if demonstrations else {}

    # --- Learner

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        """Executed chunks, online and demonstrated, half a batch each; the base's candidates at either end."""
        return self._views

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """Batches {view: {key: [G, B/2, ...]}} as ReplaySampler gives them, G critic steps; demonstrations alone will
        do before anything has acted.

        Raises as ``over`` of CorrectionTraining does.
        """
        return self.training.over(batches, self._views, self._critic_step, self._actor_step, self.actor_start)

    def acting_state(self) -> dict[str, Tensor]:
        """Edits, critics, statistics and shares; nothing of the base."""
        return self.training.acting_state()

    # --- steps

    def _critic_step(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the critics; metrics and the features seen."""
        training, networks = self.training, self.networks
        generator = step_generator(self.seed, training.step)
        features = training.observed(batch, "", generator)
        with torch.no_grad():
            ahead = training.observed(batch, NEXT, generator)
        target, edited = self.targets(batch, ahead, training.critics.draw(generator).to(networks.device))
        values = training.critics.critic(features, networks.seen(batch["action"]))
        loss = F.mse_loss(values, target.expand_as(values))
        training.descend_critic(loss)
        means = {"critic_loss": loss.detach(), "q": values.detach().mean(), "target": target.mean()}
        return {**means, "edited": edited}, features.detach()

    @torch.no_grad()
    def targets(self, batch: Mapping[str, Tensor], ahead: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """r + bootstrap * least of the ``chosen`` target critics at the chunk that they would have act at s', [B],
        within attainable returns; and how often that is an edited one."""
        networks, proposals = self.networks, batch[f"{NEXT}{CANDIDATES}"]
        edited = networks.edited(self.training.slow, ahead, proposals, torch.zeros((), device=networks.device))
        judges = functools.partial(self.training.critics.target, chosen=chosen)
        values = networks.values(judges, ahead, torch.cat((proposals, edited), dim=1))
        index = best_candidate(values, self._deviations)
        least = values[:, torch.arange(len(index)), index].amin(dim=0)
        target = (batch["reward"] + batch["bootstrap"] * least).clamp(*self._bounds)
        return target, (index >= proposals.shape[1]).float().mean()

    def _actor_step(self, features: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One step of the edits up the critics' mean, of any one of the base's candidates at ``features`` [B, F]."""
        networks, proposals = self.networks, batch[CANDIDATES]
        generator = step_generator(self.seed, -self.training.step)
        drawn = torch.randint(0, proposals.shape[1], (len(proposals),), generator=generator)
        proposal = proposals[torch.arange(len(drawn)), drawn]
        by = networks.actor(features, networks.seen(proposal))
        with self.training.critics.judging():
            values = self.training.critics.critic(features, networks.seen(networks.corrected(proposal, by)))
            loss = -values.mean()
            metrics = {"actor_loss": loss.detach(), "edit": by.detach().abs().mean()}
            if self._imitation:
                error = self.training.imitation_error(by, proposal, batch)
                loss = loss + self._imitation.at(self.training.step) * error
                metrics["imitation_error"] = error.detach()
            self.training.descend_actor(loss)
        return metrics

    # --- resuming

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: everything that is learnt, and what has to be known to go on."""
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.training.load_state_dict(state)
