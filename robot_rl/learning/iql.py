"""Implicit Q-learning (Kostrikov et al. 2021) of chunk values, offline: no action is ever valued that was not taken.

V_e(s) is an expectile of Q_e(s, a) over the actions in the data, Q_e regresses on r + gamma^k V_e(s'). No policy is
extracted: a re-ranked base is the policy. Each member has targets of its own, so that their spread says how little the
data tell (Ghasemipour et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.errors import ConfigError
from robot_rl.learning.bc import DEMONSTRATIONS
from robot_rl.learning.critic_training import ChunkValues, CriticTraining, chunk_view, permuted
from robot_rl.learning.soft_losses import attainable_returns
from robot_rl.learning.step_generator import step_generator
from robot_rl.types import ReplayView, WindowSpec


class Iql:
    """A Learner of what ``critic`` holds.

    Args:
        critic: ensemble of chunk values, with statistics fitted.
        expectile: of V among the values of the actions taken; 0.5 is their mean, 1 the best of them.
        discount: per control step.
        reward_scale, reward_shift: of rewards from 0 to 1.
        sparse: these are 1 at a success and 0 elsewhere; else as stored.
        polyak: see CriticTraining.
        shuffled: give every chunk to another state of its batch: the control that any gain has to beat.
        seed: of crops and shuffling, by counter.
    """

    def __init__(
        self,
        critic: ChunkValues,
        *,
        expectile: float = 0.7,
        discount: float = 0.99,
        reward_scale: float = 1.0,
        reward_shift: float = 0.0,
        sparse: bool = False,
        learning_rate: float = 3e-4,
        polyak: float = 0.005,
        shuffled: bool = False,
        seed: int = 0,
    ) -> None:
        if not 0.0 < expectile < 1.0:
            raise ConfigError(f"expectile={expectile}", limit="between 0 and 1")
        self.critic, self.expectile, self.shuffled, self.seed = critic, expectile, shuffled, seed
        self.bounds = attainable_returns(reward_scale, reward_shift, discount)
        self.view = chunk_view(critic, discount, reward_scale, reward_shift, sparse)
        self.value = critic.new_ensemble(action_size=0)
        self.training = CriticTraining(critic, {"value": self.value}, learning_rate=learning_rate, polyak=polyak)

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        return {DEMONSTRATIONS: self.view}

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """A step of V and one of Q for each group of {key: [G, B, ...]} as ReplaySampler gives it.

        Raises as ``over`` of CriticTraining does.
        """
        return self.training.over(batches[DEMONSTRATIONS], self._step)

    def _step(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        generator = step_generator(self.seed, self.training.step)
        action = permuted(batch["action"], generator) if self.shuffled else batch["action"]
        features, ahead = self.training.states(batch, generator)
        seen, nothing = self.critic.chunk(action), action.new_zeros((len(action), 0))
        with torch.no_grad():
            taken = self.training.target(features, seen)
        value = self.value(features.detach(), nothing)
        value_loss = expectile_loss(taken - value, self.expectile)
        self.training.descend("value", value_loss)
        with torch.no_grad():
            target = batch["reward"] + batch["bootstrap"] * self.value(ahead, nothing)
            target = target.clamp(*self.bounds)
        q = self.critic.ensemble(features, seen)
        loss = F.mse_loss(q, target)
        self.training.descend("critic", loss)
        return {
            "loss": loss.detach(),
            "value_loss": value_loss.detach(),
            "q": q.detach().mean(),
            "value": value.detach().mean(),
            "advantage": (taken - value.detach()).mean(),
            "disagreement": q.detach().std(dim=0, unbiased=False).mean(),
        }

    def acting_state(self) -> dict[str, Tensor]:
        """What judges: the target critics."""
        return self.training.acting_state()

    def state_dict(self) -> dict[str, Any]:
        """See CriticTraining."""
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See CriticTraining."""
        self.training.load_state_dict(state)


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    """Mean of |expectile - 1(error < 0)| error^2: what lies above counts ``expectile``, what lies below the rest."""
    return (torch.where(error < 0, 1.0 - expectile, expectile) * error.square()).mean()
