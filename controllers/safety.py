"""The last thing before the arm: layers that change a command until it is within limits, and count what they changed.

At step rate a set point (TCP pose, opening) passes finite -> workspace -> jump; at control rate the reference between
set points passes motion (speed, acceleration, and the workspace box again), the torque passes joint -> torque. The
order is fixed here and no configuration leaves a layer out: limits have names and can only be made tighter.

Limits on vectors act per axis at 1/sqrt(3) of the limit on the norm, which keeps the axes independent: an axis that
brakes in front of a wall is never slowed in braking by what another axis wants.
"""

from __future__ import annotations

import math

import numpy as np

from controllers import rotation
from controllers.cholesky import cholesky, solve_cholesky
from controllers.compiled import kernel
from controllers.safety_limits import LimitArrays, SafetyLimits
from robot_rl.types import Array

LAYERS = ("finite", "workspace", "jump", "motion", "joint", "torque")
FINITE, WORKSPACE, JUMP, MOTION, JOINT, TORQUE = range(len(LAYERS))
_SINGULAR = 0.03  # damping of the pseudo-inverse [m, rad]
_APPROACH = 6.0  # 1/s: joint speed per distance that is left to a limit
_SPEED_RESERVE = 1.3  # of measured over planned joint speed, before torque holds a joint back
_ROUNDING = 1e-9  # changes below it are not interventions
# What starts to command further than this from where the arm is [m, rad] is approached by steps of the ramp, 0.25 m/s
# and 1 rad/s at 20 Hz, until it has come that near.
_JOIN = (0.05, 0.3)
_RAMP = (0.0125, 0.05)


class SafetyChain:
    """The step-rate part: what comes in is a wish, what comes out is executed."""

    def __init__(self, limits: SafetyLimits) -> None:
        self.limits = limits
        self.arrays = limits.arrays()
        self.counts = np.zeros(len(LAYERS), dtype=np.int64)
        self._last = np.zeros(8)
        self._joining = np.ones(1, dtype=np.bool_)

    def reset(self, pose: Array, opening: float) -> None:
        """Latch onto the pose [7] and opening the arm is at; it is put into the workspace first."""
        self._last[:7], self._last[7] = self.inside(pose), min(max(opening, 0.0), 1.0)
        self.counts[:] = 0
        self.join()

    def join(self) -> None:
        """Somebody else commands from now on: the way to a set point far from the last one is ramped."""
        self._joining[0] = True

    def inside(self, pose: Array) -> Array:
        """The pose [7] of the workspace nearest to ``pose``."""
        nearest = np.array(pose, dtype=np.float64)
        workspace_layer(self.arrays, nearest)
        return nearest

    def latch(self, pose: Array) -> None:
        """What the motion layer made of the last set point: jumps are measured from there."""
        self._last[:7] = pose

    @property
    def last(self) -> tuple[Array, float]:
        """The last set point: pose [7] and opening."""
        return self._last[:7].copy(), float(self._last[7])

    def set_point(self, pose: Array, opening: float) -> tuple[Array, float]:
        """The set point nearest to the wish that is finite, within the workspace and within one jump of the last, or
        one step of the ramp after ``reset`` and ``join``."""
        checked = np.empty(8)
        checked[:7], checked[7] = pose, opening
        check_set_point(self.arrays, self._last, checked, self._joining, self.counts)
        self._last[:] = checked
        return self.last


# --- step rate ------------------------------------------------------------------------------------------------------


@kernel
def check_set_point(limits: LimitArrays, last: Array, wish: Array, joining: Array, counts: Array) -> None:
    """Change ``wish`` [8] (pose, opening) in place; ``last`` [8] is the set point in force, within limits itself;
    ``joining`` [1] holds until a wish is near."""
    counts[FINITE] += finite_layer(last, wish)
    counts[WORKSPACE] += workspace_layer(limits, wish[:7])
    step, turn = np.empty(3), np.empty(3)
    distance, angle = _apart(last[:7], wish[:7], step, turn)
    joining[0] = joining[0] and (distance > _JOIN[0] or angle > _JOIN[1])
    ramp_m, ramp_rad = _RAMP if joining[0] else (math.inf, math.inf)
    most_m, most_rad = min(limits.jump[0], ramp_m), min(limits.jump[1], ramp_rad)
    counts[JUMP] += jump_layer(most_m, most_rad, last[:7], wish[:7])


@kernel
def finite_layer(last: Array, wish: Array) -> bool:
    """A part with a number that is not finite, or a quaternion without direction, keeps its last value."""
    changed = False
    if not (math.isfinite(wish[0]) and math.isfinite(wish[1]) and math.isfinite(wish[2])):
        wish[:3] = last[:3]
        changed = True
    if not rotation.normalize(wish[3:7]):
        wish[3:7] = last[3:7]
        changed = True
    if not math.isfinite(wish[7]):
        wish[7] = last[7]
        changed = True
    bounded = min(max(wish[7], 0.0), 1.0)
    if abs(bounded - wish[7]) > _ROUNDING:
        changed = True
    wish[7] = bounded
    return changed


@kernel
def workspace_layer(limits: LimitArrays, pose: Array) -> bool:
    """Position into the box; rotation onto the geodesic ball around the upright one."""
    changed = False
    for i in range(3):
        inside = min(max(pose[i], limits.box[0, i]), limits.box[1, i])
        changed |= abs(inside - pose[i]) > _ROUNDING
        pose[i] = inside
    turn = np.empty(3)
    rotation.difference(limits.upright, pose[3:7], turn)
    angle = math.sqrt(turn[0] ** 2 + turn[1] ** 2 + turn[2] ** 2)
    if angle > limits.tilt[0]:
        changed |= angle - limits.tilt[0] > _ROUNDING
        for i in range(3):
            turn[i] *= limits.tilt[0] / angle
        rotation.rotate_by(turn, limits.upright, pose[3:7])
    return changed


@kernel
def jump_layer(most_m: float, most_rad: float, last: Array, pose: Array) -> bool:
    """At most one jump away from the last set point, in the wished direction."""
    changed = False
    step, turn = np.empty(3), np.empty(3)
    distance, angle = _apart(last, pose, step, turn)
    if distance > most_m:
        changed |= distance - most_m > _ROUNDING
        for i in range(3):
            pose[i] = last[i] + step[i] * (most_m / distance)
    if angle > most_rad:
        changed |= angle - most_rad > _ROUNDING
        for i in range(3):
            turn[i] *= most_rad / angle
        rotation.rotate_by(turn, last[3:7], pose[3:7])
    return changed


@kernel
def _apart(start: Array, end: Array, step: Array, turn: Array) -> tuple[float, float]:
    """Write translation and rotation vector [3] between two poses; returns their lengths [m, rad]."""
    for i in range(3):
        step[i] = end[i] - start[i]
    rotation.difference(start[3:7], end[3:7], turn)
    distance = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
    return distance, math.sqrt(turn[0] ** 2 + turn[1] ** 2 + turn[2] ** 2)


# --- control rate ---------------------------------------------------------------------------------------------------


@kernel
def braking_speed(distance: float, acceleration: float, dt: float) -> float:
    """Largest speed from which steps of ``dt``, each slower by ``acceleration * dt``, end within ``distance``.

    With one such change of speed as unit, a speed k + r (k whole, 0 <= r < 1) leads (k + 1) (k / 2 + r) units far.
    """
    units = max(distance, 0.0) / (acceleration * dt * dt)
    whole = math.floor(0.5 * (math.sqrt(1.0 + 8.0 * units) - 1.0))
    rest = units / (whole + 1.0) - 0.5 * whole
    return (whole + rest) * acceleration * dt


@kernel
def motion_layer(limits: LimitArrays, before: Array, after: Array, pose: Array, twist: Array, dt: float) -> bool:
    """Move ``pose`` [7] with rate ``twist`` [6] on by ``dt`` after a path that went from ``before`` to ``after`` [7].

    A path within the limits is followed exactly. Otherwise the reference keeps to speed and acceleration, brakes in
    front of the walls of the box, and catches up with the path at a pace from which it can still brake.
    """
    lag, wanted, turn = np.empty(6), np.empty(6), np.empty(3)
    for i in range(3):
        lag[i] = before[i] - pose[i]
        wanted[i] = (after[i] - before[i]) / dt
    rotation.difference(pose[3:], before[3:], lag[3:])
    rotation.difference(before[3:], after[3:], turn)
    for i in range(3):
        wanted[3 + i] = turn[i] / dt
    for i in range(6):
        gap = abs(lag[i])
        if gap > 0.0:
            catch_up = min(gap / dt, braking_speed(gap, 0.5 * limits.acceleration[i], dt))
            wanted[i] += math.copysign(catch_up, lag[i])
        rate = min(max(wanted[i], -limits.speed[i]), limits.speed[i])
        if i < 3:
            rate = min(rate, braking_speed(limits.box[1, i] - pose[i], limits.acceleration[i], dt))
            rate = max(rate, -braking_speed(pose[i] - limits.box[0, i], limits.acceleration[i], dt))
        most = limits.acceleration[i] * dt
        rate = min(max(rate, twist[i] - most), twist[i] + most)
        twist[i] = rate
        if i < 3:
            pose[i] += rate * dt
        else:
            turn[i - 3] = rate * dt
    rotation.rotate_by(turn, pose[3:], pose[3:])
    rotation.difference(pose[3:], after[3:], turn)
    off_path = 0.0
    for i in range(3):
        off_path = max(off_path, abs(after[i] - pose[i]), abs(turn[i]))
    left_path = off_path > _ROUNDING
    if not left_path:
        pose[:] = after  # the exact path, free of rounding that would add up
    return workspace_layer(limits, pose) or left_path


@kernel
def slow_down_layer(
    limits: LimitArrays, jacobian: Array, q: Array, before: Array, last_twist: Array, pose: Array, twist: Array,
    dt: float,
) -> bool:  # fmt: skip
    """Shorten the step of the reference from ``before`` to ``pose`` [7], and its ``twist`` [6], where the joints could
    not follow: near a singularity, where they would have to turn too fast, and ahead of their limits.

    The joint speeds that follow the twist are those of damped least squares (Nakamura and Hanafusa 1986). From
    ``last_twist`` it brakes at the limits of acceleration, no harder.
    """
    n = q.shape[0]
    square, weights = np.empty((6, 6)), twist.copy()
    for a in range(6):
        for b in range(6):
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
    for i in range(6):
        most = limits.acceleration[i] * dt
        if twist[i] > 0.0:
            share = max(share, min((last_twist[i] - most) / twist[i], 1.0))
        elif twist[i] < 0.0:
            share = max(share, min((last_twist[i] + most) / twist[i], 1.0))
    if share == 1.0:
        return False
    turn = np.empty(3)
    rotation.difference(before[3:], pose[3:], turn)
    for i in range(3):
        pose[i] = before[i] + share * (pose[i] - before[i])
        turn[i] *= share
    rotation.rotate_by(turn, before[3:], pose[3:])
    for i in range(6):
        twist[i] *= share
    return True


@kernel
def joint_layer(limits: LimitArrays, q: Array, dq: Array, mass: Array, bias: Array, torque: Array) -> bool:
    """Change torque [n] so that the accelerations it causes keep every joint within its limits and margin.

    Each is bounded by the barrier a <= k (q_limit - q) - d dq with k = 900 1/s^2 and d = 60 1/s (critically damped):
    far away it does not bind, near a limit it brakes, beyond one it pushes back. The torque that gives the bounded
    accelerations follows from the mass matrix, so that a joint is also kept from being thrown by its neighbours.
    """
    n = q.shape[0]
    acceleration = torque - bias
    factor = mass.copy()
    cholesky(factor)
    solve_cholesky(factor, acceleration)
    changed = False
    for i in range(n):
        if not math.isfinite(acceleration[i]):
            return True  # the torque layer replaces it
        speed = _SPEED_RESERVE * limits.joint_speed[i]
        most = min(320.0 * (limits.joint[1, i] - q[i]) - 48.0 * dq[i], 48.0 * (speed - dq[i]))
        least = max(320.0 * (limits.joint[0, i] - q[i]) - 48.0 * dq[i], 48.0 * (-speed - dq[i]))
        bounded = min(max(acceleration[i], least), most)
        changed |= bounded != acceleration[i]
        acceleration[i] = bounded
    if changed:
        for i in range(n):
            torque[i] = bias[i]
            for k in range(n):
                torque[i] += mass[i, k] * acceleration[k]
    return changed


@kernel
def torque_layer(limits: LimitArrays, last: Array, torque: Array, dt: float) -> bool:
    """Clip torque [n] and its rate; one that is not finite becomes the last one. ``last`` is updated."""
    changed = False
    for i in range(torque.shape[0]):
        wanted = torque[i] if math.isfinite(torque[i]) else last[i]
        most = limits.torque[1, i] * dt
        bounded = min(max(wanted, last[i] - most), last[i] + most)
        bounded = min(max(bounded, -limits.torque[0, i]), limits.torque[0, i])
        changed |= not (abs(bounded - torque[i]) <= _ROUNDING)
        torque[i] = last[i] = bounded
    return changed
