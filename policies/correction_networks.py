"""What is learnt around a base that is corrected: an encoder, the network that corrects, and critics of the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from policies.corrector import Corrector
from policies.device import chosen_device
from policies.encoders import FEATURES, ObservationEncoder
from policies.features import Feature, every_feature, named_features
from policies.image_encoder import ImageEncoder
from policies.policy_state import pack, unpack
from policies.tangent import Tangent
from robot_rl.data.normalizer import Normalizer
from robot_rl.types import Array, Arrays, EnvSpec, PolicySpec


class CorrectionNetworks:
    """Networks and statistics beside a base, which has its own.

    Args:
        env_spec: what is observed and commanded.
        critic: constructor of the ensemble (QEnsemble), called with feature_size, action_size.
        horizon: control steps that are corrected and judged together, h.
        observation, features, cameras, history: as for DiffusionPolicy; independent of what the base sees.
        hidden: widths of the corrector's hidden layers.
        fraction, least: the largest correction, see Tangent.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of the initial weights.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        critic: Callable[..., nn.Module],
        horizon: int,
        *,
        observation: Mapping[str, str] | None,
        features: Sequence[Feature],
        cameras: Mapping[str, Callable[[], ImageEncoder]] | None,
        history: int,
        hidden: Sequence[int],
        fraction: float,
        least: float,
        device: str,
        seed: int,
    ) -> None:
        chosen = [*named_features(observation or {}, env_spec.observation), *features]
        if observation is None and not features:
            chosen = every_feature(env_spec.observation, privileged=not cameras)
        self.action, self.horizon, self.device = env_spec.action, horizon, chosen_device(device)
        self.tangent = Tangent(env_spec.action, fraction, least)
        self.action_size, self.size = horizon * env_spec.action.size, horizon * self.tangent.size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = ObservationEncoder(env_spec, history, chosen, cameras or {})
            self.actor = Corrector(self.encoder.size, self.action_size, self.size, hidden=hidden)
            self.critic = critic(feature_size=self.encoder.size, action_size=self.action_size)
        parts = {"encoder": self.encoder, "actor": self.actor, "critic": self.critic}
        self.module = nn.ModuleDict(parts).to(self.device)
        self.normalizer = Normalizer({}, {})
        self._low, self._high = (
            torch.from_numpy(v).to(self.device) for v in (env_spec.action.low, env_spec.action.high)
        )
        self.reads = PolicySpec(self.encoder.inputs, env_spec.action, history, horizon, horizon)

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Observations {name: [B, >= T_o, ...]} -> [B, F] of the last T_o; ``generator`` draws random crops."""
        newest = {key: obs[key][:, -self.reads.history :].to(self.device) for key in self.reads.observation}
        return self.encoder(newest, self.normalizer, generator)

    def seen(self, actions: Tensor) -> Tensor:
        """Actions [..., h, A] in physical units as the networks see them, [..., h * A]: clipped to the limits as the
        env does, as -1 to 1 of them."""
        clipped = actions.to(self.device).clamp(self._low, self._high)
        return (2.0 * (clipped - self._low) / (self._high - self._low) - 1.0).flatten(-2)

    def corrected(self, actions: Tensor, by: Tensor) -> Tensor:
        """Physical actions [..., h, A] moved by corrections [..., h * R]."""
        return self.tangent.corrected(actions, by.unflatten(-1, (self.horizon, -1)))

    def edited(self, actor: nn.Module, features: Tensor, proposals: Tensor, noise: Tensor) -> Tensor:
        """C proposals for each row [B, C, h, A], corrected by ``actor`` and noise [B, C, h * R] at features [B, F]."""
        many = proposals.shape[1]
        placed = proposals.to(self.device)
        by = actor(features.repeat_interleave(many, dim=0), self.seen(placed).flatten(0, 1)).unflatten(0, (-1, many))
        return self.corrected(placed, (by + noise).clamp(-1.0, 1.0))

    def values(self, critic: Callable[[Tensor, Tensor], Tensor], features: Tensor, actions: Tensor) -> Tensor:
        """What the members of ``critic`` say of C actions for each row [B, C, h, A] at features [B, F], [E, B, C]."""
        many = actions.shape[1]
        values = critic(features.repeat_interleave(many, dim=0), self.seen(actions).flatten(0, 1))
        return values.unflatten(1, (-1, many))

    def fit_normalizer(self, rows: Arrays) -> None:
        """Statistics of the features from rows {array path: [N, D]}, frozen for the run; actions go by their limits.

        Raises InvalidArrayError for none.
        """
        self.normalizer = Normalizer.fit(self.encoder.of_rows(rows), "gaussian")

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) that training images are brought to; None without cameras."""
        return self.encoder.image_size

    def state_dict(self) -> dict[str, Tensor]:
        """Weights under ``module.``, statistics under ``normalizer.``."""
        return pack(self.module, self.normalizer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of other networks."""
        own = {key: value for key, value in state.items() if key.startswith(("module.", "normalizer."))}
        self.normalizer = unpack(own, self.module, {FEATURES: self.encoder.feature_size})


def unless_zero(by: Tensor, corrected: Tensor, action: Tensor) -> Array:
    """Where a correction [..., R] is 0 the action [..., A] itself, bit for bit: adding 0 loses the sign of a 0."""
    return torch.where((by == 0.0).all(dim=-1, keepdim=True), action, corrected).cpu().numpy()
