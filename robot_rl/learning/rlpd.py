"""RLPD (Ball et al. 2023): soft actor-critic that draws half of every batch from demonstrations.

An ensemble of E critics with LayerNorm is trained towards the least of M target critics drawn without replacement; the
actor climbs their mean; the temperature keeps its entropy at a target. Networks are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.errors import CheckpointError, ConfigError, RobotRlError
from robot_rl.learning.diagnostics import Recorded
from robot_rl.types import ReplayView, WindowSpec

DEMONSTRATIONS, ONLINE = "demonstrations", "online"
NEXT = "next/"
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

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor: ...

    def sample(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]: ...

    def normalised(self, action: Tensor) -> Tensor: ...

    def state_dict(self) -> dict[str, Tensor]: ...


class Rlpd:
    """A Learner. One ``update`` makes as many critic steps as the batches have groups, then one of actor and
    temperature on the last group.

    Args:
        policy: the actor; what it observes is what the views hold.
        critic: constructor of the ensemble, called with feature_size, action_size; its ``members`` are E.
        subset: M target critics that make a target.
        discount: per control step.
        n_step: control steps summed before the bootstrap.
        learning_rate: of actor, critics and temperature.
        polyak: share of the new weights that the target critics take after every critic step.
        target_entropy: None is -A/2.
        initial_temperature: at rewards whose returns span 1; scaled with that span.
        entropy_backup: subtract the entropy term in the target (SAC does, RLPD's manipulation profiles do not).
        reward: (scale, shift) from stored 0/1 rewards; a shift below 0 makes waiting cost.
        demonstrations: draw half of every batch from the view of that name; False learns from scratch.
        precision: ``bfloat16`` computes the products in it, with float32 weights, targets and losses.
        compiled: torch.compile of the losses; the first update then takes some 20 s.
        seed: of weights, noise and subsets; every step has a generator of its own, by counter.
    """

    def __init__(
        self,
        policy: StochasticActor,
        critic: Callable[..., nn.Module],
        *,
        subset: int = 2,
        discount: float = 0.99,
        n_step: int = 1,
        learning_rate: float = 3e-4,
        polyak: float = 0.005,
        target_entropy: float | None = None,
        initial_temperature: float = 0.01,
        entropy_backup: bool = False,
        reward_scale: float = 1.0,
        reward_shift: float = 0.0,
        demonstrations: bool = True,
        precision: str = "float32",
        compiled: bool = False,
        seed: int = 0,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"no precision '{precision}'", limit=", ".join(PRECISIONS))
        self.policy, self.seed, self.step = policy, seed, 0
        self.action_size = int(policy.spec.action.size)
        self.device = next(policy.module.parameters()).device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = {"feature_size": policy.feature_size, "action_size": self.action_size}
            self.critic, self.target = (critic(**sizes).to(self.device) for _ in range(2))
        self.target.load_state_dict(self.critic.state_dict())
        self.target.requires_grad_(False)
        self._critic_weights: list[Tensor] = list(self.critic.parameters())
        self._target_weights: list[Tensor] = list(self.target.parameters())
        self.members = int(self.critic.members)  # type: ignore[arg-type]
        if not 1 <= subset <= self.members:
            raise ConfigError(f"subset={subset} of {self.members} critics", limit=f"1 to {self.members}")
        self.subset, self.discount, self.polyak = subset, discount, polyak
        self.entropy_backup, self.precision = entropy_backup, PRECISIONS[precision]
        self.target_entropy = -0.5 * self.action_size if target_entropy is None else target_entropy
        self.lowest, self.highest = attainable_returns(reward_scale, reward_shift, discount)
        self._view = ReplayView(
            n_step=n_step,
            discount_per_control_step=discount,
            history=int(policy.spec.history),
            observation=tuple(f"{'' if key.startswith('images/') else 'obs/'}{key}" for key in policy.spec.observation),
            reward_scale=reward_scale,
            reward_shift=reward_shift,
        )
        self._names = (ONLINE, DEMONSTRATIONS) if demonstrations else (ONLINE,)
        start = math.log(initial_temperature * (self.highest - self.lowest))
        self.log_temperature = torch.tensor(start, device=self.device, requires_grad=True)
        parts: Any = policy.module
        self._body = dict(parts["body"].named_parameters(prefix="actor"))
        self._values = {
            **dict(self.critic.named_parameters(prefix="critic")),
            **dict(parts["encoder"].named_parameters(prefix="encoder")),
        }
        self._groups = {"actor": self._body, "critic": self._values, "temperature": {"t": self.log_temperature}}
        # one optimiser each, so that a step of one leaves the moments of the others alone
        self._optimizers = {
            name: torch.optim.Adam(list(group.values()), learning_rate, fused=True)
            for name, group in self._groups.items()
        }
        compiler = torch.compile if compiled else lambda function: function
        self._critic_loss, self._actor_loss = compiler(self._critic_error), compiler(self._actor_objective)

    # --- Learner

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        """Equal views of online rows and of demonstrations, half a batch each."""
        return dict.fromkeys(self._names, self._view)

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """Batches {view: {key: [G, B/2, ...]}} as ReplaySampler gives them, G critic steps.

        Raises RobotRlError when a loss is not finite.
        """
        groups = len(batches[ONLINE]["reward"])
        metrics: dict[str, Tensor] = {}
        for group in range(groups):
            batch = {
                key: torch.cat([batches[name][key][group] for name in self._names])
                for key in batches[ONLINE]
                if key not in ("episode", "row", "version")
            }
            metrics |= self._critic_step(batch)
        metrics |= self._actor_step(metrics.pop("features"))
        numbers = {name: float(value) for name, value in metrics.items()}
        if not math.isfinite(numbers["critic_loss"] + numbers["actor_loss"]):
            raise RobotRlError(f"losses at step {self.step}: {numbers}", remedy="Lower learning_rate, check rewards")
        return numbers

    def acting_state(self) -> dict[str, Tensor]:
        """The actor's state, copied."""
        return {key: value.detach().clone() for key, value in self.policy.state_dict().items()}

    # --- one critic step

    def _critic_step(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        generator = _generator(self.seed, self.step)
        features = self.policy.features(self._observed(batch, ""), generator)
        with torch.no_grad():
            next_features = self.policy.features(self._observed(batch, NEXT), generator)
        noise = torch.randn((len(features), self.action_size), generator=generator).to(self.device)
        chosen = torch.randperm(self.members, generator=generator)[: self.subset].to(self.device)
        action = self.policy.normalised(batch["action"][:, 0].to(self.device)).clamp(-1.0, 1.0)
        reward, bootstrap = batch["reward"].to(self.device), batch["bootstrap"].to(self.device)
        loss, values, target = self._critic_loss(
            features, action, reward, bootstrap, next_features, noise, chosen, self.log_temperature.detach()
        )
        loss.backward()
        self._apply("critic")
        with torch.no_grad():
            # one kernel over all tensors
            torch._foreach_lerp_(self._target_weights, self._critic_weights, self.polyak)  # pyright: ignore[reportPrivateImportUsage]
        self.step += 1
        return {"critic_loss": loss.detach(), "q": values, "target": target, "features": features.detach()}

    def _critic_error(
        self,
        features: Tensor,
        action: Tensor,
        reward: Tensor,
        bootstrap: Tensor,
        next_features: Tensor,
        noise: Tensor,
        chosen: Tensor,
        log_temperature: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mean squared error of all critics against one target; its mean value and mean target."""
        with torch.no_grad(), self._cast():
            next_action, log_prob = self.policy.sample(next_features, noise)
            members = None if self.subset == self.members else chosen
            ahead = self.target(next_features, next_action, members).float().amin(dim=0)
            if self.entropy_backup:
                ahead = ahead - log_temperature.exp() * log_prob
            target = reward + bootstrap * ahead
            if not self.entropy_backup:  # with the entropy's bonus returns have no bounds
                target = target.clamp(self.lowest, self.highest)
        with self._cast():
            values = self.critic(features, action)
        values = values.float()
        return F.mse_loss(values, target.expand_as(values)), values.detach().mean(), target.mean()

    # --- one actor and temperature step

    def _actor_step(self, features: Tensor) -> dict[str, Tensor]:
        noise = torch.randn((len(features), self.action_size), generator=_generator(self.seed, -self.step))
        # the critics judge here, they do not learn: no gradient is made for their weights
        for parameter in self.critic.parameters():
            parameter.requires_grad_(False)
        loss, log_prob = self._actor_loss(features, noise.to(self.device), self.log_temperature.detach())
        loss.backward()
        for parameter in self.critic.parameters():
            parameter.requires_grad_(True)
        self._apply("actor")
        # d/d log_temperature of temperature * (entropy - target), entropy = -log_prob
        self.log_temperature.grad = self.log_temperature.detach().exp() * (-log_prob - self.target_entropy)
        self._apply("temperature")
        temperature = self.log_temperature.detach().exp()
        return {"actor_loss": loss.detach(), "entropy": -log_prob, "temperature": temperature}

    def _actor_objective(self, features: Tensor, noise: Tensor, log_temperature: Tensor) -> tuple[Tensor, Tensor]:
        with self._cast():
            action, log_prob = self.policy.sample(features, noise)
            values = self.critic(features, action).float().mean(dim=0)
        return (log_temperature.exp() * log_prob - values).mean(), log_prob.detach().mean()

    def _cast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision is torch.bfloat16)

    def _apply(self, name: str) -> None:
        self._optimizers[name].step()
        self._optimizers[name].zero_grad(set_to_none=True)

    def _observed(self, batch: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {
            key: batch[f"{prefix}{'' if key.startswith('images/') else 'obs/'}{key}"]
            for key in self.policy.spec.observation
        }

    # --- being asked

    @torch.no_grad()
    def values(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Batch {key: [B, ...]} -> mean over the critics of Q(s, a), and of Q(s', mean action), [B] each."""
        features, ahead = (self.policy.features(self._observed(batch, prefix)) for prefix in ("", NEXT))
        action = self.policy.normalised(batch["action"][:, 0].to(self.device)).clamp(-1.0, 1.0)
        next_action, _ = self.policy.sample(ahead, torch.zeros_like(action))
        return self.critic(features, action).mean(dim=0), self.critic(ahead, next_action).mean(dim=0)

    @torch.no_grad()
    def activations(self, batch: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """What the hidden units of actor and critics put out for a batch {key: [B, ...]}."""
        features = self.policy.features(self._observed(batch, ""))
        with Recorded(self.policy.module, (nn.ReLU,)) as actor, Recorded(self.critic, (nn.ReLU,)) as critic:
            action, _ = self.policy.sample(features, torch.zeros(len(features), self.action_size, device=self.device))
            self.critic(features, action)
        return {"actor": actor.outputs, "critic": critic.outputs}

    # --- resuming

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: weights, targets, moments, temperature, the frozen statistics and the step."""
        state: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        state |= {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        state |= self._networks()
        for group, named in self._groups.items():
            for name, value in named.items():
                moments = self._optimizers[group].state.get(value, {})
                state |= {f"moments.{group}.{name}.{key}": torch.as_tensor(m) for key, m in moments.items()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        part = {key.removeprefix("policy."): value for key, value in state.items() if key.startswith("policy.")}
        self.policy.load_state_dict(part)  # type: ignore[attr-defined]
        for key, value in self._networks().items():
            if key not in state or state[key].shape != value.shape:
                raise CheckpointError(f"training state does not fit: '{key}' is missing or has another shape")
            value.copy_(state[key])
        for group, named in self._groups.items():
            for name, value in named.items():
                prefix = f"moments.{group}.{name}."
                moments = {k.removeprefix(prefix): m.clone() for k, m in state.items() if k.startswith(prefix)}
                if moments:
                    self._optimizers[group].state[value] = moments
        self.step = int(state["step"])

    def _networks(self) -> dict[str, Tensor]:
        """What is learnt beside the policy, by name."""
        named: dict[str, Tensor] = {f"target.{name}": value for name, value in self.target.state_dict().items()}
        named |= {f"critic.{name}": value for name, value in self.critic.state_dict().items()}
        return {**named, "temperature": self.log_temperature.detach()}


def attainable_returns(scale: float, shift: float, discount: float) -> tuple[float, float]:
    """Least and largest discounted return when a 0/1 success, scaled and shifted, ends the episode.

    Without shift it is [0, scale]; a shift b < 0 is paid every step, for ever at worst: [b / (1 - gamma), scale + b]
    and at most 0 for scale = -b = 1.
    """
    if scale <= 0.0 or shift > 0.0:
        raise ConfigError(f"reward_scale={scale}, reward_shift={shift}", limit="scale > 0, shift <= 0")
    return (shift / (1.0 - discount) if shift else 0.0), scale + shift


def _generator(seed: int, step: int) -> torch.Generator:
    """Resuming needs no random state, only the step; negative steps are the actor's."""
    words = np.random.SeedSequence((seed % 2**64, step % 2**64)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)
