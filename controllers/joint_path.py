"""The path of joints between set points: cubic Hermite, C1, as ``interpolation`` is for poses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.compiled import kernel
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


def rest_joint_path(path: JointPath, position: Array) -> None:
    """Stay at ``position`` [n] rad."""
    path.start[:] = position
    for part in (path.start_rate, path.delta, path.end_rate):
        part[:] = 0.0
    path.time[:] = 1.0


@kernel
def begin_joint_path(
    path: JointPath, target: Array, following: Array, has_following: bool, moving: bool, dt: float
) -> None:
    """Go on from where the path stands to ``target`` [n] rad within ``dt`` seconds.

    The rate at the end is the central difference over the row after, ``following`` [n], where the plan holds one; rows
    that come one by one approach the pace of the set points while ``moving``. A joint that turns back has no rate.
    """
    n = target.shape[0]
    position, rate = np.empty(n), np.empty(n)
    sample_joint_path(path, position, rate)
    path.start[:] = position
    path.start_rate[:] = rate
    for i in range(n):
        path.delta[i] = target[i] - position[i]
        pace = path.delta[i] / dt
        ahead = following[i] - target[i]
        path.end_rate[i] = 0.0
        if moving and has_following and path.delta[i] * ahead > 0.0:
            path.end_rate[i] = 0.5 * (path.delta[i] + ahead) / dt
        elif moving and not has_following and rate[i] * pace >= 0.0:
            halfway = 0.5 * (rate[i] + pace)
            path.end_rate[i] = halfway if abs(halfway) < abs(pace) else pace
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
