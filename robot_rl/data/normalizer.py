"""Statistics that bring physical values to a network's scale and back; frozen once fitted, hashed into checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from robot_rl.errors import ConfigError, InvalidArrayError, valid_choices
from robot_rl.types import ActionSpec, Array, Arrays, check_finite

if TYPE_CHECKING:
    from torch import Tensor

RANGE_FLOOR = 1e-4  # a component that moves less is a constant: shifted to 0, not stretched
DEVIATION_FLOOR = 0.1  # keeps nearly constant components from becoming noise


class Normalizer:
    """Per key, y = (x - offset) * scale over the last axis; works on numpy arrays and on torch tensors.

    Build it by ``fit`` (from data), ``from_limits`` (from an ActionSpec) or ``from_state_dict``.
    """

    def __init__(self, offset: Arrays, scale: Arrays) -> None:
        self.offset = {key: np.asarray(value, dtype=np.float32) for key, value in offset.items()}
        self.scale = {key: np.asarray(value, dtype=np.float32) for key, value in scale.items()}
        for key in self.offset:
            check_finite(f"{key}.offset", self.offset[key])
            check_finite(f"{key}.scale", self.scale[key])
        self._tensors: dict[tuple[str, str], tuple[Any, Any]] = {}

    @staticmethod
    def fit(arrays: Arrays, mode: str = "range") -> Normalizer:
        """From rows {key: [N, D]}: ``range`` maps min..max to -1..1, ``gaussian`` to mean 0 and deviation 1.

        Constant components keep their unit and are shifted to 0. Raises InvalidArrayError for no rows or values that
        are not finite, ConfigError for an unknown mode.
        """
        if mode not in ("range", "gaussian"):
            raise ConfigError(f"no normalisation '{mode}'", remedy=valid_choices(mode, ["range", "gaussian"]))
        offset, scale = {}, {}
        for key, value in arrays.items():
            if len(value) == 0:
                raise InvalidArrayError(f"no rows of '{key}' to normalise by", limit="at least one row")
            check_finite(key, value)
            rows = np.asarray(value, dtype=np.float64)
            offset[key], scale[key] = _range(rows) if mode == "range" else _gaussian(rows)
        return Normalizer(offset, scale)

    @staticmethod
    def from_limits(action: ActionSpec, key: str = "action") -> Normalizer:
        """The limits of an action spec mapped to -1..1: for learning from scratch, where there is no data yet."""
        low, high = action.low.astype(np.float64), action.high.astype(np.float64)
        return Normalizer({key: (low + high) / 2}, {key: 2 / (high - low)})

    @overload
    def normalize(self, key: str, value: Array) -> Array: ...
    @overload
    def normalize(self, key: str, value: Tensor) -> Tensor: ...
    def normalize(self, key: str, value: Any) -> Any:
        """Physical [..., D] -> network scale."""
        offset, scale = self._constants(key, value)
        return (value - offset) * scale

    @overload
    def denormalize(self, key: str, value: Array) -> Array: ...
    @overload
    def denormalize(self, key: str, value: Tensor) -> Tensor: ...
    def denormalize(self, key: str, value: Any) -> Any:
        """Network scale [..., D] -> physical."""
        offset, scale = self._constants(key, value)
        return value / scale + offset

    def _constants(self, key: str, value: Any) -> tuple[Any, Any]:
        if key not in self.offset:
            raise InvalidArrayError(f"no statistics of '{key}'", remedy=valid_choices(key, self.offset))
        if isinstance(value, np.ndarray):
            return self.offset[key], self.scale[key]
        place = (key, str(value.device))
        if place not in self._tensors:
            import torch

            self._tensors[place] = (
                torch.tensor(self.offset[key], device=value.device),
                torch.tensor(self.scale[key], device=value.device),
            )
        return self._tensors[place]

    def state_dict(self) -> dict[str, Array]:
        """Flat arrays: '<key>.offset' and '<key>.scale'."""
        return {
            f"{key}.{name}": values[key]
            for name, values in (("offset", self.offset), ("scale", self.scale))
            for key in values
        }

    @staticmethod
    def from_state_dict(state: Mapping[str, Any]) -> Normalizer:
        """Inverse of ``state_dict``; accepts arrays and tensors."""
        parts: dict[str, dict[str, Array]] = {"offset": {}, "scale": {}}
        for name, value in state.items():
            key, _, part = name.rpartition(".")
            parts[part][key] = np.asarray(value)
        return Normalizer(parts["offset"], parts["scale"])

    def sha256(self) -> str:
        """Of names and numbers: two runs with equal hashes normalise alike."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value, dtype="<f4").tobytes())
        return digest.hexdigest()


def _range(rows: Array) -> tuple[Array, Array]:
    low, high = rows.min(axis=0), rows.max(axis=0)
    moves = high - low > RANGE_FLOOR
    return (low + high) / 2, np.where(moves, 2 / np.where(moves, high - low, 1.0), 1.0)


def _gaussian(rows: Array) -> tuple[Array, Array]:
    return rows.mean(axis=0), 1 / np.maximum(rows.std(axis=0), DEVIATION_FLOOR)
