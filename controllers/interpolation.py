"""Set points at control rate between the rows of a plan: cubic in position, cubic in the rotation vector, C1.

Over one step of length T the path runs from (p0, v0) to (p1, v1) as a cubic Hermite; rotation does the same with the
rotation vector from the start, R(t) = exp(r(t)) R0, which is slerp when the rates are constant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers import rotation
from controllers.compiled import kernel
from robot_rl.types import Array


class Segment(NamedTuple):
    """One step of a path, written in place by ``begin_segment``."""

    start: Array  # [7] pose at its beginning
    start_twist: Array  # [6] m/s, rad/s in the base frame
    delta: Array  # [6] translation [m] and rotation vector [rad] to its end
    end_twist: Array  # [6]
    time: Array  # [2] elapsed, duration [s]


def new_segment() -> Segment:
    """A segment that rests at the origin; latch it with ``rest_segment``."""
    pose = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    return Segment(pose, np.zeros(6), np.zeros(6), np.zeros(6), np.array([1.0, 1.0]))


@kernel
def rest_segment(segment: Segment, pose: Array) -> None:
    """Stay at ``pose`` [7]."""
    segment.start[:] = pose
    segment.start_twist[:] = 0.0
    segment.delta[:] = 0.0
    segment.end_twist[:] = 0.0
    segment.time[:] = 1.0


@kernel
def begin_segment(
    segment: Segment, target: Array, following: Array, has_following: bool, moving: bool, dt: float
) -> None:
    """Go on from where the segment stands to ``target`` [7] within ``dt`` seconds.

    The rate at the end is the central difference over the row after, ``following`` [7], where the plan holds one; a
    plan that ends there (rows streamed one by one) approaches the pace of its set points while ``moving``, and comes to
    rest otherwise.
    Components that turn back have no rate there, so that no set point is passed.
    """
    pose, twist, ahead = np.empty(7), np.empty(6), np.zeros(6)
    sample_segment(segment, pose, twist)
    segment.start[:] = pose
    segment.start_twist[:] = twist
    for i in range(3):
        segment.delta[i] = target[i] - pose[i]
        ahead[i] = following[i] - target[i]
    rotation.difference(pose[3:], target[3:], segment.delta[3:])
    rotation.difference(target[3:], following[3:], ahead[3:])
    for i in range(6):
        if not moving:
            segment.end_twist[i] = 0.0
        elif not has_following:
            segment.end_twist[i] = _streamed_rate(twist[i], segment.delta[i] / dt)
        elif segment.delta[i] * ahead[i] <= 0.0:
            segment.end_twist[i] = 0.0
        else:
            segment.end_twist[i] = 0.5 * (segment.delta[i] + ahead[i]) / dt
    segment.time[0], segment.time[1] = 0.0, dt


@kernel
def _streamed_rate(before: float, pace: float) -> float:
    """Half way from the rate before to the pace of the set points, at most that pace: a stream gets up to speed
    within a few steps, a single jump overshoots little."""
    if before * pace < 0.0:
        return 0.0
    rate = 0.5 * (before + pace)
    return rate if abs(rate) < abs(pace) else pace


@kernel
def advance_segment(segment: Segment, dt: float) -> None:
    segment.time[0] = min(segment.time[0] + dt, segment.time[1])


@kernel
def sample_segment(segment: Segment, pose: Array, twist: Array) -> None:
    """Pose [7] and twist [6] now."""
    duration = segment.time[1]
    s = segment.time[0] / duration
    # Hermite basis of value and slope: h01 and h11 for the end, h10 for the start's slope
    h10, h01, h11 = s * (1.0 - s) ** 2, s * s * (3.0 - 2.0 * s), s * s * (s - 1.0)
    g10, g01, g11 = (1.0 - s) * (1.0 - 3.0 * s), 6.0 * s * (1.0 - s), s * (3.0 * s - 2.0)
    turn = np.empty(3)
    for i in range(6):
        v0, v1, d = segment.start_twist[i] * duration, segment.end_twist[i] * duration, segment.delta[i]
        value = h10 * v0 + h01 * d + h11 * v1
        twist[i] = (g10 * v0 + g01 * d + g11 * v1) / duration
        if i < 3:
            pose[i] = segment.start[i] + value
        else:
            turn[i - 3] = value
    rotation.rotate_by(turn, segment.start[3:], pose[3:])
