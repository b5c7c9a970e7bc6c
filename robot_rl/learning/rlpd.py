"""RLPD (Ball et al. 2023): soft actor-critic that draws half of every batch from demonstrations.

An ensemble of E critics with LayerNorm is trained towards the least of M target critics drawn without replacement; the
actor climbs their mean; the temperature keeps its entropy at a target. Networks are passed in. A policy that chooses
its gripper's opening has a grasp critic of its own (HIL-SERL).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robot_rl.errors import ConfigError
from robot_rl.learning.batches import array_path, check_batches, place, transition_view
from robot_rl.learning.diagnostics import Recorded
from robot_rl.learning.ema import ExponentialMovingAverage
from robot_rl.learning.followed_critics import FollowedCritics
from robot_rl.learning.grasp_critic import GraspCritic
from robot_rl.learning.imitation import Imitation
from robot_rl.learning.named_optimizer import adam
from robot_rl.learning.soft_losses import SoftLosses, StochasticActor, attainable_returns
from robot_rl.learning.step_generator import step_generator
from robot_rl.learning.training_state import fill, finite_numbers, part
from robot_rl.types import ReplayView, WindowSpec

DEMONSTRATIONS, ONLINE = "demonstrations", "online"
NEXT = "next/"
BOOKKEEPING = ("episode", "row", "version")


class Rlpd:
    """A Learner. One ``update`` makes as many critic steps as the batches have groups, then one of actor and
    temperature on the last group.

    Args:
        policy: the actor; what it observes is what the views hold.
        critic: constructor of the ensemble, called with feature_size, action_size; its ``members`` are E.
        subset: M target critics that make a target.
        discount: per control step.
        n_step: control steps summed before the bootstrap; 1 with a gripper that is chosen.
        learning_rate: of actor, critics and temperature.
        polyak: share of the new weights that the target critics take after every critic step.
        target_entropy: None is -A/2.
        initial_temperature: at rewards whose returns span 1; scaled with that span.
        entropy_backup: subtract the entropy term in the target (SAC does, RLPD's manipulation profiles do not).
        reward_scale, reward_shift: of stored 0/1 rewards; a shift below 0 makes waiting cost.
        augmentations: K random views of the images at either end of a transition: a target is the mean over those of
            the state that follows, and is learnt at those of the first (DrQ: Kostrikov et al. 2021, K = M).
        demonstrations: draw half of every batch from the view of that name; False learns from scratch.
        imitation: weight, at the start, of the mean action's squared distance (in units of [-1, 1]) from what is shown
            by demonstrations; 0 is RLPD. How it falls with ``imitation_steps``: see Imitation.
        averaging: what acts is an average of the actor's weights that keeps at most this share of the past per actor
            step; 0 acts with the newest.
        gripper_penalty: what a change between open and closed costs the grasp critic; see GraspCritic.
        precision: ``bfloat16`` computes the products in it, with float32 weights, targets and losses.
        compiled: torch.compile of the losses; ``auto`` does so on CUDA, see ``compilation.compiler``.
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
        augmentations: int = 1,
        demonstrations: bool = True,
        imitation: float = 0.0,
        imitation_steps: float = 20_000.0,
        averaging: float = 0.0,
        gripper_penalty: float = 0.02,
        precision: str = "float32",
        compiled: bool | str = "auto",
        seed: int = 0,
    ) -> None:
        self.policy, self.seed, self.step = policy, seed, 0
        self.device = next(policy.module.parameters()).device
        self.discount, self.augmentations = discount, augmentations
        self.target_entropy = -0.5 * policy.action_size if target_entropy is None else target_entropy
        if augmentations < 1:
            raise ConfigError(f"augmentations={augmentations}", limit="at least 1")
        self._imitation = Imitation(imitation, imitation_steps, demonstrations)
        bounds = attainable_returns(reward_scale, reward_shift, discount)
        view = transition_view(policy.spec, n_step, discount, reward_scale, reward_shift)
        self._views: dict[str, ReplayView | WindowSpec] = {ONLINE: view}
        self._views |= {DEMONSTRATIONS: view} if demonstrations else {}
        sizes = {"feature_size": policy.feature_size, "action_size": policy.action_size}
        make = functools.partial(critic, **sizes)
        self._critics = FollowedCritics(make, subset=subset, polyak=polyak, device=self.device, seed=seed)
        self.critic, self.target = self._critics.critic, self._critics.target
        self.losses = SoftLosses(
            policy,
            self.critic,
            self.target,
            subset=subset,
            entropy_backup=entropy_backup,
            bounds=bounds,
            precision=precision,
            compiled=compiled,
        )
        start = math.log(initial_temperature * (bounds[1] - bounds[0]))
        self.log_temperature = torch.tensor(start, device=self.device, requires_grad=True)
        self.grasp: GraspCritic | None = None
        if policy.gripper is not None:
            self.grasp = GraspCritic(
                policy.gripper,
                policy.spec,
                penalty=gripper_penalty,
                bounds=bounds,
                discount=discount,
                n_step=n_step,
                learning_rate=learning_rate,
                polyak=polyak,
            )
        self._make_optimizers(learning_rate)
        actor = self.optimizers["actor"].named
        self.average = ExponentialMovingAverage(actor, maximum=averaging) if averaging else None

    def _make_optimizers(self, learning_rate: float) -> None:
        """One each, so that a step of one leaves the moments of the others alone."""
        parts: Any = self.policy.module
        learnt = [*self.critic.named_parameters(prefix="critic"), *parts["encoder"].named_parameters(prefix="encoder")]
        self.optimizers = {
            "actor": adam("moments.actor", parts["body"].named_parameters(prefix="actor"), learning_rate),
            "critic": adam("moments.critic", learnt, learning_rate),
            "temperature": adam("moments.temperature", [("t", self.log_temperature)], learning_rate),
        }
        if self.grasp is not None:
            self.optimizers["gripper"] = self.grasp.optimizer

    # --- Learner

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        """Equal views of online rows and of demonstrations, half a batch each."""
        return self._views

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """Batches {view: {key: [G, B/2, ...]}} as ReplaySampler gives them, G critic steps.

        Raises InvalidArrayError for a batch that is not finite, before anything is changed, and RobotRlError when a
        loss is not.
        """
        check_batches(batches, self.step)
        first = batches[ONLINE]
        keys = [key for key in first if key not in BOOKKEEPING]
        joined = {key: torch.cat([batches[view][key] for view in self._views], dim=1) for key in keys}
        whole = place(joined, self.device)
        metrics, features, last = {}, torch.empty(0), whole
        for group in range(len(first["reward"])):
            last = {key: value[group] for key, value in whole.items()}
            metrics, features = self._critic_step(last)
        metrics |= self._actor_step(features, self._action(last))
        return finite_numbers(metrics, self.step)

    def acting_state(self) -> dict[str, Tensor]:
        """The policy's state, copied; the actor's weights averaged where they are to be."""
        state = {key: value.detach().clone() for key, value in self.policy.state_dict().items()}
        averaged = {} if self.average is None else self.average.average
        return state | {name.replace("actor.", "module.body.", 1): value.clone() for name, value in averaged.items()}

    # --- steps

    def _critic_step(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """One step of the critics and the encoder, and of the grasp critic; metrics and the features seen."""
        generator = step_generator(self.seed, self.step)
        features = self._features(batch, "", generator)
        with torch.no_grad():
            next_features = self._features(batch, NEXT, generator)
        noise = torch.randn((len(features), self.policy.action_size), generator=generator)
        drawn = place({"noise": noise, "chosen": self._critics.draw(generator)}, self.device)
        means = self.losses.of_critic(
            features,
            self._action(batch),
            batch["reward"],
            batch["bootstrap"],
            next_features,
            drawn["noise"],
            drawn["chosen"],
            self.log_temperature.detach(),
        )
        self.optimizers["critic"].step()
        self._critics.follow()
        self.step += 1
        metrics: dict[str, Tensor] = dict(zip(("critic_loss", "q", "target"), means, strict=True))
        one = slice(len(batch["reward"]))  # of the views
        if self.grasp is not None:
            metrics |= self.grasp.update(batch, features[one], next_features[one])
        return metrics, features[one].detach()

    def _actor_step(self, features: Tensor, taken: Tensor) -> dict[str, Tensor]:
        """One step of actor and temperature at ``features`` [B, F], where the actions ``taken`` [B, A] are stored."""
        shape = (len(features), self.policy.action_size)
        noise = torch.randn(shape, generator=step_generator(self.seed, -self.step))
        drawn = place({"noise": noise}, self.device)["noise"]
        means = self.losses.of_actor(features, drawn, self.log_temperature.detach(), *self._shown(taken))
        objective, log_prob = means
        self.optimizers["actor"].step()
        if self.average is not None:
            self.average.update(self.optimizers["actor"].named)
        # d/d log_temperature of temperature * (entropy - target), entropy = -log_prob
        self.log_temperature.grad = self.log_temperature.detach().exp() * (-log_prob - self.target_entropy)
        self.optimizers["temperature"].step()
        return {"actor_loss": objective, "entropy": -log_prob, "temperature": self.log_temperature.detach().exp()}

    def _shown(self, taken: Tensor) -> tuple[Tensor, ...]:
        """The demonstrations' half of ``taken``, and how much it counts by now; nothing where they are not imitated."""
        if not self._imitation:
            return ()
        return taken[len(taken) // 2 :], torch.tensor(self._imitation.at(self.step), device=self.device)

    def _observed(self, batch: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        return {key: batch[f"{prefix}{array_path(key)}"] for key in self.policy.spec.observation}

    def _features(self, batch: Mapping[str, Tensor], prefix: str, generator: torch.Generator) -> Tensor:
        """Features [K * B, F] of K views of what was observed, one behind the other."""
        observed = self._observed(batch, prefix)
        if self.augmentations > 1:
            observed = {key: torch.cat([value] * self.augmentations) for key, value in observed.items()}
        return self.policy.features(observed, generator)

    def _action(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the policy commands of the commanded action, in [-1, 1], [B, A]."""
        return self.policy.normalised(batch["action"][:, 0]).clamp(-1.0, 1.0)

    # --- being asked

    @torch.no_grad()
    def values(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Batch {key: [B, ...]} -> mean over the critics of Q(s, a), and of Q(s', mean action), [B] each."""
        placed = place(batch, self.device)
        features, ahead = (self.policy.features(self._observed(placed, prefix)) for prefix in ("", NEXT))
        action = self._action(placed)
        next_action, _ = self.policy.sample(ahead, torch.zeros_like(action))
        return self.critic(features, action).mean(dim=0), self.critic(ahead, next_action).mean(dim=0)

    @torch.no_grad()
    def activations(self, batch: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """What the hidden units of actor and critics put out for a batch {key: [B, ...]}."""
        features = self.policy.features(self._observed(place(batch, self.device), ""))
        noise = torch.zeros((len(features), self.policy.action_size), device=self.device)
        with Recorded(self.policy.module, (nn.ReLU,)) as actor, Recorded(self.critic, (nn.ReLU,)) as critic:
            action, _ = self.policy.sample(features, noise)
            self.critic(features, action)
        return {"actor": actor.outputs, "critic": critic.outputs}

    # --- resuming

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: weights, targets, moments, temperature, the frozen statistics and the step."""
        state = {"step": torch.tensor(self.step), **self._networks()}
        state |= {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        for optimizer in self.optimizers.values():
            state |= optimizer.state_dict()
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.policy.load_state_dict(part(state, "policy."))  # type: ignore[attr-defined]
        fill(self._networks(), state)
        for optimizer in self.optimizers.values():
            optimizer.load_state_dict(state)
        self.step = int(state["step"])
        if self.average is not None:
            self.average.load_state_dict(state)

    def _networks(self) -> dict[str, Tensor]:
        """What is learnt beside the policy, by name."""
        named = self._critics.networks() | ({} if self.grasp is None else self.grasp.networks())
        named |= {} if self.average is None else self.average.state_dict()
        return {**named, "temperature": self.log_temperature.detach()}
