"""Batches on their way into a learner: nothing that is not finite gets in, and each goes to the device once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.errors import InvalidArrayError
from robot_rl.types import ReplayView

Batches = Mapping[str, Mapping[str, Tensor]]  # {view: {key: [G, B, ...]}}
SKIPPED = ("episode", "row", "version", "intervention", "policy/arm", "next/policy/arm")


def check_batches(batches: Batches, step: int) -> None:
    """Raise InvalidArrayError that names step, view, array and row for the first value that is not finite."""
    for view, batch in batches.items():
        for key, value in batch.items():
            # a sum tells in a fraction of the time, unless it overflows
            if value.is_floating_point() and not (torch.isfinite(value.sum()) or torch.isfinite(value).all()):
                raise InvalidArrayError(_complaint(batch, view, key, value, step), limit="finite", remedy=_REMEDY)


_REMEDY = "Nothing was learnt from it. Find the episode with robot-rl dataset verify, exclude it and go on: resume=true"


def _complaint(batch: Mapping[str, Tensor], view: str, key: str, value: Tensor, step: int) -> str:
    place = tuple(torch.isfinite(value).logical_not().nonzero()[0].tolist())
    rows = [f"{name} {int(batch[name][place[:2]])}" for name in ("episode", "row") if name in batch]
    where = f" ({', '.join(rows)} of its source)" if rows else ""
    return f"batch of step {step}: '{key}' of view '{view}' holds {value[place]:g} at {list(place)}{where}"


def joined(batches: Batches) -> dict[str, Tensor]:
    """Batches {view: {key: [G, B, ...]}} of equal views side by side, {key: [G, views * B, ...]}, less what
    nobody learns from."""
    first = next(iter(batches.values()))
    return {key: torch.cat([batch[key] for batch in batches.values()], dim=1) for key in first if key not in SKIPPED}


def place(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same tensors on ``device``; to CUDA through pinned memory, so that the copies run beside what is computed.

    The allocator of pinned memory gives a block out again only after the copy from it has ended.
    """
    if device.type != "cuda":
        return {key: value.to(device) for key, value in batch.items()}
    pinned = {key: value if value.is_cuda else value.pin_memory() for key, value in batch.items()}
    return {key: value.to(device, non_blocking=True) for key, value in pinned.items()}


def array_path(key: str) -> str:
    """Path in episodes and batches of what a policy observes."""
    return key if key.startswith("images/") else f"obs/{key}"


def transition_view(spec: Any, n_step: int, discount: float, scale: float = 1.0, shift: float = 0.0) -> ReplayView:
    """Single control steps of what a policy of ``spec`` observes, summed over ``n_step``; see ReplayView."""
    return ReplayView(
        n_step=n_step,
        discount_per_control_step=discount,
        history=int(spec.history),
        observation=tuple(map(array_path, spec.observation)),
        reward_scale=scale,
        reward_shift=shift,
    )
