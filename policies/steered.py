"""Diffusion steering (DSRL, Wagenmaker et al. 2025): a frozen generator acts, and which noise it gets is learnt.

The base is a black box: of it nothing but chunks from noise is asked, here or in another process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from policies.arms import BASE, CLOSED, OPEN, RECORD, Arms, gate
from policies.chosen import in_limits
from policies.chunk_critic import ACTION, COMMANDED
from policies.device import chosen_device
from policies.encoders import FEATURES, ObservationEncoder
from policies.features import Feature, every_feature, named_features
from policies.frozen import Frozen
from policies.image_encoder import ImageEncoder
from policies.latent_gaussian import REACH, LatentGaussian, divergence, log_density, squashed
from policies.policy_state import digest, pack, unpack
from policies.row_noise import RowNoise
from policies.scaled_noise import ScaledNoise
from robot_rl.data.normalizer import Normalizer
from robot_rl.interfaces import ChunkSampler, Policy, SamplerSpec
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, EnvSpec, PolicySpec


class Steered:
    """``base`` acting from the noise that a small network prefers; an untrained one prefers none.

    Args:
        env_spec: what is observed and commanded; kept in checkpoints.
        base: a Frozen, or a policy that makes chunks from noise.
        critic: constructor of the ensembles (QEnsemble), called with feature_size, action_size; that of noise acts too.
        observation, features, cameras: of the network, as for DiffusionPolicy; T_o is the base's.
        hidden, log_std: of the network, see LatentGaussian.
        deviations: the preferred noise acts where it gains over the base's own draw by the critics' mean less so many
            of their standard deviations; exploring by the mean alone.
        spread: share of the learnt standard deviation that acts when it does not explore; 0 is the mean.
        forced_open: steer every episode, whatever the hand-over (policies.arms) says.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: of the initial weights. Noise is drawn as the base draws it.
    """

    def __init__(
        self,
        env_spec: EnvSpec,
        base: Any,
        critic: Callable[..., nn.Module],
        *,
        observation: Mapping[str, str] | None = None,
        features: Sequence[Feature] = (),
        cameras: Mapping[str, Callable[[], ImageEncoder]] | None = None,
        hidden: Sequence[int] = (256, 256),
        log_std: Sequence[float] = (-4.0, 1.0),
        deviations: float = 1.0,
        spread: float = 1.0,
        forced_open: bool = False,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        chosen = [*named_features(observation or {}, env_spec.observation), *features]
        if observation is None and not features:
            chosen = every_feature(env_spec.observation, privileged=not cameras)
        self.base = base if isinstance(base, Frozen) else Frozen(base)
        self.base.check(env_spec)
        self.env_spec, self.device = env_spec, chosen_device(device)
        self.spread, self.deviations = spread, deviations
        inner = self.base.sampler.spec
        self.noise_shape, self.horizon = inner.noise_shape, inner.execute
        self.latent_size = math.prod(inner.noise_shape)
        self.chunk_size = inner.execute * env_spec.action.size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = ObservationEncoder(env_spec, inner.history, chosen, cameras or {})
            self.actor = LatentGaussian(encoder.size, self.latent_size, hidden=hidden, log_std=log_std)
            self.critic = critic(feature_size=encoder.size, action_size=self.latent_size)
        self.encoder, self._make_critic = encoder, critic
        parts = {"encoder": encoder, "actor": self.actor, "critic": self.critic}
        self.module = nn.ModuleDict(parts).to(self.device)
        self.normalizer = Normalizer({}, {})
        observed = {**inner.observation, **encoder.inputs}
        self.spec = PolicySpec(observed, env_spec.action, inner.history, inner.horizon, inner.execute, RECORD)
        self.arms, self._noise = Arms(seed, forced_open), RowNoise(inner.seed)

    # --- Policy

    def reset(self, rows: Array, seeds: Array) -> None:
        """Restart the noise of batch rows ``rows`` [R] at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)
        self.arms.reset(rows, seeds)

    @torch.no_grad()
    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A] from the current step on, their noise in ``decision``.

        Rows whose episode is the base's get the noise that it would act with itself.
        """
        rows = len(context.step)
        drawn = torch.from_numpy(self._noise.draw(rows, self.noise_shape))
        seen = {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in self.spec.observation}
        reinforced = self.arms.reinforced(rows, context.explore)
        noise, arm = drawn, np.full(rows, BASE, dtype=np.uint8)
        if reinforced.any():  # on the whole batch, so that a row's numbers do not depend on the others' arms
            spread, deviations = (1.0, 0.0) if context.explore else (self.spread, self.deviations)
            noise, opened = self.steer(seen, drawn, spread, deviations)
            noise[~reinforced] = drawn[~reinforced]
            arm = np.where(reinforced, np.where(opened, OPEN, CLOSED), BASE).astype(np.uint8)
        chunks = self.base.sampler.sample(seen, noise).cpu().numpy()
        record = {"arm": np.repeat(arm[:, None], chunks.shape[1], axis=1)}
        return ActionChunk(chunks, self.spec.execute, record, {"noise": noise.numpy()})

    @torch.no_grad()
    def steer(self, obs: Mapping[str, Tensor], drawn: Tensor, spread: float, deviations: float) -> tuple[Tensor, Array]:
        """Observations {key: [B, T_o, ...]} and N(0, I) draws [B, *noise_shape] -> the base's noise, as large, and
        where it is not the draw itself, bool [B]."""
        features, own = self.features(obs), drawn.flatten(1).to(self.device)
        preferred = self.actor(features, spread * own)
        if self.arms.forced:
            return preferred.view(drawn.shape).cpu(), np.ones(len(drawn), dtype=bool)
        opened = gate(self.critic(features, preferred), self.critic(features, own), deviations)
        return torch.where(opened[:, None], preferred, own).view(drawn.shape).cpu(), opened.cpu().numpy()

    @property
    def sampler(self) -> ChunkSampler:
        """This as a generator, for what acts around it: the noise it is given takes the place of its own draw."""
        return SteeredSampler(self)

    def sha256(self) -> str:
        """Of weights, statistics and the base's."""
        return digest({**self.state_dict(), "base": torch.tensor(list(bytes.fromhex(self.base.sha256)))})

    def starts(self) -> dict[str, Policy]:
        """What a success is to be compared with before anything was learnt: the base, what it becomes where its noise
        is brought within reach, and without noise."""
        sampler = self.base.sampler
        return {
            "prior": ScaledNoise(sampler, 1.0),
            "prior within reach": ScaledNoise(sampler, 1.0, REACH),
            "w = 0": ScaledNoise(sampler, 0.0),
        }

    # --- what learners use

    @property
    def feature_size(self) -> int:
        return self.encoder.size

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) that training images are brought to; None without cameras."""
        sizes = [value.shape for key, value in self.spec.observation.items() if key.startswith("images/")]
        return (sizes[0][0], sizes[0][1]) if sizes else None

    def features(self, obs: Mapping[str, Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Observations {key: [B, T_o, ...]} -> normalised features [B, F]; ``generator`` draws random crops."""
        placed = {key: obs[key].to(self.device) for key in self.encoder.inputs}
        return self.encoder(placed, self.normalizer, generator)

    def new_critic(self, action_size: int) -> nn.Module:
        """Untrained critics of the same make, of chunks as critics see them or of noise."""
        return self._make_critic(feature_size=self.feature_size, action_size=action_size).to(self.device)

    def density(self, features: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, F] and draws [B, L] -> noise [B, L], its log-density [B] and its KL from the prior [B]."""
        mean, log_std = self.actor.moments(features)
        return squashed(mean + log_std.exp() * draws), log_density(mean, log_std, draws), divergence(mean, log_std)

    @torch.no_grad()
    def chunks(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """What the base makes of noise [B, L] -> executed part [B, h * A] as critics see it."""
        made = self.base.teacher.sample(obs, noise.view(len(noise), *self.noise_shape).cpu())
        return self.chunk(made.cpu()).to(self.device)

    def chunk(self, actions: Tensor) -> Tensor:
        """Chunks [..., >= h, A] in physical units -> what critics see of them [..., h * A]: clipped to the limits as
        the env does, then on the scale of the demonstrations, by which a base's chunks differ."""
        executed = in_limits(actions[..., : self.horizon, :].cpu(), self.env_spec.action)
        return self.normalizer.normalize(ACTION, executed).flatten(-2)

    def fit_normalizer(self, rows: Arrays) -> None:
        """Statistics from rows {array path: [N, D]} of demonstrations, frozen for the run. Raises InvalidArrayError
        for none."""
        actions = in_limits(torch.from_numpy(rows[COMMANDED]), self.env_spec.action).numpy()
        self.normalizer = Normalizer.fit({ACTION: actions, **self.encoder.of_rows(rows)}, "gaussian")

    # --- checkpoints

    def state_dict(self) -> dict[str, Tensor]:
        """Weights under ``module.``, statistics under ``normalizer.``; the base's are where it is."""
        return pack(self.module, self.normalizer) | self.arms.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state_dict``. Raises CheckpointError for the state of another network."""
        sizes = {ACTION: self.env_spec.action.size, FEATURES: self.encoder.feature_size}
        self.normalizer = unpack(state, self.module, sizes)
        self.arms.load_state_dict(state)


class SteeredSampler:
    """A Steered as ChunkSampler; its weights do not change while this exists."""

    def __init__(self, policy: Steered) -> None:
        self._policy = policy
        inner = policy.base.sampler.spec
        self.spec: SamplerSpec = replace(inner, observation=policy.spec.observation, sha256=policy.sha256())

    @torch.no_grad()
    def sample(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """[B, T_o, ...] observations and [B, *noise_shape] draws -> chunks [B, T_p, A] in physical units."""
        policy, noise = self._policy, noise.cpu()
        if policy.arms.handed or policy.arms.forced:
            noise, _ = policy.steer(obs, noise, policy.spread, policy.deviations)
        return policy.base.sampler.sample(obs, noise)
