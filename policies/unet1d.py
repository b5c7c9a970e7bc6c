"""Conditional U-Net over time (Chi et al. 2023): 1-D convolutions along the chunk, FiLM from observation and timestep.

As in chunk_mlp.py the modulation is ``time(t) + condition(cond)``: a linear layer of an element-wise activation of a
concatenation is the sum of two linear layers, so nothing is lost by splitting it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.timestep_embedding import timestep_embedding
from robot_rl.errors import ConfigError


class ChunkUnet(nn.Module):
    """Chunks [B, T_p, A] through ``channels`` levels of two residual blocks each, halving the length between levels.

    Args:
        horizon, action_size, condition_size: T_p, A and C, given by the policy; T_p divides by 2^(levels - 1).
        channels: width per level; each divides by ``groups`` (GroupNorm).
        kernel: length of the convolutions.
        time_size: size of the timestep embedding.
        scale: modulate by scale and shift; shift alone without it.
    """

    def __init__(
        self,
        horizon: int,
        action_size: int,
        condition_size: int,
        *,
        channels: Sequence[int] = (64, 128, 256),
        kernel: int = 5,
        groups: int = 8,
        time_size: int = 128,
        scale: bool = True,
    ) -> None:
        super().__init__()
        if horizon % 2 ** (len(channels) - 1) or any(width % groups for width in channels):
            raise ConfigError(
                f"U-Net of channels {list(channels)} over a horizon of {horizon}",
                limit=f"horizon divisible by {2 ** (len(channels) - 1)}, channels by {groups}",
            )
        self.horizon, self.action_size, self.time_size = horizon, action_size, time_size
        sizes = _block_sizes(action_size, channels)
        self.blocks = nn.ModuleList(_ResidualBlock(i, o, kernel, groups, scale) for i, o in sizes)
        self.levels = len(channels)
        self.down = nn.ModuleList(nn.Conv1d(c, c, 3, stride=2, padding=1) for c in channels[:-1])
        self.up = nn.ModuleList(nn.ConvTranspose1d(c, c, 4, stride=2, padding=1) for c in reversed(channels[:-1]))
        self.final = _ConvolutionBlock(channels[0], channels[0], kernel, groups)
        self.out = nn.Conv1d(channels[0], action_size, 1)
        self.time_in = nn.Linear(time_size, 4 * time_size)
        self.time_hidden = nn.Linear(4 * time_size, time_size)
        self.sizes = [out * (2 if scale else 1) for _, out in sizes]
        self.time_out = nn.Linear(time_size, sum(self.sizes))
        self.condition_out = nn.Linear(condition_size, sum(self.sizes), bias=False)

    def time(self, t: Tensor) -> Tensor:
        """Timesteps [B] -> their part of the modulation [B, M]."""
        hidden = F.mish(self.time_in(timestep_embedding(t, self.time_size)))
        return self.time_out(F.mish(self.time_hidden(hidden)))

    def condition(self, cond: Tensor) -> Tensor:
        """Conditioning [B, C] -> its part of the modulation [B, M]."""
        with torch.autocast(cond.device.type, enabled=False):  # bfloat16 would round positions to pixels
            return self.condition_out(F.mish(cond.float()))

    def denoise(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Noisy chunks [B, T_p, A] under a modulation [B or 1, M] -> prediction [B, T_p, A]."""
        blocks = iter(zip(self.blocks, modulation.split(self.sizes, dim=-1), strict=True))
        h, skips = x.transpose(1, 2), []
        for level in range(self.levels):
            h = _two_blocks(h, blocks)
            skips.append(h)
            h = self.down[level](h) if level < self.levels - 1 else h
        h = _two_blocks(h, blocks)
        for up in self.up:
            h = up(_two_blocks(torch.cat((h, skips.pop()), dim=1), blocks))
        return self.out(self.final(h)).transpose(1, 2)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Noisy chunks [B, T_p, A] at timesteps [B] given [B, C] -> prediction [B, T_p, A]."""
        return self.denoise(x, self.time(t) + self.condition(cond))


class _ConvolutionBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels_in, channels_out, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(groups, channels_out)

    def forward(self, h: Tensor) -> Tensor:
        return F.mish(self.norm(self.convolution(h)))


class _ResidualBlock(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, kernel: int, groups: int, scale: bool) -> None:
        super().__init__()
        self.scale = scale
        self.first = _ConvolutionBlock(channels_in, channels_out, kernel, groups)
        self.second = _ConvolutionBlock(channels_out, channels_out, kernel, groups)
        self.skip = nn.Conv1d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, h: Tensor, film: Tensor) -> Tensor:
        film = film.unsqueeze(-1)
        z = self.first(h)
        if self.scale:
            scale, shift = film.chunk(2, dim=1)
            z = z * (1 + scale) + shift
        else:
            z = z + film
        return self.second(z) + self.skip(h)


def _two_blocks(h: Tensor, blocks: Iterator[tuple[nn.Module, Tensor]]) -> Tensor:
    for _ in range(2):
        block, film = next(blocks)
        h = block(h, film)
    return h


def _block_sizes(action_size: int, channels: Sequence[int]) -> list[tuple[int, int]]:
    """(in, out) channels of all residual blocks in the order they run: down, middle, up."""
    sizes, width = [], action_size
    for out in channels:
        sizes += [(width, out), (out, out)]
        width = out
    sizes += [(width, width), (width, width)]
    for deep, out in zip(reversed(channels[1:]), reversed(channels[:-1]), strict=True):
        sizes += [(2 * deep, out), (out, out)]
    return sizes
