"""The path of joints between set points: cubic Hermite, C1, as ``interpolation`` is for poses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.compiled import kernel
from controllers.interpolation import end_rate
from robot_rl.types import Array


class JointPath(NamedTuple):
    """One step of a path, written in place by ``begin_joint_path``."""

    start: Array  # [n] rad at its beginning
    start_rate: Array  # [n] rad/s
    delta: Array  # [n] rad to its end
    end_rate: Array  # [n] rad/s
    time: Array  # [2] elapsed, duration [s]


def new_joint_path(n: int) -> JointPath:
    """A path that rests at zero; latch it with ``rest_joint_path``."""
    return JointPath(np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n), np.ones(2))


@kernel
def rest_joint_path(path: JointPath, position: Array) -> None:
    """Stay at ``position`` [n] rad."""
    path.start[:] = position
    path.start_rate[:] = 0.0
    path.delta[:] = 0.0
    path.end_rate[:] = 0.0
    path.time[:] = 1.0


@kernel
def begin_joint_path(
    path: JointPath, target: Array, following: Array, has_following: bool, moving: bool, dt: float
) -> None:
    """Go on from where the path stands to ``target`` [n] rad within ``dt`` seconds.

    ``following`` [n] is the row after, where the plan holds one. Not ``moving``, the path ends at rest.
    """
    n = target.shape[0]
    position, rate = np.empty(n), np.empty(n)
    sample_joint_path(path, position, rate)
    path.start[:] = position
    path.start_rate[:] = rate
    for i in range(n):
        path.delta[i] = target[i] - position[i]
        path.end_rate[i] = 0.0
        if moving:
            path.end_rate[i] = end_rate(rate[i], path.delta[i], following[i] - target[i], has_following, dt)
    path.time[0], path.time[1] = 0.0, dt


@kernel
def advance_joint_path(path: JointPath, dt: float) -> None:
    path.time[0] = min(path.time[0] + dt, path.time[1])


@kernel
def sample_joint_path(path: JointPath, position: Array, rate: Array) -> None:
    """Position [n] rad and rate [n] rad/s now."""
    duration = path.time[1]
    s = path.time[0] / duration
    h10, h01, h11 = s * (1.0 - s) ** 2, s * s * (3.0 - 2.0 * s), s * s * (s - 1.0)
    g10, g01, g11 = (1.0 - s) * (1.0 - 3.0 * s), 6.0 * s * (1.0 - s), s * (3.0 * s - 2.0)
    for i in range(position.shape[0]):
        v0, v1, d = path.start_rate[i] * duration, path.end_rate[i] * duration, path.delta[i]
        position[i] = path.start[i] + h10 * v0 + h01 * d + h11 * v1
        rate[i] = (g10 * v0 + g01 * d + g11 * v1) / duration
