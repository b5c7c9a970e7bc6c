"""Warm start (RTI-DP, Duan et al. 2025): a new plan is the last one, shifted and denoised at a few low noise levels.

Replanning at every control step then costs a handful of network calls, and consecutive plans agree. Plans that may
change to the last moment follow the newest observation alone, and take a demonstrator's pause for the end; so the first
rows of a plan can be settled: what is executed was decided some steps ago, and what follows is planned around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from policies.last_plans import LastPlans
from policies.row_noise import RowNoise
from policies.white_box import denoise, opened, tensors
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext, ActionChunk, ActionKind, ActionSpec, Array, Arrays, PolicySpec


class WarmStarted:
    """``base`` continuing its own plan. The first plan of an episode, and after an intervention, is denoised fully.

    Args:
        base: a policy with its network; one that offers chunks only is refused.
        timesteps: falling; the plan so far is taken to the noise level of the first. Differs from checkpoint to
            checkpoint and must be found (``robot-rl warm_start``).
        noise: how much of that level's noise is drawn, 0 (RTI-DP: none) to 1. None but the mean is taken at 0.
        settled: rows of the plan so far, from the current step on, that stay as they are to the bit; at least those of
            the delay that the loop measures. 0 is RTI-DP, None a quarter of a plan.
        execute: control steps until the next plan.
        binary_gripper: the plan so far has its gripper fully open or fully shut, as data with a binary gripper has it:
            a value in between, which no data shows, stays in between when only low noise levels are visited.
    """

    def __init__(
        self,
        base: Any,
        timesteps: Sequence[int] = (5, 3, 1, 0),
        noise: float = 0.0,
        settled: int | None = 0,
        execute: int = 1,
        binary_gripper: bool = True,
    ) -> None:
        self._base = opened(base, "a warm start")
        inner = self._base.spec
        self._settled = inner.horizon // 4 if settled is None else settled
        if not 1 <= execute < inner.horizon or not 0.0 <= noise <= 1.0 or not 0 <= self._settled < inner.horizon:
            raise ConfigError(
                f"execute={execute}, noise={noise}, settled={self._settled}",
                limit=f"1 to {inner.horizon - 1}, 0 to 1, 0 to {inner.horizon - 1}",
            )
        self._short, self._noise_scale = self._base.sampler.along(list(timesteps)), noise
        schedule = self._base.schedule
        self._signal, self._sigma = float(schedule.signal[timesteps[0]]), float(schedule.sigma[timesteps[0]])
        self._gripper = gripper_components(inner.action) if binary_gripper else []
        self.spec = PolicySpec(inner.observation, inner.action, inner.history, inner.horizon, execute)
        self._noise, self._last = RowNoise(self._base.seed), LastPlans()

    @property
    def calls_per_plan(self) -> int:
        """Network calls of a plan that continues the last one."""
        return len(self._short.timesteps)

    def reset(self, rows: Array, seeds: Array) -> None:
        """Rows [R] forget their plans and restart their noise at decision 0 of the episodes ``seeds`` [R]."""
        self._noise.reset(rows, seeds)
        self._last.reset(rows)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """Windows {key: [B, T_o, ...]} -> chunks [B, T_p, A] from the current step on, their noise in ``decision``."""
        noise = self._noise.draw(len(context.step), self._base.noise_shape)
        plans, left = self._last.continued(context, self.spec.horizon, self.spec.action.size)
        obs, drawn, warm = tensors(self.spec, window), torch.from_numpy(noise), left > 0
        # Both on the whole batch, so that a row's numbers do not depend on how many others begin.
        chunks = self._base.sample(obs, drawn).cpu().numpy() if not warm.all() else plans
        if warm.any():
            settled = np.minimum(np.maximum(context.delay_steps, self._settled), left)
            refined = self._continued(obs, drawn, plans, settled)
            chunks = np.where(warm[:, None, None], refined, chunks)
        chunks = np.array(chunks)
        self._last.remember(context, chunks)
        return ActionChunk(chunks, self.spec.execute, decision={"noise": noise})

    @torch.inference_mode()
    def _continued(self, obs: dict[str, torch.Tensor], drawn: torch.Tensor, plans: Array, settled: Array) -> Array:
        """New plans [B, T_p, A] around the first ``settled`` [B] rows of ``plans``, at every level of the list."""
        start = self._start(obs, torch.from_numpy(plans), drawn)
        held = (np.arange(self.spec.horizon) < settled[:, None])[:, :, None]
        if not held.any():
            return denoise(self._base, obs, start, self._short).cpu().numpy()
        wanted = self._base.normalized(obs, torch.from_numpy(plans))
        kept = torch.from_numpy(held).to(wanted.device)

        def guide(clean: torch.Tensor, index: int) -> torch.Tensor:
            return torch.where(kept, wanted, clean)

        return np.where(held, plans, denoise(self._base, obs, start, self._short, guide).cpu().numpy())

    @torch.inference_mode()
    def _start(self, obs: dict[str, torch.Tensor], plans: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """The plans so far at the first noise level of the short list, as the sampler takes it."""
        guess = self._base.normalized(obs, plans)
        if self._gripper:
            guess[..., self._gripper] = torch.where(guess[..., self._gripper] >= 0, 1.0, -1.0)
        drawn = drawn.to(guess.device)
        first = drawn if drawn.ndim == guess.ndim else drawn[:, 0]
        x = self._signal * guess + self._noise_scale * self._sigma * first
        return self._short.starting(x, drawn)


def gripper_components(action: ActionSpec) -> list[int]:
    """Indices of the action's components that open and close grippers."""
    found, at = [], 0
    for part in action.parts:
        if part.kind is ActionKind.GRIPPER:
            found += range(at, at + len(part.low))
        at += len(part.low)
    return found
