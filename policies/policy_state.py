"""A policy's weights and statistics as flat tensors: what checkpoints hold and learners publish."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import CheckpointError

_WEIGHTS, _STATISTICS = "module.", "normalizer."


def pack(module: nn.Module, normalizer: Normalizer) -> dict[str, Tensor]:
    """Weights under ``module.``, statistics under ``normalizer.``."""
    statistics = {f"{_STATISTICS}{key}": torch.from_numpy(value) for key, value in normalizer.state_dict().items()}
    return {**{f"{_WEIGHTS}{name}": value for name, value in module.state_dict().items()}, **statistics}


def unpack(state: Mapping[str, Tensor], module: nn.Module, sizes: Mapping[str, int]) -> Normalizer:
    """Load what ``pack`` gave into ``module``; returns the normaliser, of which ``sizes`` tells components by key.

    Raises CheckpointError when names or shapes differ.
    """
    normalizer = _normalizer(_part(state, _STATISTICS), sizes)
    try:
        module.load_state_dict(_part(state, _WEIGHTS))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"weights do not fit the policy: {reason}") from error
    return normalizer


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and values."""
    whole = hashlib.sha256()
    for name, value in sorted(state.items()):
        whole.update(name.encode())
        whole.update(value.detach().cpu().contiguous().numpy().tobytes())
    return whole.hexdigest()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _normalizer(state: Mapping[str, Tensor], sizes: Mapping[str, int]) -> Normalizer:
    wanted = {f"{key}.{part}": (size,) for key, size in sizes.items() if size for part in ("offset", "scale")}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if found != wanted:
        raise CheckpointError(f"statistics do not fit the policy: the normaliser holds {found}", limit=str(wanted))
    return Normalizer.from_state_dict(state)
