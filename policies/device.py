"""Where a policy computes."""

from __future__ import annotations

import torch

from robot_rl.errors import ConfigError, valid_choices


def chosen_device(name: str) -> torch.device:
    """``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` is CUDA where there is one. Raises ConfigError."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device '{name}' is not available", remedy="Use device=cpu or device=auto")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"no device '{name}'", remedy=valid_choices(name, ["auto", "cpu", "cuda"])) from error
