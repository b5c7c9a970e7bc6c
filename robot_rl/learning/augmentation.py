"""Symmetries of a task as training data: a drawn window is replaced, with a probability, by its image under one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array, Arrays


class AffineSymmetry:
    """Maps named arrays by y = M x + b, all of a window at once; for example the mirror of a planar task.

    Args:
        maps: {array path: {matrix: [D][D], offset: [D]}} in physical units; arrays that are not named stay.
        probability: of mapping a window.
        seed: draws are a counter of (seed, step).
    """

    def __init__(self, maps: Mapping[str, Mapping[str, Sequence]], probability: float = 0.5, seed: int = 0) -> None:
        self.probability, self.seed = probability, seed
        self.matrix = {key: np.asarray(value["matrix"], dtype=np.float32) for key, value in maps.items()}
        self.offset = {key: np.asarray(value["offset"], dtype=np.float32) for key, value in maps.items()}
        for key, matrix in self.matrix.items():
            if matrix.shape != (len(self.offset[key]), len(self.offset[key])):
                raise ConfigError(
                    f"symmetry of '{key}' has a matrix {matrix.shape}", limit=f"offset of {len(self.offset[key])}"
                )

    def image(self, arrays: Arrays) -> dict[str, Array]:
        """Arrays {path: [..., D]} mapped; those without a map unchanged."""
        return {key: self._mapped(key, value) if key in self.matrix else value for key, value in arrays.items()}

    def __call__(self, batch: Arrays, step: int) -> dict[str, Array]:
        """Windows {path: [B, L, D]}, each mapped with the probability."""
        some = next(iter(self.matrix))
        if some not in batch:
            raise ConfigError(f"symmetry maps '{some}', which the policy does not read")
        draws = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, step))))
        chosen = draws.random(len(batch[some])) < self.probability
        result = dict(batch)
        for key in self.matrix:
            if key in batch:
                result[key] = np.where(chosen[:, None, None], self._mapped(key, batch[key]), batch[key])
        return result

    def _mapped(self, key: str, value: Array) -> Array:
        return (value @ self.matrix[key].T + self.offset[key]).astype(value.dtype)
