"""A policy as the black box that steering sees: chunks from observation and noise, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from policies.white_box import WhiteBox
from robot_rl.errors import ConfigError
from robot_rl.interfaces import ChunkSampler, SamplerSpec


class BlackBox:
    """ChunkSampler over a policy whose weights do not change while this exists."""

    def __init__(self, policy: WhiteBox) -> None:
        self._policy = policy
        self.spec = SamplerSpec(
            observation=policy.spec.observation,
            action=policy.spec.action,
            history=policy.spec.history,
            horizon=policy.spec.horizon,
            execute=policy.spec.execute,
            noise_shape=policy.noise_shape,
            prior="normal",
            rate_hz=policy.rate_hz,
            sha256=policy.sha256(),
            seed=policy.seed,
        )

    def sample(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """[B, T_o, ...] observations and [B, *noise_shape] noise -> chunks [B, T_p, A] in physical units."""
        return self._policy.sample(obs, noise).clone()


def as_sampler(base: Any) -> ChunkSampler:
    """What a wrapper sees of its base, which may already be no more than that (a policy served elsewhere).

    Raises ConfigError for a policy that is not a map from noise to chunks.
    """
    if isinstance(base, WhiteBox):
        return BlackBox(base)
    inner = getattr(base, "sampler", base)  # of a policy around a generator that is one itself: served, steered
    if isinstance(inner, ChunkSampler):
        return inner
    raise ConfigError(
        f"{type(base).__name__} makes no chunks from noise", remedy="Give a diffusion policy or a flow, here or served"
    )
