"""Tanh-squashed Gaussian policy (Haarnoja et al. 2018): what off-policy learning from scratch acts with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.encoders import FEATURES, ObservationEncoder
from policies.features import Feature, every_feature, named_features
from policies.image_encoder import ImageEncoder
from policies.row_noise import RowNoise
from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import CheckpointError
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, EnvSpec, PolicySpec

ACTION = "action"
OBSERVATION = "obs/"  # array paths of an episode: obs/<name>, images/<camera>
_LOG_2 = math.log(2.0)


class GaussianPolicy:
    """a = tanh(mean + std * noise) in the limits of the action spec; the mean when it does not explore.

    Args:
        env_spec: what is observed and commanded; kept in checkpoints.
        observation, features, cameras, history: as for DiffusionPolicy.
        hidden: widths of the hidden layers.
        layer_norm: normalise every hidden layer.
        log_std: bounds of the standard deviation's logarithm, before the squashing.
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
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        chosen = [*named_features(observation or {}, env_spec.observation), *features]
        if observation is None and not features:
            chosen = every_feature(env_spec.observation, privileged=not cameras)
        self.env_spec, self.device = env_spec, torch.device(device)
        self.low, self.high = float(log_std[0]), float(log_std[1])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = ObservationEncoder(env_spec, history, chosen, cameras or {})
            body = _body(encoder.size, hidden, layer_norm, 2 * env_spec.action.size)
        self.encoder, self.body = encoder, body
        self.module = nn.ModuleDict({"encoder": encoder, "body": body}).to(self.device)
        self.normalizer = Normalizer.from_limits(env_spec.action, ACTION)
        self.spec = PolicySpec(encoder.inputs, env_spec.action, history)
        self._noise = RowNoise(seed)

    # --- Policy

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the exploration noise of batch rows ``rows`` [R] at the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)

    @torch.inference_mode()
    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> actions [B, 1, A]; explores when the context says so."""
        noise = self._noise.draw(len(context.step), (self.env_spec.action.size,))
        observed = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in self.spec.observation}
        features = self.features(observed)
        drawn = torch.from_numpy(noise).to(self.device) if context.explore else torch.zeros(noise.shape)
        action = self.physical(self.sample(features, drawn.to(self.device))[0])
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
        sizes = [value.shape for key, value in self.spec.observation.items() if key.startswith("images/")]
        return (sizes[0][0], sizes[0][1]) if sizes else None

    def sample(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, F] and standard-normal noise [B, A] -> actions in (-1, 1) [B, A], log-density there [B]."""
        mean, log_std = self.body(features).float().chunk(2, dim=-1)
        log_std = self.low + 0.5 * (self.high - self.low) * (torch.tanh(log_std) + 1.0)
        before = mean + log_std.exp() * noise
        gaussian = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        # log(1 - tanh(u)^2), in a form that does not lose its digits for large |u|
        squash = 2.0 * (_LOG_2 - before - F.softplus(-2.0 * before))
        return torch.tanh(before), (gaussian - squash).sum(dim=-1)

    def normalised(self, action: Tensor) -> Tensor:
        """Physical actions [..., A] -> [-1, 1]."""
        return self.normalizer.normalize(ACTION, action)

    def physical(self, action: Tensor) -> Tensor:
        """Actions in [-1, 1] -> physical units [..., A]."""
        return self.normalizer.denormalize(ACTION, action)

    def fit_normalizer(self, rows: Arrays) -> None:
        """Statistics of the features from rows {array path: [N, D]}, frozen for the run; actions keep their limits.

        Raises InvalidArrayError for none.
        """
        if not self.encoder.features:
            return
        keys = [key for key in self.spec.observation if not key.startswith("images/")]
        observation = {key: torch.from_numpy(rows[f"{OBSERVATION}{key}"]) for key in keys}
        limits = Normalizer.from_limits(self.env_spec.action, ACTION)
        fitted = Normalizer.fit({FEATURES: self.encoder.vector(observation).numpy()}, "gaussian")
        self.normalizer = Normalizer({**limits.offset, **fitted.offset}, {**limits.scale, **fitted.scale})

    # --- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Weights under ``module.``, statistics under ``normalizer.``."""
        weights = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        statistics = {f"normalizer.{key}": torch.from_numpy(v) for key, v in self.normalizer.state_dict().items()}
        return {**weights, **statistics}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of another network."""
        weights = {k.removeprefix("module."): v for k, v in state.items() if k.startswith("module.")}
        statistics = {k.removeprefix("normalizer."): v for k, v in state.items() if k.startswith("normalizer.")}
        try:
            self.module.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"weights do not fit the policy: {' '.join(str(error).split())}") from error
        self.normalizer = Normalizer.from_state_dict(statistics)


def _body(inputs: int, hidden: Sequence[int], layer_norm: bool, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), *([nn.LayerNorm(width)] if layer_norm else []), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))
