"""The last thing before the arm: layers that change a command until it is within limits, and count what they changed.

At step rate a set point (TCP pose, opening) passes finite -> workspace -> jump (from the last one, and ahead of the
arm); at control rate the reference between set points passes motion (speed, acceleration, jerk, and the workspace
again), the torque passes joint -> torque, and force stops the arm. The order is fixed here and in ``servo``, and no
configuration leaves a layer out: limits have names and can only be made tighter.

Limits on vectors act per axis at 1/sqrt(3) of the limit on the norm, which keeps the axes independent: an axis that
brakes in front of a wall is never slowed in braking by what another axis wants.
"""

from __future__ import annotations

import math

import numpy as np

from controllers import rotation
from controllers.cholesky import cholesky, solve_cholesky
from controllers.compiled import kernel, lean_kernel
from controllers.safety_limits import LimitArrays, SafetyLimits
from controllers.scratch import scratch
from controllers.workspace import workspace_layer
from robot_rl.types import Array

LAYERS = ("finite", "workspace", "jump", "motion", "joint", "torque", "force")
FINITE, WORKSPACE, JUMP, MOTION, JOINT, TORQUE, FORCE = range(len(LAYERS))
_SPEED_RESERVE = 1.3  # of measured over planned joint speed, before torque holds a joint back
_ROUNDING = 1e-9  # changes below it are not interventions
# What starts to command further than this from where the arm is [m, rad] is approached at the pace of the ramp [m/s,
# rad/s], until it has come that near.
_JOIN = (0.05, 0.3)
_RAMP = (0.25, 1.0)
_FORCE_S = 0.01  # an external force counts as long as it lasts; the shock of touching does not
_SINGULAR = 0.03  # damping of the pseudo-inverse [m, rad]


class SafetyChain:
    """The step-rate part: what comes in is a wish, what comes out is executed; set points come every ``step_s``."""

    def __init__(self, limits: SafetyLimits, step_s: float = 0.05) -> None:
        self.limits, self._ramp = limits, np.array(_RAMP) * step_s
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

    def set_point(self, pose: Array, opening: float, measured: Array | None = None) -> tuple[Array, float]:
        """The set point nearest to the wish that is finite, within the workspace and within one jump of the last, or
        one step of the ramp after ``reset`` and ``join``, and no further than the lead ahead of the ``measured`` TCP
        [7], where one is measured."""
        checked = np.empty(8)
        checked[:7], checked[7] = pose, opening
        check_set_point(self.arrays, self._last, checked, self._ramp, self._joining, self.counts)
        if measured is not None:
            lead = self.arrays.lead
            self.counts[JUMP] += jump_layer(lead[0], lead[1], measured, checked[:7])
        self._last[:] = checked
        return self.last


# --- step rate ------------------------------------------------------------------------------------------------------


@kernel
def check_set_point(limits: LimitArrays, last: Array, wish: Array, ramp: Array, joining: Array, counts: Array) -> None:
    """Change ``wish`` [8] (pose, opening) in place; ``last`` [8] is the set point in force, within limits itself;
    ``joining`` [1] holds until a wish is near, steps are at most ``ramp`` [2] (m, rad) until then."""
    counts[FINITE] += finite_layer(last, wish)
    counts[WORKSPACE] += workspace_layer(limits, wish[:7])
    step, turn = scratch(3), scratch(3)
    distance, angle = _apart(last[:7], wish[:7], step, turn)
    joining[0] = joining[0] and (distance > _JOIN[0] or angle > _JOIN[1])
    most_m, most_rad = limits.jump[0], limits.jump[1]
    if joining[0]:
        most_m, most_rad = min(most_m, ramp[0]), min(most_rad, ramp[1])
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
def jump_layer(most_m: float, most_rad: float, last: Array, pose: Array) -> bool:
    """At most one jump away from the last set point, in the wished direction."""
    changed = False
    step, turn = scratch(3), scratch(3)
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


@lean_kernel
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


@lean_kernel
def force_layer(limits: LimitArrays, jacobian: Array, external: Array, wrench: Array, dt: float) -> bool:
    """Whether what others exert on the TCP is beyond the limits, or not known.

    The wrench [6] (N, N m at the TCP) that explains the joint torques ``external`` [n] best follows from the damped
    pseudo-inverse of J^T; ``wrench`` is its average over the last 10 ms, updated.
    """
    silent = True  # nobody pushes or ever did, and the average stays what it is
    for i in range(external.shape[0]):
        silent &= external[i] == 0.0
    for a in range(6):
        silent &= wrench[a] == 0.0
    if silent:
        return False
    square, sample = scratch((6, 6)), scratch(6)
    for a in range(6):
        sample[a] = 0.0
        for i in range(external.shape[0]):
            sample[a] += jacobian[a, i] * external[i]
        for b in range(a + 1):
            entry = 0.0
            for i in range(external.shape[0]):
                entry += jacobian[a, i] * jacobian[b, i]
            square[a, b] = entry
        square[a, a] += _SINGULAR**2
    cholesky(square)
    solve_cholesky(square, sample)
    share = min(dt / _FORCE_S, 1.0)
    for a in range(6):
        wrench[a] += share * (sample[a] - wrench[a])
    force = math.sqrt(wrench[0] ** 2 + wrench[1] ** 2 + wrench[2] ** 2)
    torque = math.sqrt(wrench[3] ** 2 + wrench[4] ** 2 + wrench[5] ** 2)
    return not (force <= limits.contact[0] and torque <= limits.contact[1])
