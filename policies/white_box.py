"""A generator whose denoising can be entered: what warm starts, real-time chunking and composition act around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from policies.samplers import Guide, Predict, Sampler
from robot_rl.errors import ConfigError
from robot_rl.interfaces import Denoiser
from robot_rl.types import Arrays, PolicySpec


@runtime_checkable
class WhiteBox(Denoiser, Protocol):
    """A Denoiser with its sampler and its units; a policy served by another process is none."""

    @property
    def spec(self) -> PolicySpec: ...

    @property
    def seed(self) -> int:
        """Of the noise that it acts with."""
        ...

    @property
    def rate_hz(self) -> float:
        """Control steps per second."""
        ...

    @property
    def sampler(self) -> Sampler: ...

    @property
    def noise_shape(self) -> tuple[int, ...]: ...

    def sample(self, obs: Mapping[str, Tensor], noise: Tensor) -> Tensor:
        """[B, T_o, ...] observations and [B, *noise_shape] noise -> chunks [B, T_p, A] in physical units."""
        ...

    def predictor(self, obs: Mapping[str, Tensor], sampler: Sampler) -> Predict:
        """``predict(x, index)`` at the timesteps of ``sampler`` under observations [B, T_o, ...]."""
        ...

    def physical(self, obs: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Clean chunks [B, T_p, A] as the network makes them under ``obs`` -> physical units."""
        ...

    def normalized(self, obs: Mapping[str, Tensor], actions: Tensor) -> Tensor:
        """Inverse of ``physical``."""
        ...

    def sha256(self) -> str:
        """Of the parameters."""
        ...


def opened(base: Any, wanted_by: str) -> WhiteBox:
    """``base`` itself. Raises ConfigError when it shows no more than its chunks."""
    if isinstance(base, WhiteBox):
        return base
    raise ConfigError(
        f"{wanted_by} enters the denoising of its base, and {type(base).__name__} offers chunks only",
        remedy="Give it the checkpoint itself, or use what needs chunks only: residual, edited, reranked, DSRL-SAC",
    )


@torch.inference_mode()
def denoise(
    base: WhiteBox, obs: Mapping[str, Tensor], start: Tensor, sampler: Sampler | None = None, guide: Guide | None = None
) -> Tensor:
    """Chunks [B, T_p, A] in physical units, from ``start`` by ``sampler`` (default: the base's own)."""
    sampler = sampler or base.sampler
    return base.physical(obs, sampler.sample(base.predictor(obs, sampler), start, guide))


def tensors(spec: PolicySpec, window: Arrays) -> dict[str, Tensor]:
    """The windows that a policy reads, as tensors."""
    return {key: torch.from_numpy(np.ascontiguousarray(window[key])) for key in spec.observation}
