"""Camera encoders that begin with, or keep, the weights of another run: imitation, a classifier, an earlier session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.learning.checkpoint import find_checkpoint, read_manifest, read_weights

_CAMERAS = "module.encoder.cameras."


@torch.no_grad()
def take_camera_encoders(policy: Any, path: Path) -> int:
    """Copy the weights of ``policy``'s cameras from the run or checkpoint ``path``, those that are there by the same
    name in the same shape; returns how many. The layer that reads out may differ.

    Raises ConfigError for a policy without cameras, CheckpointError where a camera finds nothing or a frozen weight is
    not there.
    """
    cameras: Any = policy.module["encoder"].cameras
    if not len(cameras):
        raise ConfigError("encoders= for a policy without cameras", remedy="Name cameras in policy.cameras")
    folder = find_checkpoint(path)
    read_manifest(folder)
    stored, taken = read_weights(folder), 0
    for camera, encoder in cameras.items():
        found = 0
        for name, weight in encoder.named_parameters():
            given = stored.get(f"{_CAMERAS}{camera}.{name}")
            if given is not None and given.shape == weight.shape:
                weight.copy_(given)
                found += 1
            elif not weight.requires_grad:
                raise _unfit(folder, f"camera '{camera}' has no frozen '{name}' of shape {list(weight.shape)}")
        if not found:
            raise _unfit(folder, f"nothing fits camera '{camera}'")
        taken += found
    return taken


def _unfit(folder: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"encoders of {folder}: {what}", remedy="Name a run with the same cameras and channels in its encoders"
    )
