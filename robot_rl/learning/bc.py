"""Behaviour cloning: gradient steps on a policy's own imitation loss, with averaged weights for acting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from robot_rl.errors import CheckpointError, RobotRlError
from robot_rl.learning.batches import check_batches, place
from robot_rl.learning.ema import ExponentialMovingAverage
from robot_rl.learning.named_optimizer import NamedOptimizer
from robot_rl.learning.step_generator import step_generator
from robot_rl.types import ReplayView, WindowSpec

DEMONSTRATIONS = "demonstrations"


class Imitable(Protocol):
    """A policy that can be trained from demonstrations."""

    @property
    def module(self) -> nn.Module:
        """Its trainable part."""
        ...

    @property
    def windows(self) -> WindowSpec:
        """The windows its loss reads."""
        ...

    def loss(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> Tensor:
        """Scalar loss of windows {array path: [B, L, ...]}; all randomness comes from ``generator``."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Everything acting needs; the trainable part under ``module.<name>``."""
        ...


class BehaviourCloning:
    """AdamW under a cosine schedule with warm-up (Chi et al. 2023); a Learner.

    Args:
        policy: gives the loss and the module to train.
        steps: gradient steps over which the learning rate falls to ``final_fraction`` of ``learning_rate``.
        gradient_norm: clip of the gradient's norm, None for none.
        seed: of timesteps, noise and crops; every gradient step has a generator of its own, by counter.
    """

    def __init__(
        self,
        policy: Imitable,
        *,
        steps: int = 60_000,
        learning_rate: float = 3e-4,
        betas: Sequence[float] = (0.95, 0.999),
        weight_decay: float = 1e-6,
        warmup_steps: int = 500,
        final_fraction: float = 0.0,
        gradient_norm: float | None = 1.0,
        ema_power: float = 0.75,
        ema_maximum: float = 0.9999,
        compiled: bool = False,
        seed: int = 0,
    ) -> None:
        self.policy, self.steps, self.seed, self.step = policy, steps, seed, 0
        self.learning_rate, self.warmup_steps, self.final_fraction = learning_rate, warmup_steps, final_fraction
        self.gradient_norm = gradient_norm
        self._named = dict(policy.module.named_parameters())
        self._optimizer = NamedOptimizer(
            "optimizer",
            self._named,
            lambda p: torch.optim.AdamW(p, learning_rate, (betas[0], betas[1]), weight_decay=weight_decay, fused=True),
        )
        self._ema = ExponentialMovingAverage(self._named, ema_power, ema_maximum)
        self._loss = torch.compile(policy.loss) if compiled else policy.loss

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        return {DEMONSTRATIONS: self.policy.windows}

    def rate(self, step: int) -> float:
        """Learning rate of gradient step ``step``: linear warm-up, then half a cosine."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        progress = min(max(step - self.warmup_steps, 0) / max(self.steps - self.warmup_steps, 1), 1.0)
        fall = 0.5 * (1 + math.cos(math.pi * progress))
        return self.learning_rate * warm * (self.final_fraction + (1 - self.final_fraction) * fall)

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """One gradient step per group of ``demonstrations`` {array path: [G, B, L, ...]}.

        Raises InvalidArrayError for a batch that is not finite, before anything is changed, and RobotRlError when the
        loss is not.
        """
        check_batches(batches, self.step)
        batch = place(batches[DEMONSTRATIONS], next(iter(self._named.values())).device)
        groups = len(next(iter(batch.values())))
        losses = [self._gradient_step({key: value[g] for key, value in batch.items()}) for g in range(groups)]
        loss = torch.stack(losses).mean().item()
        if not math.isfinite(loss):
            raise RobotRlError(
                f"loss is {loss} at gradient step {self.step}", remedy="Lower learning_rate, or look for bad data"
            )
        return {"loss": loss, "learning_rate": self.rate(self.step - 1)}

    def _gradient_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        for group in self._optimizer.optimizer.param_groups:
            group["lr"] = self.rate(self.step)
        loss = self._loss(batch, step_generator(self.seed, self.step))
        loss.backward()
        if self.gradient_norm is not None:
            nn.utils.clip_grad_norm_(list(self._named.values()), self.gradient_norm)
        self._optimizer.step()
        self._ema.update(self._named)
        self.step += 1
        return loss.detach()

    def acting_state(self) -> dict[str, Tensor]:
        """The policy's state with averaged weights, copied."""
        averaged = {f"module.{name}": value for name, value in self._ema.average.items()}
        return {key: averaged.get(key, value).detach().clone() for key, value in self.policy.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: weights, their average, the optimiser's moments and the step."""
        state: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        for name, value in self._named.items():
            state[f"weights.{name}"] = value.detach()
            state[f"average.{name}"] = self._ema.average[name]
        return {**state, **self._optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for a state of another network."""
        for name, value in self._named.items():
            if f"weights.{name}" not in state or state[f"weights.{name}"].shape != value.shape:
                raise CheckpointError(f"training state does not fit: '{name}' is missing or has another shape")
            value.copy_(state[f"weights.{name}"])
            self._ema.average[name].copy_(state[f"average.{name}"])
        self._optimizer.load_state_dict(state)
        self.step = self._ema.step = int(state["step"])
