"""What offline critics of chunks have in common: networks that learn, targets that follow, and both in a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robot_rl.learning.batches import array_path, check_batches, place, transition_view
from robot_rl.learning.bc import DEMONSTRATIONS
from robot_rl.learning.named_optimizer import adam
from robot_rl.learning.training_state import fill, finite_numbers, part
from robot_rl.types import PolicySpec, ReplayView

NEXT = "next/"


class ChunkValues(Protocol):
    """An ensemble Q_e(observation, chunk), e.g. policies.chunk_critic."""

    horizon: int
    action_size: int  # of what the critics see of a chunk, h * A
    feature_size: int
    spec: PolicySpec
    ensemble: nn.Module
    device: torch.device

    @property
    def module(self) -> nn.Module:
        """Encoder and ensemble."""
        ...

    def new_ensemble(self, action_size: int) -> nn.Module: ...

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor: ...

    def chunk(self, actions: Tensor) -> Tensor: ...

    def scaled(self, actions: Tensor) -> Tensor: ...

    def values(self, obs: Mapping[str, Tensor], chunks: Tensor) -> Tensor: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...


class CriticTraining:
    """The critics' target, an optimiser for each network, and the count of gradient steps.

    Args:
        critic: trained as ``critic``, encoder included.
        others: further networks that learn, by name.
        polyak: share of the new weights that the target takes after each step of the critics.
    """

    def __init__(
        self, critic: ChunkValues, others: Mapping[str, nn.Module], *, learning_rate: float, polyak: float
    ) -> None:
        self.critic, self.polyak, self.step = critic, polyak, 0
        self.target = copy.deepcopy(critic.ensemble).requires_grad_(False)
        self._learnt: dict[str, nn.Module] = {"critic": critic.module, **others}
        self._optimizers = {
            name: adam(f"moments.{name}", network.named_parameters(), learning_rate)
            for name, network in self._learnt.items()
        }
        self._pair: tuple[list[Tensor], list[Tensor]] = (
            list(self.target.parameters()),
            list(critic.ensemble.parameters()),
        )

    def descend(self, name: str, loss: Tensor) -> None:
        """One step of the network ``name``; the critics' moves their target too, and counts."""
        loss.backward()
        self._optimizers[name].step()
        for network in self._learnt.values():  # what was only passed through learns nothing
            network.zero_grad(set_to_none=True)
        if name == "critic":
            with torch.no_grad():
                torch._foreach_lerp_(*self._pair, self.polyak)  # pyright: ignore[reportPrivateImportUsage]
            self.step += 1

    def states(self, batch: Mapping[str, Tensor], generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Features at s, with gradient, and at s', [B, F] each."""
        critic = self.critic
        with torch.no_grad():
            ahead = critic.features(observed(critic.spec, batch, NEXT), generator)
        return critic.features(observed(critic.spec, batch), generator), ahead

    def over(
        self, batch: Mapping[str, Tensor], step: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    ) -> dict[str, float]:
        """Take ``step`` for each group of {key: [G, B, ...]}; metrics of the last.

        Raises InvalidArrayError for a batch that is not finite, before anything is changed, and RobotRlError when a
        loss is not.
        """
        check_batches({DEMONSTRATIONS: batch}, self.step)
        metrics: dict[str, Tensor] = {}
        for group in grouped(batch, self.critic.device):
            metrics = step(group)
        return finite_numbers(metrics, self.step)

    def acting_state(self) -> dict[str, Tensor]:
        """What judges: the critic with its target's weights, copied."""
        slow = {f"module.ensemble.{name}": value for name, value in self.target.state_dict().items()}
        return {key: slow.get(key, value).detach().clone() for key, value in self.critic.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: weights, targets, moments, frozen statistics and the step."""
        state: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        state |= {f"judge.{name}": value for name, value in self.critic.state_dict().items()} | self._networks()
        for optimizer in self._optimizers.values():
            state |= optimizer.state_dict()
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        self.critic.load_state_dict(part(state, "judge."))
        fill(self._networks(), state)
        for optimizer in self._optimizers.values():
            optimizer.load_state_dict(state)
        self.step = int(state["step"])

    def _networks(self) -> dict[str, Tensor]:
        """What is learnt beside the critic, by name."""
        networks = {"target": self.target, **{k: v for k, v in self._learnt.items() if k != "critic"}}
        return {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}


def chunk_view(critic: ChunkValues, discount: float, scale: float, shift: float, sparse: bool) -> ReplayView:
    """Every chunk of h control steps that was executed, with gamma per control step."""
    view = transition_view(critic.spec, 1, discount, scale, shift)
    return replace(view, horizon=critic.horizon, sparse=sparse)


def observed(spec: PolicySpec, batch: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """What the critic reads of a batch of transitions, at s or (``next/``) at s'."""
    return {key: batch[f"{prefix}{array_path(key)}"] for key in spec.observation}


def grouped(batch: Mapping[str, Tensor], device: torch.device) -> list[dict[str, Tensor]]:
    """Tensors [G, B, ...] -> G batches on the device."""
    whole = place(batch, device)
    return [{key: value[g] for key, value in whole.items()} for g in range(len(batch["reward"]))]


def permuted(action: Tensor, generator: torch.Generator) -> Tensor:
    """The actions [B, ...] given to other rows: of what an action does, nothing is left to be learnt."""
    return action[torch.randperm(len(action), generator=generator).to(action.device)]
