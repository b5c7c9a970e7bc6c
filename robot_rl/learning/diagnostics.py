"""What tells early that value learning goes wrong: values above what was earned, and units that have gone silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.data.episode import Episode
from robot_rl.data.replay import ReplaySampler
from robot_rl.types import Array, Cut, ReplayView

DORMANT = 0.025


@runtime_checkable
class ValueLearner(Protocol):
    """A learner whose critic can be asked."""

    def values(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Batch {key: [B, ...]} -> (mean over the critics of Q(s, a), and of Q(s', a') with the policy's mean action),
        [B] each."""
        ...

    def activations(self, batch: Mapping[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        """Hidden activations [..., B, H] by network, for B rows."""
        ...


def dormant_ratio(layers: Sequence[Tensor], threshold: float = DORMANT) -> float:
    """Share of units whose mean activation is at most ``threshold`` of their layer's (Sokar et al. 2023, equation 1).

    ``layers`` are activations [..., B, H]; leading axes are networks of their own.
    """
    silent = total = 0
    for layer in layers:
        strength = layer.float().abs().mean(dim=-2)
        silent += int((strength <= threshold * strength.mean(dim=-1, keepdim=True)).sum())
        total += strength.numel()
    return silent / total if total else 0.0


def earned(reward: Array, bootstrap: Array, next_value: Array, episode: Array) -> Array:
    """Discounted return of each step [N] of whole episodes in order: G_t = r_t + bootstrap_t * G_{t+1}.

    The last step of an episode, which a time limit may have cut off, goes on with ``next_value``.
    """
    result = np.zeros(len(reward))
    for t in reversed(range(len(reward))):
        last = t + 1 == len(reward) or episode[t + 1] != episode[t]
        result[t] = reward[t] + bootstrap[t] * (next_value[t] if last else result[t + 1])
    return result


def diagnose(learner: ValueLearner, view: ReplayView, episodes: Sequence[Episode]) -> dict[str, float]:
    """Over-estimation of the critic on ``episodes``, and the dormant units there.

    ``q_minus_return`` is the mean of Q(s, a) minus what followed, both by the rewards of ``view``; it also holds what
    the policy has learnt since.
    """
    sampler = ReplaySampler(episodes, replace(view, n_step=1, horizon=1, stride=1, cut=Cut.NONE), batch=1)
    if not len(sampler):
        return {}
    batch = sampler.gather(np.arange(len(sampler)))
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    value, next_value = (part.cpu().double().numpy() for part in learner.values(tensors))
    returns = earned(batch["reward"], batch["bootstrap"], next_value, batch["episode"])
    found = {"q_minus_return": float((value - returns).mean()), "return": float(returns.mean())}
    for name, layers in learner.activations(tensors).items():
        found[f"dormant_{name}"] = dormant_ratio(layers)
    return found


class Recorded:
    """Remembers what the modules of the given types put out while it is in force."""

    def __init__(self, network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> None:
        self.outputs: list[Tensor] = []
        self._hooks: list[Any] = []
        self._modules = [module for module in network.modules() if isinstance(module, kinds)]

    def __enter__(self) -> Recorded:
        self._hooks = [module.register_forward_hook(self._keep) for module in self._modules]
        return self

    def __exit__(self, *exception: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.outputs.append(output.detach())
