"""How far, and about how many axes, a set of poses turns: what decides whether a mounting can be solved from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from robot_rl.types import Array


@dataclass(frozen=True, eq=False)
class RotationSpread:
    """``spans_deg`` [3] falls: the range of turns about each principal axis; ``axes`` [3, 3] are these, in rows, in the
    frame that turns."""

    spans_deg: Array
    axes: Array

    @property
    def axis_name(self) -> str:
        """The main axis in words, for messages."""
        return f"({', '.join(f'{value:.2f}' for value in self.axes[0])})"


def rotation_spread(transforms: Array) -> RotationSpread:
    """Of ``transforms`` [n, 4, 4]; turns are rotation vectors from their mean."""
    turns = Rotation.from_matrix(np.asarray(transforms)[:, :3, :3])
    vectors = (turns.mean().inv() * turns).as_rotvec()
    _, _, axes = np.linalg.svd(vectors, full_matrices=True)
    spans = np.degrees(np.ptp(vectors @ axes.T, axis=0))
    order = np.argsort(-spans)
    return RotationSpread(spans[order], axes[order])
