"""Plain MLP on chunk, timestep and observation side by side (DPPO's base policies, Ren et al. 2024, without residuals).

A linear layer over a concatenation is the sum of a linear layer for each part, so the first one splits into
``time(t) + condition(cond)`` and the chunk's own, as every denoiser here: sampling computes each part no oftener than
it changes.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from policies.timestep_embedding import timestep_embedding


class ConcatMlp(nn.Module):
    """``layers`` hidden layers of ``width`` on [chunk, timestep, observation]; output like the chunk [B, T_p, A].

    Args:
        horizon, action_size, condition_size: T_p, A and C, given by the policy.
        time_size: size of the timestep embedding.
    """

    def __init__(
        self,
        horizon: int,
        action_size: int,
        condition_size: int,
        *,
        width: int = 512,
        layers: int = 3,
        time_size: int = 32,
    ) -> None:
        super().__init__()
        self.time_size = time_size
        self.time_in = nn.Linear(time_size, 2 * time_size)
        self.time_out = nn.Linear(2 * time_size, time_size)
        self.from_time = nn.Linear(time_size, width, bias=False)
        self.from_condition = nn.Linear(condition_size, width, bias=False)
        self.from_chunk = nn.Linear(horizon * action_size, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(layers - 1))
        self.chunk_out = nn.Linear(width, horizon * action_size)

    def time(self, t: Tensor) -> Tensor:
        """Timesteps [B] -> their part of the first layer [B, width]."""
        embedded = self.time_out(F.mish(self.time_in(timestep_embedding(t, self.time_size))))
        return self.from_time(embedded)

    def condition(self, cond: Tensor) -> Tensor:
        """Conditioning [B, C] -> its part of the first layer [B, width]."""
        return self.from_condition(cond)

    def denoise(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Noisy chunks [B, T_p, A] under the first layer's other parts [B or 1, width] -> prediction [B, T_p, A]."""
        h = F.mish(self.from_chunk(x.flatten(1)) + modulation)
        for layer in self.hidden:
            h = F.mish(layer(h))
        return self.chunk_out(h).view(x.shape)

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        """Noisy chunks [B, T_p, A] at timesteps [B] given [B, C] -> prediction [B, T_p, A]."""
        return self.denoise(x, self.time(t) + self.condition(cond))
