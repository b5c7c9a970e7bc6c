"""HG-DAgger (Kelly et al. 2019): imitation of demonstrations and of the steps in which a person took over.

The policy is the one that reinforcement learning trains and its data the demonstration side of RLPD's batches, so that
both can be held against each other at equal updates. Without a person it is behaviour cloning of the demonstrations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from robot_rl.errors import CheckpointError, ConfigError, RobotRlError
from robot_rl.learning.batches import array_path, check_batches, place
from robot_rl.learning.named_optimizer import adam
from robot_rl.learning.soft_losses import StochasticActor
from robot_rl.learning.step_generator import step_generator
from robot_rl.learning.training_state import part
from robot_rl.types import ReplayView, WindowSpec

DEMONSTRATIONS = "demonstrations"


class HgDagger:
    """A Learner: least squares between the policy's mean action and the commanded one, within the limits of actions.

    Args:
        policy: what acts; its spread stays as it was made (conf/recipe keeps it small).
        learning_rate: of Adam.
        seed: of random crops, drawn by a generator of each step's own.
    """

    def __init__(self, policy: StochasticActor, *, learning_rate: float = 3e-4, seed: int = 0) -> None:
        if policy.gripper is not None:
            raise ConfigError("a gripper that is chosen by value cannot be imitated", remedy="policy.gripper=null")
        self.policy, self.seed, self.step = policy, seed, 0
        self.device = next(policy.module.parameters()).device
        self._optimizer = adam("moments", policy.module.named_parameters(), learning_rate)
        self._paths = {key: array_path(key) for key in policy.spec.observation}
        self._view = ReplayView(history=int(policy.spec.history), observation=tuple(self._paths.values()))

    @property
    def views(self) -> Mapping[str, ReplayView | WindowSpec]:
        """Single steps of demonstrations and corrections."""
        return {DEMONSTRATIONS: self._view}

    def update(self, batches: Mapping[str, Mapping[str, Tensor]]) -> dict[str, float]:
        """One gradient step for each group of {``demonstrations``: {key: [G, B, ...]}}.

        Raises InvalidArrayError for a batch that is not finite, and RobotRlError when the loss is not.
        """
        check_batches(batches, self.step)
        batch = place(batches[DEMONSTRATIONS], self.device)
        losses = [self._gradient_step({k: v[g] for k, v in batch.items()}) for g in range(len(batch["action"]))]
        loss = float(torch.stack(losses).mean())
        if not math.isfinite(loss):
            raise RobotRlError(f"loss is {loss} at gradient step {self.step}", remedy="Lower learning_rate")
        return {"loss": loss}

    def _gradient_step(self, batch: Mapping[str, Tensor]) -> Tensor:
        observed = {key: batch[path] for key, path in self._paths.items()}
        features = self.policy.features(observed, step_generator(self.seed, self.step))
        action = self.policy.normalised(batch["action"][:, 0]).clamp(-1.0, 1.0)
        mean, _ = self.policy.sample(features, torch.zeros_like(action))
        loss = F.mse_loss(mean, action)
        loss.backward()
        self._optimizer.step()
        self.step += 1
        return loss.detach()

    def acting_state(self) -> dict[str, Tensor]:
        """The policy's state, copied."""
        return {key: value.detach().clone() for key, value in self.policy.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Flat tensors: the policy with its statistics, the optimiser's moments and the step."""
        state: dict[str, Tensor] = {"step": torch.tensor(self.step)}
        state |= {f"policy.{name}": value for name, value in self.policy.state_dict().items()}
        return {**state, **self._optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of another network."""
        if "step" not in state:
            raise CheckpointError("training state does not fit: 'step' is missing")
        self.policy.load_state_dict(part(state, "policy."))  # type: ignore[attr-defined]
        self._optimizer.load_state_dict(state)
        self.step = int(state["step"])
