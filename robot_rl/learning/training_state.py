"""Training states are flat tensors by name; what is learnt is read out of them, and out of metrics, in one way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from robot_rl.errors import CheckpointError, RobotRlError


def part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The entries that begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


@torch.no_grad()
def fill(named: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Copy the entries of ``state`` into the tensors ``named``. Raises CheckpointError for one that is missing or has
    another shape."""
    for key, value in named.items():
        if key not in state or state[key].shape != value.shape:
            raise CheckpointError(f"training state does not fit: '{key}' is missing or has another shape")
        value.copy_(state[key])


def finite_numbers(metrics: Mapping[str, Tensor], step: int) -> dict[str, float]:
    """Metrics {name: []} as numbers, in one wait for the device. Raises RobotRlError for one that is not finite."""
    numbers = dict(zip(metrics, torch.stack(list(metrics.values())).tolist(), strict=True))
    bad = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise RobotRlError(f"after step {step} {', '.join(bad)}", remedy="Lower learning_rate, check rewards")
    return numbers
