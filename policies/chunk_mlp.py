"""Residual MLP over the flattened chunk, modulated by observation and timestep (FiLM, Perez et al. 2018).

Modulation is a sum of two parts, ``time(t) + condition(cond)``, so that sampling computes the first once per grid and
the second once per decision, and several noise samples of one observation share their conditioning in training.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.timestep_embedding import timestep_embedding


class ChunkMlp(nn.Module):
    """``blocks`` pre-norm residual layers of ``width`` on chunks [B, T_p, A]; output like the input.

    Args:
        horizon, action_size, condition_size: T_p, A and C, given by the policy.
        expansion: hidden width of a block over its width.
        condition_width: bottleneck between observation and modulation; keeps the modulation matrix small.
        time_size: size of the timestep embedding.
    """

    def __init__(
        self,
        horizon: int,
        action_size: int,
        condition_size: int,
        *,
        width: int = 512,
        blocks: int = 6,
        expansion: int = 1,
        condition_width: int = 256,
        time_size: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.horizon, self.action_size, self.width, self.dropout = horizon, action_size, width, dropout
        size = (2 * blocks + 1) * width  # scale and shift of every block, then what is added to the input
        self.time_size = time_size
        self.time_in = nn.Linear(time_size, time_size)
        self.time_hidden = nn.Linear(time_size, time_size)
        self.time_out = nn.Linear(time_size, size)
        self.condition_in = nn.Linear(condition_size, width)
        self.condition_hidden = nn.Linear(width, width)
        self.condition_narrow = nn.Linear(width, condition_width)
        self.condition_out = nn.Linear(condition_width, size - width, bias=False)
        self.condition_input = nn.Linear(width, width)
        self.chunk_in = nn.Linear(horizon * action_size, width)
        self.rise = nn.ModuleList(nn.Linear(width, expansion * width) for _ in range(blocks))
        self.fall = nn.ModuleList(nn.Linear(expansion * width, width) for _ in range(blocks))
        self.chunk_out = nn.Linear(width, horizon * action_size)
        self._initialise()

    def _initialise(self) -> None:
        """Start as the zero function of the chunk, with gentle modulation: large learning rates stay stable."""
        for layer in (*self.fall, self.chunk_out):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.condition_out.weight.mul_(0.5)
            self.time_out.weight.mul_(0.5)
            self.time_out.bias.zero_()

    def time(self, t: Tensor) -> Tensor:
        """Timesteps [B] -> their part of the modulation [B, M]."""
        hidden = F.silu(self.time_in(timestep_embedding(t, self.time_size)))
        return self.time_out(F.silu(self.time_hidden(hidden)))

    def condition(self, cond: Tensor) -> Tensor:
        """Conditioning [B, C] -> its part of the modulation [B, M]."""
        with torch.autocast(cond.device.type, enabled=False):  # bfloat16 would round positions to pixels
            first = F.silu(self.condition_in(cond.float()))
        hidden = F.silu(self.condition_hidden(first))
        scale_shift = self.condition_out(F.silu(self.condition_narrow(hidden)))
        return torch.cat((scale_shift, self.condition_input(hidden)), dim=-1)

    def denoise(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Noisy chunks [B, T_p, A] under a modulation [B or 1, M] -> prediction [B, T_p, A]."""
        *films, added = modulation.split(self.width, dim=-1)
        h = self.chunk_in(x.flatten(1)) + added
        for rise, fall, scale, shift in zip(self.rise, self.fall, films[::2], films[1::2], strict=True):
            z = F.layer_norm(h, (self.width,)) * (1 + scale) + shift
            hidden = F.silu(rise(z))
            h = h + fall(F.dropout(hidden, self.dropout, self.training) if self.dropout else hidden)
        return self.chunk_out(F.layer_norm(h, (self.width,))).view(x.shape)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Noisy chunks [B, T_p, A] at timesteps [B] given [B, C] -> prediction [B, T_p, A]."""
        return self.denoise(x, self.time(t) + self.condition(cond))
