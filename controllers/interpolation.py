"""The path at control rate through the rows of a plan: cubic in position, cubic in the rotation vector, C1.

Over one row of length T the path runs from (p0, v0) to (p1, v1) as a cubic Hermite; rotation does the same with the
rotation vector from the start, R(t) = exp(r(t)) R0, which is slerp when the rates are constant.

A row that asks for more acceleration than there is takes longer, and time along the path can run slower than the clock
(``pace`` 0 to 1). A plan is then late, not cut short: rows that wait are kept in order as long as they are of the same
plan. Another plan starts at once, from where the reference is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from controllers import rotation
from controllers.compiled import kernel
from controllers.scratch import scratch
from robot_rl.types import Array

_ROWS = 8  # that may wait; a plan that is later than this loses its oldest
_STRETCHES = 30  # by a tenth and more each, until a row is slow enough
_GENTLE = 0.05  # m/s, rad/s in one row: slow enough to be shed within half a millimetre
_DONE = 1e-9  # s left of a row that are rounding


class Segment(NamedTuple):
    """The row that the path is on, and those that wait; written in place."""

    start: Array  # [7] pose at its beginning
    start_twist: Array  # [6] m/s, rad/s in the base frame
    delta: Array  # [6] translation [m] and rotation vector [rad] to its end
    end_twist: Array  # [6]
    time: Array  # [3] elapsed, duration, duration of a row [s]
    pace: Array  # [2] of time along the path, and what the joints leave of it
    point: Array  # [7] where the path stands, inside the workspace
    point_twist: Array  # [6] its rate over the last tick
    rows: Array  # [k, 7] that wait, the last one followed by ``beyond``
    beyond: Array  # [7] the row after the newest
    waiting: Array  # [2] rows that wait; whether there is one beyond


def new_segment() -> Segment:
    """A path that rests at the origin; latch it with ``rest_segment``."""
    pose = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    return Segment(
        pose, np.zeros(6), np.zeros(6), np.zeros(6), np.ones(3), np.ones(2), pose.copy(), np.zeros(6),
        np.empty((_ROWS, 7)), pose.copy(), np.zeros(2, dtype=np.int64),
    )  # fmt: skip


@kernel
def rest_segment(segment: Segment, pose: Array) -> None:
    """Stay at ``pose`` [7]."""
    segment.start[:] = pose
    segment.start_twist[:] = 0.0
    segment.delta[:] = 0.0
    segment.end_twist[:] = 0.0
    segment.time[:] = 1.0
    segment.pace[:] = 1.0
    segment.point[:] = pose
    segment.point_twist[:] = 0.0
    segment.waiting[:] = 0


@kernel
def late(segment: Segment) -> bool:
    """Whether the path has not come to the end of the newest row."""
    return segment.waiting[0] > 0 or segment.time[0] < segment.time[1] - _DONE


@kernel
def splice_segment(segment: Segment, pose: Array, twist: Array) -> None:
    """Forget the rows; the next one begins at ``pose`` [7] with rate ``twist`` [6], at full pace."""
    segment.start[:] = pose
    segment.start_twist[:] = twist
    segment.delta[:] = 0.0
    segment.end_twist[:] = twist
    segment.time[0] = segment.time[1]
    segment.pace[:] = 1.0
    segment.waiting[:] = 0


@kernel
def begin_segment(
    segment: Segment, target: Array, following: Array, has_following: bool, acceleration: Array, dt: float
) -> None:
    """Go on from where the path stands to ``target`` [7] within ``dt`` seconds, or longer: as long as it takes to stay
    within ``acceleration`` [6].

    ``following`` [7] is the row after, where the plan holds one; ``end_rate`` says how it matters.
    """
    pose, ahead = scratch(7), np.zeros(6)
    sample_segment(segment, pose, segment.start_twist)
    segment.start[:] = pose
    for i in range(3):
        segment.delta[i] = target[i] - pose[i]
        ahead[i] = following[i] - target[i]
    rotation.difference(pose[3:], target[3:], segment.delta[3:])
    rotation.difference(target[3:], following[3:], ahead[3:])
    duration = dt
    for _ in range(_STRETCHES):
        _aim_end_twist(segment, ahead, has_following, duration)
        excess = _acceleration_share(segment, acceleration, duration)
        if excess <= 1.0:
            break
        duration *= min(max(math.sqrt(excess), 1.05), 1.5)
    segment.time[0], segment.time[1], segment.time[2] = 0.0, duration, dt


@kernel
def _aim_end_twist(segment: Segment, ahead: Array, has_following: bool, duration: float) -> None:
    """The rate [6] at the end of a row of ``duration``, ``ahead`` [6] of which the next one leads."""
    for i in range(6):
        segment.end_twist[i] = end_rate(
            segment.start_twist[i], segment.delta[i], ahead[i], has_following, duration
        )  # fmt: skip
    rotation.rotvec_rate(segment.delta[3:], segment.end_twist[3:], segment.end_twist[3:])


@kernel
def _acceleration_share(segment: Segment, acceleration: Array, duration: float) -> float:
    """The largest share of ``acceleration`` [6] that the cubics need; they need it at their ends."""
    share = 0.0
    for i in range(6):
        v0, v1, mean = segment.start_twist[i], segment.end_twist[i], segment.delta[i] / duration
        most = max(abs(6.0 * mean - 4.0 * v0 - 2.0 * v1), abs(6.0 * mean - 2.0 * v0 - 4.0 * v1))
        share = max(share, most / (duration * acceleration[i]))
    return share


@kernel
def append_row(
    segment: Segment, target: Array, following: Array, has_following: bool, acceleration: Array, dt: float
) -> None:
    """The plan goes on to ``target`` [7]: now, or after the rows that wait."""
    if late(segment):
        if segment.waiting[0] == segment.rows.shape[0]:
            segment.rows[:-1] = segment.rows[1:].copy()
            segment.waiting[0] -= 1
        segment.rows[segment.waiting[0]] = target
        segment.waiting[0] += 1
        segment.time[2] = dt
    else:
        begin_segment(segment, target, following, has_following, acceleration, dt)
    segment.beyond[:] = following
    segment.waiting[1] = 1 if has_following else 0


@kernel
def settle_segment(segment: Segment, target: Array, acceleration: Array, turning_back: bool, dt: float) -> None:
    """Come to rest at ``target`` [7]; where that is too near to brake, beyond it, unless ``turning_back``.

    A cubic with rate v0 at its start and none at its end passes no point twice if it leads at least v0 T / 3 far; it
    then brakes at most at 2 v0 / T, which half of ``acceleration`` [6] bounds by the length T >= ``dt``.
    """
    pose = scratch(7)
    sample_segment(segment, pose, segment.start_twist)
    segment.start[:], segment.end_twist[:] = pose, 0.0
    duration = dt
    for i in range(6):
        duration = max(duration, 4.0 * abs(segment.start_twist[i]) / acceleration[i])
    for i in range(3):
        segment.delta[i] = target[i] - pose[i]
    rotation.difference(pose[3:], target[3:], segment.delta[3:])
    for i in range(6):
        least = segment.start_twist[i] * duration / 3.0
        if not turning_back and least * (least - segment.delta[i]) > 0.0:
            segment.delta[i] = least
    segment.time[0], segment.time[1], segment.time[2] = 0.0, duration, dt
    segment.waiting[:] = 0


@kernel
def end_rate(before: float, step: float, ahead: float, has_following: bool, duration: float) -> float:
    """The rate [1/s] at the end of a row that begins with rate ``before`` and leads ``step`` far in ``duration`` s.

    Where the plan holds a row after, which leads ``ahead`` far, it is the central difference over both. A row that is
    the last one known (streamed, or the end of a plan) ends without acceleration, so that a stream which slows down
    or turns is led evenly; from rest it gets up to its pace within two rows, and a single jump overshoots little.
    Where the way rests there is no rate; where it turns back a gentle one, so that no set point is passed by more than
    half a millimetre: none at all would jerk at the turning points of every curve.
    """
    if has_following:
        even = 0.5 * (step + ahead) / duration
        if step * ahead > 0.0:
            return even
        return min(max(even, -_GENTLE), _GENTLE) if step * ahead < 0.0 else 0.0
    pace = step / duration
    even, most = 1.5 * pace - 0.5 * before, max(0.5 * abs(pace), _GENTLE) + abs(before)
    if even * pace <= 0.0:
        return 0.0
    return min(max(even, -most), most)


@kernel
def advance_segment(segment: Segment, acceleration: Array, dt: float) -> None:
    """Move the path on by ``dt`` seconds times its pace, over the ends of rows; after the last one it comes to rest."""
    ahead = dt * segment.pace[0]
    while ahead > 0.0:
        rest = segment.time[1] - segment.time[0]
        if ahead <= rest + _DONE:
            segment.time[0] = min(segment.time[0] + ahead, segment.time[1])
            return
        segment.time[0] = segment.time[1]
        if segment.waiting[0] == 0 and not segment.end_twist.any():
            return
        ahead -= rest
        _begin_next(segment, acceleration)


@kernel
def _begin_next(segment: Segment, acceleration: Array) -> None:
    """The row is done: the next one that waits, or rest."""
    if segment.waiting[0] == 0:
        pose, twist = scratch(7), scratch(6)
        sample_segment(segment, pose, twist)
        settle_segment(segment, pose, acceleration, True, segment.time[2])
        return
    target, following = segment.rows[0].copy(), segment.beyond.copy()
    more = segment.waiting[0] > 1
    if more:
        following[:] = segment.rows[1]
        segment.rows[:-1] = segment.rows[1:].copy()
    segment.waiting[0] -= 1
    begin_segment(segment, target, following, more or segment.waiting[1] == 1, acceleration, segment.time[2])


@kernel
def sample_segment(segment: Segment, pose: Array, twist: Array) -> None:
    """Pose [7] and twist [6] (m/s, rad/s at full pace) where the path is."""
    duration = segment.time[1]
    s = segment.time[0] / duration
    # Hermite basis of value and slope: h01 and h11 for the end, h10 for the start's slope
    h10, h01, h11 = s * (1.0 - s) ** 2, s * s * (3.0 - 2.0 * s), s * s * (s - 1.0)
    g10, g01, g11 = (1.0 - s) * (1.0 - 3.0 * s), 6.0 * s * (1.0 - s), s * (3.0 * s - 2.0)
    turn = scratch(3)
    for i in range(6):
        v0, v1, d = segment.start_twist[i] * duration, segment.end_twist[i] * duration, segment.delta[i]
        value = h10 * v0 + h01 * d + h11 * v1
        twist[i] = (g10 * v0 + g01 * d + g11 * v1) / duration
        if i < 3:
            pose[i] = segment.start[i] + value
        else:
            turn[i - 3] = value
    rotation.rotate_by(turn, segment.start[3:], pose[3:])
    rotation.angular_rate(turn, twist[3:], twist[3:])
