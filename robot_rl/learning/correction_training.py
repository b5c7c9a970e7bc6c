"""What learners of corrections have in common: critics and their targets, the corrector and the slow copy of it that
acts, one optimiser each, the hand-over, and all of it in one checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robot_rl.learning.batches import array_path, check_batches, joined, place
from robot_rl.learning.followed_critics import FollowedCritics
from robot_rl.learning.hand_over import HandOver
from robot_rl.learning.named_optimizer import adam
from robot_rl.learning.training_state import fill, finite_numbers, part
from robot_rl.types import PolicySpec

NEXT, DEMONSTRATIONS, ONLINE = "next/", "demonstrations", "online"


class Networks(Protocol):
    """What is learnt around a base (policies.correction_networks)."""

    encoder: nn.Module
    actor: nn.Module
    critic: nn.Module
    reads: PolicySpec
    device: torch.device
    size: int  # of a correction
    horizon: int  # control steps that are corrected together
    tangent: Any

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor: ...

    def seen(self, actions: Tensor) -> Tensor: ...

    def corrected(self, actions: Tensor, by: Tensor) -> Tensor: ...


class Correcting(Protocol):
    """A policy that corrects a base, e.g. policies.residual."""

    networks: Any
    noise: float  # standard deviation of exploring corrections

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class CorrectionTraining:
    """Networks of ``policy`` while they learn.

    Args:
        polyak: share of the new weights that the target critics take after each of their steps.
        averaging: what acts, and what targets ask, keeps this share of its past at each step of the corrector; it
            begins as the base, too.
        hand_over: which episodes are the base's; None: none.
    """

    def __init__(
        self,
        policy: Correcting,
        *,
        subset: int,
        polyak: float,
        learning_rate: float,
        actor_learning_rate: float,
        averaging: float,
        hand_over: HandOver | None,
        seed: int,
    ) -> None:
        self.policy, self.hand_over, self.seed, self.step = policy, hand_over, seed, 0
        self.networks: Networks = policy.networks
        networks = self.networks
        make = lambda: copy.deepcopy(networks.critic)  # noqa: E731
        self.critics = FollowedCritics(make, subset=subset, polyak=polyak, device=networks.device, seed=seed)
        self.slow = copy.deepcopy(networks.actor).requires_grad_(False)
        self._pair: tuple[list[Tensor], list[Tensor]] = (
            list(self.slow.parameters()),
            list(networks.actor.parameters()),
        )
        self._move, self._demonstrated = 1.0 - averaging, slice(None)
        learnt = [*self.critics.critic.named_parameters(prefix="critic")]
        learnt += networks.encoder.named_parameters(prefix="encoder")
        self.optimizers = {
            "actor": adam("moments.actor", networks.actor.named_parameters(), actor_learning_rate),
            "critic": adam("moments.critic", learnt, learning_rate),
        }

    # --- steps

    def over(
        self,
        batches: Mapping[str, Mapping[str, Tensor]],
        views: Iterable[str],
        critic_step: Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], Tensor]],
        actor_step: Callable[[Tensor, Mapping[str, Tensor]], dict[str, Tensor]],
        actor_start: int,
    ) -> dict[str, float]:
        """``critic_step`` on each group of batches {view: {key: [G, B/2, ...]}}, ``views`` side by side as far as they
        are there; then, once there were more than ``actor_start``, ``actor_step`` on the features [B, F] and the batch
        of the last.

        Raises InvalidArrayError for a batch that is not finite, before anything is changed, and RobotRlError when a
        loss is not.
        """
        check_batches(batches, self.step)
        whole = place(joined({view: batches[view] for view in views if view in batches}), self.networks.device)
        online = batches.get(ONLINE, {})
        self._demonstrated = slice(online["reward"].shape[1] if online else 0, None)
        metrics: dict[str, Tensor] = {}
        features, last = torch.empty(0), whole
        for group in range(len(whole["reward"])):
            last = {key: value[group] for key, value in whole.items()}
            metrics, features = critic_step(last)
        if self.step > actor_start:
            metrics |= actor_step(features, last)
        return finite_numbers(metrics, self.step)

    def imitation_error(self, by: Tensor, proposals: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Mean squared distance, in largest corrections, of corrections [B, h * R] from those that would make what was
        demonstrated of proposals [B, h, A]; over the rows of a batch that are demonstrations."""
        shown = self.networks.tangent.between(proposals, batch["action"]).flatten(1)
        return (by - shown)[self._demonstrated].square().sum(dim=-1).mean() / self.networks.horizon

    def descend_critic(self, loss: Tensor) -> None:
        """One step of critics and encoder; the targets follow, and it counts."""
        loss.backward()
        self.optimizers["critic"].step()
        self.critics.follow()
        self.step += 1

    @torch.no_grad()
    def _follow_actor(self) -> None:
        torch._foreach_lerp_(*self._pair, self._move)  # pyright: ignore[reportPrivateImportUsage]

    def descend_actor(self, loss: Tensor) -> None:
        """One step of the corrector, which the slow one follows."""
        loss.backward()
        self.optimizers["actor"].step()
        self._follow_actor()

    def observed(self, batch: Mapping[str, Tensor], prefix: str, generator: torch.Generator | None = None) -> Tensor:
        """Features [B, F] of what was seen at s, or (``next/``) at s'."""
        seen = {key: batch[f"{prefix}{array_path(key)}"] for key in self.networks.reads.observation}
        return self.networks.features(seen, generator)

    def drawn(self, rows: int, generator: torch.Generator) -> Tensor:
        """What exploring adds to corrections, [B, R]."""
        noise = torch.randn((rows, self.networks.size), generator=generator).clamp(-2.0, 2.0)
        return (self.policy.noise * noise).to(self.networks.device)

    # --- acting and resuming

    def acting_state(self) -> dict[str, Tensor]:
        """The policy's state, copied, with the slow corrector, the critics of now and the shares in force."""
        state = {key: value.detach().clone() for key, value in self.policy.state_dict().items()}
        own = {"actor": self.slow, "critic": self.critics.critic}
        for name, network in own.items():
            state |= {f"module.{name}.{key}": value.detach().clone() for key, value in network.state_dict().items()}
        return state | ({} if self.hand_over is None else self.hand_over.state())

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: weights, targets, moments, the frozen statistics, the share and the step."""
        state = {"step": torch.tensor(self.step), **self._networks()}
        state |= {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        for optimizer in self.optimizers.values():
            state |= optimizer.state_dict()
        return state | ({} if self.hand_over is None else self.hand_over.state_dict())

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.policy.load_state_dict(part(state, "policy."))
        fill(self._networks(), state)
        for optimizer in self.optimizers.values():
            optimizer.load_state_dict(state)
        self.step = int(state["step"])
        if self.hand_over is not None:
            self.hand_over.load_state_dict(state)

    def _networks(self) -> dict[str, Tensor]:
        return self.critics.networks() | {f"slow.{name}": value for name, value in self.slow.state_dict().items()}
