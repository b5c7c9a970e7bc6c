"""Random starts of episodes: equal seeds give equal starts, and tasks do not share their random numbers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array

TOOL_DOWN_QUAT_XYZW = (1.0, 0.0, 0.0, 0.0)


class Starts:
    """Draws starts. ``narrow`` (0 to 1) shrinks every range about its middle: the same seed then gives a start in the
    same direction, nearer to the middle. Demonstrations from such a narrower distribution make a weak base."""

    def __init__(self, task: str, narrow: float) -> None:
        if not 0.0 <= narrow <= 1.0:
            raise ConfigError(f"the starts of {task} are narrowed to {narrow}", limit="0 to 1")
        self._task, self._narrow = task, narrow

    def draw(self, seed: int) -> Draw:
        """The random numbers of the start ``seed``."""
        return Draw(np.random.default_rng([zlib.crc32(self._task.encode()), seed]), self._narrow)


class Draw:
    """Numbers of one start, drawn in turn."""

    def __init__(self, rng: np.random.Generator, narrow: float) -> None:
        self._rng, self._narrow = rng, narrow

    def around(self, centre: Sequence[float] | Array, spread: float | Sequence[float] | Array) -> Array:
        """Within ``spread`` of ``centre`` in each component."""
        half = self._narrow * np.broadcast_to(spread, len(centre))
        return np.asarray(centre, dtype=np.float64) + self._rng.uniform(-1.0, 1.0, size=len(centre)) * half

    def angle(self, spread_rad: float = math.pi) -> float:
        """Within ``spread_rad`` of zero."""
        return float(self.around((0.0,), spread_rad)[0])

    def tcp_pose(self, position_m: Sequence[float], spread_m: float | Sequence[float]) -> Array:
        """TCP pose [7], tool down, within ``spread_m`` of ``position_m`` along each axis."""
        return np.concatenate((self.around(position_m, spread_m), TOOL_DOWN_QUAT_XYZW))


def upright_pose(position_m: Sequence[float], yaw_rad: float) -> Array:
    """Pose [7] of something that stands on the table, turned by ``yaw_rad`` about the vertical."""
    return np.array([*position_m, 0.0, 0.0, math.sin(0.5 * yaw_rad), math.cos(0.5 * yaw_rad)])
