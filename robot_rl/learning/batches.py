"""Batches on their way into a learner: nothing that is not finite gets in, and each goes to the device once."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from robot_rl.errors import InvalidArrayError

Batches = Mapping[str, Mapping[str, Tensor]]  # {view: {key: [G, B, ...]}}


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


def place(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same tensors on ``device``; to CUDA through pinned memory, so that the copies run beside what is computed.

    The allocator of pinned memory gives a block out again only after the copy from it has ended.
    """
    if device.type != "cuda":
        return {key: value.to(device) for key, value in batch.items()}
    pinned = {key: value if value.is_cuda else value.pin_memory() for key, value in batch.items()}
    return {key: value.to(device, non_blocking=True) for key, value in pinned.items()}
