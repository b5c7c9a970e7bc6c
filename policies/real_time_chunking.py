"""Real-time chunking (Black et al. 2025): a new plan begins as the one in force goes on, so the arm feels no border.

While plan B is computed, the arm executes plan A. The first ``delay`` actions of B are therefore settled, and those
after them are drawn towards A with weights that fade out. This is the identity form: the clean estimate is moved
itself, without the network's Jacobian, so it costs no more than plain denoising.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.last_plans import LastPlans
from policies.row_noise import RowNoise
from policies.white_box import denoise, opened, tensors
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext, ActionChunk, Array, Arrays, PolicySpec


class RealTimeChunked:
    """``base`` whose plans continue the one in force.

    Args:
        base: a policy with its network; one that offers chunks only is refused.
        overlap: rows of the plan in force, from the current step on, that the new one is drawn towards; None for all
            that both plans have. 0 without a delay is the base.
        execute: control steps until the next plan; None for the base's own.
        delay_steps: least delay assumed, where the loop measures less: 0, or what a simulation is to show.
    """

    def __init__(self, base: Any, overlap: int | None = None, execute: int | None = None, delay_steps: int = 0) -> None:
        self._base = opened(base, "real-time chunking")
        inner = self._base.spec
        execute, most = execute or inner.execute, inner.horizon - (execute or inner.execute)
        self._overlap = most if overlap is None else overlap
        if not 0 <= delay_steps <= most or not 0 <= self._overlap <= most:
            raise ConfigError(
                f"overlap={self._overlap}, delay_steps={delay_steps}",
                limit=f"0 to {most}: {inner.horizon} steps are planned and {execute} executed",
            )
        self._delay = delay_steps
        self.spec = PolicySpec(inner.observation, inner.action, inner.history, inner.horizon, execute)
        self._noise, self._last = RowNoise(self._base.seed), LastPlans()

    def reset(self, rows: Array, seeds: Array) -> None:
        """Rows [R] forget their plans and restart their noise at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)
        self._last.reset(rows)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A] from the current step on, their noise in ``decision``.

        The first ``context.delay_steps`` [B] actions are those of the plan in force, to the bit.
        """
        noise = self._noise.draw(len(context.step), self._base.noise_shape)
        obs, drawn = tensors(self.spec, window), torch.from_numpy(noise)
        plans, left = self._last.continued(context, self.spec.horizon, self.spec.action.size)
        settled = np.minimum(np.maximum(context.delay_steps, self._delay), left)
        weights = prefix_weights(settled, np.minimum(self._overlap, left), self.spec.horizon)
        if not weights.any():
            chunks = np.array(self._base.sample(obs, drawn).cpu().numpy())
        else:
            chunks = self._continued(obs, drawn, plans, weights)
            chunks = np.where(np.arange(self.spec.horizon)[None, :, None] < settled[:, None, None], plans, chunks)
        self._last.remember(context, chunks)
        return ActionChunk(chunks, self.spec.execute, decision={"noise": noise})

    @torch.inference_mode()
    def _continued(self, obs: dict[str, Tensor], drawn: Tensor, plans: Array, weights: Array) -> Array:
        wanted = self._base.normalized(obs, torch.from_numpy(plans))
        weight = torch.from_numpy(weights).to(wanted)[:, :, None]

        def guide(clean: Tensor, index: int) -> Tensor:
            return clean + weight * (wanted - clean)

        return denoise(self._base, obs, drawn.to(wanted.device), guide=guide).cpu().numpy()


def prefix_weights(settled: Array, overlap: Array, horizon: int) -> Array:
    """How strongly each row of a plan is held to the last one (Black et al. 2025, eq. 5), float32 [B, T_p].

    1 for the first ``settled`` [B] rows, then w (e^w - 1) / (e - 1) of a ramp w that falls to 0 at row ``overlap`` [B].
    """
    row = np.arange(horizon)[None, :]
    start, end = settled[:, None], np.maximum(overlap, settled)[:, None]
    ramp = np.clip((end - row) / (end - start + 1.0), 0.0, 1.0)
    fading = ramp * np.expm1(ramp) / np.expm1(1.0)
    return np.where(row < start, 1.0, np.where(row < end, fading, 0.0)).astype(np.float32)
