"""The reference that the arm follows at control rate: a point that follows the path, slowed and limited, tick by tick.

What the path asks for beyond the limits is made up for by time, not by cutting corners: its pace falls where it is
faster than the arm may be, where the joints could not follow, and where the reference is behind.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from controllers import rotation
from controllers.cholesky import cholesky, solve_cholesky
from controllers.compiled import kernel, lean_kernel
from controllers.interpolation import (
    Segment,
    advance_segment,
    append_row,
    begin_segment,
    rest_segment,
    sample_segment,
    settle_segment,
    splice_segment,
)
from controllers.motion import motion_layer
from controllers.safety import JOINT, MOTION
from controllers.safety_limits import LimitArrays
from controllers.scratch import scratch
from robot_rl.types import Array

_ON_PATH = 1e-6  # [m, rad] from the path: what follows is joined to the path, not to the reference
_BEHIND = (0.002, 0.02)  # [m]: from here on the path slows down; it waits there
_BEHIND_RAD = (0.02, 0.2)
_SINGULAR = 0.03  # damping of the pseudo-inverse [m, rad]
_STUCK = 0.02  # of the pace: a path that the joints hold up so much is given up for the newest row
_APPROACH = 6.0  # 1/s: joint speed per distance that is left to a limit


@kernel
def rest_reference(segment: Segment, at: Array, pose: Array, twist: Array, acceleration: Array) -> None:
    """Stay ``at`` [7]: path and reference (``pose`` [7], ``twist`` [6], ``acceleration`` [6]) are at rest there."""
    rest_segment(segment, at)
    pose[:] = at
    twist[:] = 0.0
    acceleration[:] = 0.0


class Way(NamedTuple):
    """What a new row changes."""

    limits: LimitArrays
    segment: Segment
    pose: Array  # [7] of the reference
    twist: Array  # [6]


@kernel
def begin_row(way: Any, target: Array, following: Array, has_following: bool, continuing: bool, dt: float) -> None:
    """Head for ``target`` [7], to be reached in ``dt`` seconds, and then for ``following`` [7] where there is one.

    ``way`` is a bound ``Way``. ``continuing`` the same plan, rows that are late come first, unless the joints cannot
    follow to them at all. Otherwise the path begins anew where it is, or at the reference where that has left it.
    """
    limits, segment, pose, twist = way.parts
    if continuing and segment.pace[1] > _STUCK:
        append_row(segment, target, following, has_following, limits.path, dt)
        return
    _splice(segment, pose, twist)
    begin_segment(segment, target, following, has_following, limits.path, dt)


@kernel
def hold(limits: LimitArrays, segment: Segment, pose: Array, twist: Array, target: Array, dt: float) -> None:
    """Come to rest at ``target`` [7], or ahead where that is too near; never by turning back."""
    _splice(segment, pose, twist)
    settle_segment(segment, target, limits.path, False, dt)


@kernel
def give_way(limits: LimitArrays, segment: Segment, pose: Array, twist: Array, measured: Array, dt: float) -> None:
    """Come to rest where the arm is, at ``measured`` [7], also by turning back: what presses there is let go. Where
    nobody knows, that is the reference itself."""
    _splice(segment, pose, twist)
    settle_segment(segment, measured if math.isfinite(np.sum(measured)) else pose, limits.path, True, dt)


@kernel
def _splice(segment: Segment, pose: Array, twist: Array) -> None:
    here, rate, apart = scratch(7), scratch(6), scratch(3)
    sample_segment(segment, here, rate)
    rotation.difference(here[3:], pose[3:], apart)
    off = max(abs(apart[0]), abs(apart[1]), abs(apart[2]))
    for i in range(3):
        off = max(off, abs(here[i] - pose[i]))
    if off > _ON_PATH:
        splice_segment(segment, pose, twist)
        segment.point[:] = pose
        segment.point_twist[:] = twist
    else:
        splice_segment(segment, here, rate * segment.pace[0])


@lean_kernel
def advance_reference(
    limits: LimitArrays, segment: Segment, jacobian: Array, q: Array, pose: Array, twist: Array, acceleration: Array,
    counts: Array, dt: float,
) -> None:  # fmt: skip
    """Move the reference (``pose`` [7], ``twist`` [6], ``acceleration`` [6] in the base frame) on by one tick ``dt``.

    ``jacobian`` [6, n] and ``q`` [n] are those of the arm now; ``counts`` [layers] counts ticks that left the path or
    took longer than the plan (motion), and those that the joints slowed down (joint).
    """
    after, rate = scratch(7), scratch(6)
    advance_segment(segment, limits.path, dt)
    sample_segment(segment, after, rate)
    changed = motion_layer(
        limits, segment.point, segment.point_twist, after, segment.pace[1], pose, twist, acceleration, dt
    )
    joints = _joint_pace(limits, segment.pace[1], jacobian, q, rate, dt)
    speed = _speed_pace(limits, rate)
    segment.pace[1] = joints
    segment.pace[0] = min(joints, speed, _lag_pace(segment, pose))
    counts[MOTION] += changed or speed < 1.0 or segment.time[1] > segment.time[2]
    counts[JOINT] += joints < 1.0


@lean_kernel
def _speed_pace(limits: LimitArrays, rate: Array) -> float:
    """Largest share of ``rate`` [6] within the limits of speed."""
    pace = 1.0
    for i in range(6):
        if abs(rate[i]) > limits.speed[i]:
            pace = min(pace, limits.speed[i] / abs(rate[i]))
    return pace


@lean_kernel
def _lag_pace(segment: Segment, pose: Array) -> float:
    """1 where the reference is near the path, 0 where the path has to wait for it."""
    distance = turned = 0.0
    apart = scratch(3)
    rotation.difference(pose[3:], segment.point[3:], apart)
    for i in range(3):
        distance += (segment.point[i] - pose[i]) ** 2
        turned += apart[i] ** 2
    pace = (_BEHIND[1] - math.sqrt(distance)) / (_BEHIND[1] - _BEHIND[0])
    pace = min(pace, (_BEHIND_RAD[1] - math.sqrt(turned)) / (_BEHIND_RAD[1] - _BEHIND_RAD[0]))
    return min(max(pace, 0.0), 1.0)


@lean_kernel
def _joint_pace(limits: LimitArrays, last: float, jacobian: Array, q: Array, rate: Array, dt: float) -> float:
    """The share of ``rate`` [6] that the joints can follow: near a singularity they would have to turn too fast, and
    they slow down ahead of their limits. From ``last`` it changes as the limits of acceleration allow."""
    wanted = joint_share(limits, jacobian, q, rate)
    if wanted == last:
        return wanted
    most = 1.0
    for i in range(6):
        most = min(most, 0.5 * limits.acceleration[i] * dt / max(abs(rate[i]), 1e-9))
    return min(max(wanted, last - most), last + most)


@lean_kernel
def joint_share(limits: LimitArrays, jacobian: Array, q: Array, twist: Array) -> float:
    """Largest share of ``twist`` [6] at which no joint [n] is faster than its limit, or than its room ahead lets it be.

    The joint speeds are those of damped least squares (Nakamura and Hanafusa 1986).
    """
    n = q.shape[0]
    square, weights = scratch((6, 6)), scratch(6)
    for a in range(6):
        weights[a] = twist[a]
        for b in range(a + 1):
            entry = 0.0
            for i in range(n):
                entry += jacobian[a, i] * jacobian[b, i]
            square[a, b] = entry
        square[a, a] += _SINGULAR**2
    cholesky(square)
    solve_cholesky(square, weights)
    share = 1.0
    for i in range(n):
        speed = 0.0
        for a in range(6):
            speed += jacobian[a, i] * weights[a]
        room = limits.joint[1, i] - q[i] if speed > 0.0 else q[i] - limits.joint[0, i]
        allowed = min(limits.joint_speed[i], _APPROACH * max(room, 0.0))
        if abs(speed) > allowed:
            share = min(share, allowed / abs(speed))
    return share
