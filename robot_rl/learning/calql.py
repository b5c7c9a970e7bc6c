"""Calibrated conservative Q-learning (Nakamoto et al. 2023) of chunk values, offline.

CQL (Kumar et al. 2020) pushes Q down where an actor would go and up where the data are; Cal-QL stops pushing where Q
has come down to what the data really earned from that state. The actor only serves to find what is over-estimated: a
re-ranked base is the policy. Each member has targets of its own, as in ``iql``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.learning.bc import DEMONSTRATIONS
from robot_rl.learning.critic_training import ChunkValues, CriticTraining, chunk_view, permuted
from robot_rl.learning.returns import RETURN
from robot_rl.learning.soft_losses import attainable_returns
from robot_rl.learning.step_generator import step_generator
from robot_rl.types import ReplayView, WindowSpec


class CalQl:
    """A Learner of what ``critic`` holds.

    Args:
        critic: ensemble of chunk values, with statistics fitted.
        actor: constructor of a stochastic actor over chunks in -1 to 1 of the limits (SquashedGaussian).
        conservatism: weight of the pushing. The published 5 belongs to rewards -1/0 with gamma 0.98, returns of -50 to
            0, and has to change with their span: what is in the data is lifted by up to half of it per decision.
        samples: random chunks, the actor's at s and the actor's at s' that are pushed down, so many of each.
        backup_samples: chunks of the actor at s', of which the best makes the target.
        calibrated: stop at the Monte-Carlo return; False is CQL.
        initial_temperature: of the actor's entropy, whose target is -A/2; at returns that span 1.
        discount, reward_scale, reward_shift, sparse, polyak, shuffled: as for Iql.
    """

    def __init__(
        self,
        critic: ChunkValues,
        actor: Callable[..., nn.Module],
        *,
        conservatism: float = 5.0,
        samples: int = 4,
        backup_samples: int = 4,
        calibrated: bool = True,
        initial_temperature: float = 0.01,
        discount: float = 0.98,
        reward_scale: float = 1.0,
        reward_shift: float = -1.0,
        sparse: bool = False,
        learning_rate: float = 3e-4,
        polyak: float = 0.005,
        shuffled: bool = False,
        seed: int = 0,
    ) -> None:
        if samples < 1 or backup_samples < 1 or conservatism < 0.0:
            given = f"samples={samples}, backup_samples={backup_samples}, conservatism={conservatism}"
            raise ConfigError(given, limit="at least 1, 1 and 0")
        self.critic, self.shuffled, self.seed, self.calibrated = critic, shuffled, seed, calibrated
        self.conservatism, self.samples, self.backup_samples = conservatism, samples, backup_samples
        self.bounds = attainable_returns(reward_scale, reward_shift, discount)
        self.view = chunk_view(critic, discount, reward_scale, reward_shift, sparse)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = actor(feature_size=critic.feature_size, action_size=critic.action_size).to(critic.device)
        start = math.log(initial_temperature * (self.bounds[1] - self.bounds[0]))
        self.temperature = _Temperature(start).to(critic.device)
        others = {"actor": self.actor, "temperature": self.temperature}
        self.training = CriticTraining(critic, others, learning_rate=learning_rate, polyak=polyak)

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        """Its batches also need ``return``, see WithReturns."""
        return {DEMONSTRATIONS: self.view}

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """A step of the critics, the actor and its temperature for each group of {key: [G, B, ...]}.

        Raises as ``over`` of CriticTraining does.
        """
        return self.training.over(batches[DEMONSTRATIONS], self._step)

    def _step(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        generator = step_generator(self.seed, self.training.step)
        action = permuted(batch["action"], generator) if self.shuffled else batch["action"]
        features, ahead = self.training.states(batch, generator)
        target = self._target(batch, ahead, generator)
        q = self.critic.ensemble(features, self.critic.chunk(action))
        error = F.mse_loss(q, target)
        pushed = self._pushed(features, ahead, batch[RETURN], generator)
        gap = (pushed - q).mean()
        loss = error + self.conservatism * gap
        self.training.descend("critic", loss)
        metrics = {"loss": error, "conservative_gap": gap, "q": q.mean(), "target": target.mean()}
        metrics["disagreement"] = q.std(dim=0, unbiased=False).mean()
        return {key: value.detach() for key, value in metrics.items()} | self._actor_step(features.detach(), generator)

    def _target(self, batch: Mapping[str, Tensor], ahead: Tensor, generator: torch.Generator) -> Tensor:
        """r + gamma^k max over the actor's chunks of each member's own target, [E, B], in what is attainable."""
        with torch.no_grad():
            action, _ = self._drawn(ahead, self.backup_samples, generator)
            best = self._valued(self.training.target, ahead, action).amax(dim=1)
            return (batch["reward"] + batch["bootstrap"] * best).clamp(*self.bounds)

    def _pushed(self, features: Tensor, ahead: Tensor, earned: Tensor, generator: torch.Generator) -> Tensor:
        """log of the integral of exp Q over chunks [E, B], by importance sampling; the actor's chunks count at least
        what was ``earned`` [B], so that nothing is pushed below it."""
        size = self.critic.action_size
        uniform = 2.0 * torch.rand((self.samples, len(features), size), generator=generator).to(features) - 1.0
        with torch.no_grad():
            (now, log_now), (later, log_later) = (self._drawn(at, self.samples, generator) for at in (features, ahead))
        values = self._valued(self.critic.ensemble, features, torch.cat((uniform, now, later)))
        if self.calibrated:
            values = torch.cat((values[:, : self.samples], values[:, self.samples :].maximum(earned)), dim=1)
        log_density = torch.cat((torch.full_like(log_now, -size * math.log(2.0)), log_now, log_later))
        return (values - log_density).logsumexp(dim=1) - math.log(3 * self.samples)

    def _actor_step(self, features: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Soft actor-critic's step of the actor against the critics' mean, then of the temperature."""
        action, log_density = self._drawn(features, 1, generator)
        value = self._valued(self.critic.ensemble, features, action).mean(dim=0)
        temperature = self.temperature.log.exp()
        self.training.descend("actor", (temperature.detach() * log_density - value).mean())
        entropy = -log_density.detach().mean()
        self.training.descend("temperature", temperature * (entropy + 0.5 * self.critic.action_size))
        return {"entropy": entropy, "temperature": temperature.detach(), "actor_q": value.detach().mean()}

    def _drawn(self, features: Tensor, many: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The actor's chunks [many, B, h * A] in -1 to 1 of the limits, and their log-density [many, B]."""
        noise = torch.randn((many, len(features), self.critic.action_size), generator=generator)
        return self.actor(features, noise.to(features))

    def _valued(self, ensemble: nn.Module, features: Tensor, action: Tensor) -> Tensor:
        """Values [E, N, B] of chunks [N, B, h * A] in -1 to 1 of the limits."""
        seen = self.critic.scaled(action.unflatten(-1, (self.critic.horizon, -1)))
        return ensemble(features.repeat(len(seen), 1), seen.flatten(0, 1)).unflatten(1, seen.shape[:2])

    def acting_state(self) -> dict[str, Tensor]:
        """What judges: the target critics."""
        return self.training.acting_state()

    def state_dict(self) -> dict[str, Any]:
        """See CriticTraining."""
        return self.training.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See CriticTraining."""
        self.training.load_state_dict(state)


class _Temperature(nn.Module):
    """The weight of the actor's entropy, by its logarithm."""

    def __init__(self, log: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor(log))
