"""Sinusoidal embedding of diffusion timesteps (Vaswani et al. 2017, sec. 3.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def timestep_embedding(timesteps: Tensor, size: int) -> Tensor:
    """Timesteps [B] -> [B, size]: sines, then cosines, of frequencies falling from 1 to 1e-4; ``size`` is even."""
    half = size // 2
    rates = torch.exp(-math.log(1e4) * torch.arange(half, device=timesteps.device, dtype=torch.float32) / (half - 1))
    angles = timesteps.float()[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
