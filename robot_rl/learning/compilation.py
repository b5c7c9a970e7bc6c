"""Whether a learner's losses are compiled, and how."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from robot_rl.errors import ConfigError

AUTO = "auto"


def compiler(compiled: bool | str, device: torch.device) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What turns a loss into the function that is called. Raises ConfigError for another choice.

    ``auto`` compiles on CUDA, where Triton is there to compile with, and not on a CPU, where the first call takes some
    20 s. On CUDA the kernels are replayed as CUDA graphs: at these sizes starting them costs more than they do.
    """
    if compiled not in (True, False, AUTO):
        raise ConfigError(f"compiled={compiled}", limit="true, false or auto")
    if compiled == AUTO:
        compiled = device.type == "cuda" and importlib.util.find_spec("triton") is not None
    if not compiled:
        return lambda function: function
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    return lambda function: torch.compile(function, mode=mode, dynamic=False)


def begin_step(device: torch.device) -> None:
    """Tell CUDA graphs that what they gave out in the step before is no longer needed."""
    if device.type == "cuda":
        torch.compiler.cudagraph_mark_step_begin()
