"""Tanh-squashed Gaussian policy (Haarnoja et al. 2018): what off-policy learning from scratch acts with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.device import chosen_device
from policies.encoders import FEATURES, ObservationEncoder
from policies.features import Feature, every_feature, named_features
from policies.gripper_values import GripperValues
from policies.image_encoder import ImageEncoder
from policies.mlp import mlp
from policies.policy_state import pack, unpack
from policies.row_noise import RowNoise
from robot_rl.data.normalizer import Normalizer
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, EnvSpec, PolicySpec

ACTION = "action"
_LOG_2 = math.log(2.0)


class GaussianPolicy:
    """a = tanh(mean + std * noise) in the limits of the action spec; the mean when it does not explore.

    Args:
        env_spec: what is observed and commanded; kept in checkpoints.
        observation, features, cameras, history: as for DiffusionPolicy.
        hidden: widths of the hidden layers.
        layer_norm: normalise every hidden layer.
        log_std: bounds of the standard deviation's logarithm, before the squashing.
        gripper: constructor of what chooses the gripper's opening (GripperValues), called with feature_size, action;
            the Gaussian then has the rest of the action. None: it has all of it.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of the initial weights and of the exploration noise, which is drawn by counter.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        *,
        observation: Mapping[str, str] | None = None,
        features: Sequence[Feature] = (),
        cameras: Mapping[str, Callable[[], ImageEncoder]] | None = None,
        history: int = 1,
        hidden: Sequence[int] = (256, 256),
        layer_norm: bool = True,
        log_std: Sequence[float] = (-10.0, 2.0),
        gripper: Callable[..., GripperValues] | None = None,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        chosen = [*named_features(observation or {}, env_spec.observation), *features]
        if observation is None and not features:
            chosen = every_feature(env_spec.observation, privileged=not cameras)
        self.env_spec, self.device = env_spec, chosen_device(device)
        self.low, self.high = float(log_std[0]), float(log_std[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = ObservationEncoder(env_spec, history, chosen, cameras or {})
            self.action_size = env_spec.action.size - (gripper is not None)
            body = mlp(encoder.size, hidden, 2 * self.action_size, layer_norm)
            self.gripper = None if gripper is None else gripper(feature_size=encoder.size, action=env_spec.action)
        self.encoder, self.body = encoder, body
        parts = {"encoder": encoder, "body": body, **({} if self.gripper is None else {"gripper": self.gripper})}
        self.module = nn.ModuleDict(parts).to(self.device)
        self.normalizer = self._limits()
        self.spec = PolicySpec(encoder.inputs, env_spec.action, history)
        self._noise = RowNoise(seed)

    # --- Policy

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the exploration noise of batch rows ``rows`` [R] at the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)

    @torch.inference_mode()
    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> actions [B, 1, A]; explores when the context says so."""
        noise = self._noise.draw(len(context.step), (self.env_spec.action.size,))  # the gripper's last, if it has any
        drawn = torch.from_numpy(noise if context.explore else np.zeros_like(noise)).to(self.device)
        observed = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in self.spec.observation}
        features = self.features(observed)
        action = self.physical(self.sample(features, drawn[:, : self.action_size])[0])
        if self.gripper is not None:
            choice = self.gripper.choose(features, drawn[:, -1] if context.explore else None)
            action = self.gripper.whole(action, choice)
        return ActionChunk(action[:, None].cpu().numpy(), 1)

    # --- what learners use

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Observations {name: [B, T_o, ...]} -> normalised features [B, F]; ``generator`` draws random crops."""
        placed = {key: obs[key].to(self.device) for key in self.spec.observation}
        return self.encoder(placed, self.normalizer, generator)

    @property
    def feature_size(self) -> int:
        return self.encoder.size

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) that training images are brought to; None without cameras."""
        return self.encoder.image_size

    def sample(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F] and standard-normal noise [B, A] -> actions in (-1, 1) [B, A], log-density there [B].

        A is ``action_size``: without the gripper where that is chosen.
        """
        mean, log_std = self.body(features).float().chunk(2, dim=-1)
        log_std = self.low + 0.5 * (self.high - self.low) * (torch.tanh(log_std) + 1.0)
        before = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        # log(1 - tanh(u)^2), in a form that does not lose its digits for large |u|
        squash = 2.0 * (_LOG_2 - before - F.softplus(-2.0 * before))
        return torch.tanh(before), (gaussian - squash).sum(dim=-1)

    def normalised(self, action: Tensor) -> Tensor:
        """Whole physical actions -> what the Gaussian commands of them, in [-1, 1], [..., A]."""
        return self.normalizer.normalize(ACTION, action if self.gripper is None else self.gripper.without(action))

    def physical(self, action: Tensor) -> Tensor:
        """Actions in [-1, 1] -> physical units [..., A]."""
        return self.normalizer.denormalize(ACTION, action)

    def fit_normalizer(self, rows: Arrays) -> None:
        """Statistics of the features from rows {array path: [N, D]}, frozen for the run; actions keep their limits.

        Raises InvalidArrayError for none.
        """
        limits, fitted = self._limits(), Normalizer.fit(self.encoder.of_rows(rows), "gaussian")
        self.normalizer = Normalizer({**limits.offset, **fitted.offset}, {**limits.scale, **fitted.scale})

    def _limits(self) -> Normalizer:
        """The limits of what the Gaussian commands, mapped to [-1, 1]."""
        limits = Normalizer.from_limits(self.env_spec.action, ACTION)
        if self.gripper is None:
            return limits
        at = self.gripper.component
        return Normalizer({ACTION: np.delete(limits.offset[ACTION], at)}, {ACTION: np.delete(limits.scale[ACTION], at)})

    # --- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Weights under ``module.``, statistics under ``normalizer.``."""
        return pack(self.module, self.normalizer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of another network."""
        sizes = {ACTION: self.action_size, FEATURES: self.encoder.feature_size}
        self.normalizer = unpack(state, self.module, sizes)
