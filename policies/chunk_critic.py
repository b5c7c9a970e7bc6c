"""Values of chunks: an ensemble of critics over the observation and the part of a chunk that is executed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from policies.device import chosen_device
from policies.encoders import FEATURES, ObservationEncoder
from policies.features import Feature, every_feature, named_features
from policies.image_encoder import ImageEncoder
from policies.policy_state import pack, unpack
from robot_rl.data.normalizer import Normalizer
from robot_rl.types import Arrays, EnvSpec, PolicySpec

ACTION = "action"
COMMANDED = "action/commanded"  # array path of an episode


class ChunkCritic:
    """Q_e(observation window, chunk): what re-ranking judges by.

    A chunk is seen as the env executes it: clipped to the limits, as -1 to 1 of them, then on the scale of the data
    (mean 0, deviation 1, at most tenfold), since what a base proposes differs by far less than the limits.

    Args:
        env_spec: what is observed and commanded; kept in checkpoints.
        ensemble: constructor of the critics (QEnsemble), called with feature_size, action_size.
        observation, features, cameras, history: as for DiffusionPolicy.
        horizon: control steps of a chunk that count, the base's T_a.
        base_sha256: of the base whose chunks it was trained to judge; '' for any.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of the initial weights.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        ensemble: Callable[..., nn.Module],
        *,
        observation: Mapping[str, str] | None = None,
        features: Sequence[Feature] | None = None,
        cameras: Mapping[str, Callable[[], ImageEncoder]] | None = None,
        history: int = 1,
        horizon: int = 4,
        base_sha256: str = "",
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        chosen = [*named_features(observation or {}, env_spec.observation), *(features or ())]
        if observation is None and not features:
            chosen = every_feature(env_spec.observation, privileged=not cameras)
        self.env_spec, self.device = env_spec, chosen_device(device)
        self.horizon, self.base_sha256, self.seed = horizon, base_sha256, seed
        self.action_size = horizon * env_spec.action.size
        self._make, self._low, self._high = (
            ensemble,
            *map(torch.from_numpy, (env_spec.action.low, env_spec.action.high)),
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = ObservationEncoder(env_spec, history, chosen, cameras or {})
        self.feature_size = self.encoder.size
        self.ensemble = self.new_ensemble(self.action_size)
        self.module = nn.ModuleDict({"encoder": self.encoder, "ensemble": self.ensemble}).to(self.device)
        self.normalizer = Normalizer({}, {})
        self.spec = PolicySpec(self.encoder.inputs, env_spec.action, history, horizon, horizon)

    def new_ensemble(self, action_size: int) -> nn.Module:
        """Fresh networks of the same make; those of size 0 value observations alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + 1 + action_size)
            return self._make(feature_size=self.feature_size, action_size=action_size).to(self.device)

    # --- being asked

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Observations {name: [B, T_o, ...]} -> [B, F]; ``generator`` draws random crops."""
        placed = {key: obs[key].to(self.device) for key in self.spec.observation}
        return self.encoder(placed, self.normalizer, generator)

    def chunk(self, actions: Tensor) -> Tensor:
        """Chunks [..., >= h, A] in physical units -> what the critics see of them [..., h * A]."""
        executed = actions[..., : self.horizon, :].to(self.device)
        low, high = self._low.to(executed), self._high.to(executed)
        return self.scaled(2.0 * (executed.clamp(low, high) - low) / (high - low) - 1.0)

    def scaled(self, actions: Tensor) -> Tensor:
        """Actions [..., h, A] in -1 to 1 of the limits -> what the critics see of them [..., h * A]."""
        return self.normalizer.normalize(ACTION, actions).flatten(-2)

    @torch.no_grad()
    def values(self, obs: Mapping[str, Tensor], chunks: Tensor) -> Tensor:
        """Windows {name: [B, T_o, ...]} and K chunks for each [B, K, >= h, A] in physical units -> [E, B, K]."""
        features = self.features(obs).repeat_interleave(chunks.shape[1], dim=0)
        return self.ensemble(features, self.chunk(chunks).flatten(0, 1)).unflatten(1, chunks.shape[:2])

    # --- statistics and weights

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) that training images are brought to; None without cameras."""
        return self.encoder.image_size

    def fit_normalizer(self, rows: Arrays) -> None:
        """Statistics from rows {array path: [N, D]}, frozen for the run. Raises InvalidArrayError for none."""
        action = torch.from_numpy(rows[COMMANDED])
        unit = 2.0 * (action.clamp(self._low, self._high) - self._low) / (self._high - self._low) - 1.0
        self.normalizer = Normalizer.fit({ACTION: unit.numpy(), **self.encoder.of_rows(rows)}, "gaussian")

    def state_dict(self) -> dict[str, Tensor]:
        """Weights under ``module.``, statistics under ``normalizer.``."""
        return pack(self.module, self.normalizer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of another network."""
        sizes = {ACTION: self.env_spec.action.size, FEATURES: self.encoder.feature_size}
        self.normalizer = unpack(state, self.module, sizes)
