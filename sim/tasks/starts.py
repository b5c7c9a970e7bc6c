"""Random starts of episodes: equal seeds give equal starts, and tasks do not share their random numbers."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from robot_rl.types import Array

TOOL_DOWN_QUAT_XYZW = (1.0, 0.0, 0.0, 0.0)


def start_generator(task: str, seed: int) -> np.random.Generator:
    """Random numbers of the start ``seed`` of ``task``."""
    return np.random.default_rng([zlib.crc32(task.encode()), seed])


def start_pose(rng: np.random.Generator, position_m: Sequence[float], spread_m: float) -> Array:
    """TCP pose [7], tool down, within ``spread_m`` of ``position_m`` along each axis."""
    position = np.asarray(position_m) + rng.uniform(-spread_m, spread_m, size=3)
    return np.concatenate((position, TOOL_DOWN_QUAT_XYZW))
