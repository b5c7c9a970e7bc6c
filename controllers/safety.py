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
from typing import Any, NamedTuple

import numpy as np

from controllers import rotation
from controllers.bound import bind
from controllers.cholesky import cholesky, solve_cholesky
from controllers.compiled import kernel, lean_kernel
from controllers.safety_limits import LimitArrays, SafetyLimits
from controllers.scratch import scratch
from controllers.workspace import workspace_layer
from robot_rl.types import Array

LAYERS = ("finite", "workspace", "jump", "motion", "joint", "torque", "force")
FINITE, WORKSPACE, JUMP, MOTION, JOINT, TORQUE, FORCE = range(len(LAYERS))
_SPEED_RESERVE = 1.3  # of measured over planned joint speed, before torque holds a joint back
_BARRIER = (320.0, 48.0)  # 1/s^2 per rad left to a joint limit, 1/s of its speed
_ROUNDING = 1e-9  # changes below it are not interventions
# What starts to command further than this from where the arm is [m, rad] is approached at the pace of the ramp [m/s,
# rad/s], until it has come that near.
_JOIN = (0.05, 0.3)
_RAMP = (0.25, 1.0)
CONTACT, BLIND = 1, 2  # what stops an arm
BLIND_S = 0.02  # without a finite measurement, until that is a fault
_FORCE_S = 0.01  # an external force counts as long as it lasts; the shock of touching does not
_SINGULAR = 0.03  # damping of the pseudo-inverse [m, rad]


class ChainMemory(NamedTuple):
    """Constants and memory of a ``SafetyChain``."""

    limits: LimitArrays
    last: Array  # [8] pose and opening in force, within limits itself
    ramp: Array  # [2] m, rad of a step while joining
    joining: Array  # [1] whether who commands has not come near yet
    counts: Array  # [layers] int64 interventions


class SafetyChain:
    """The step-rate part: what comes in is a wish, what comes out is executed; set points come every ``step_s``."""

    def __init__(self, limits: SafetyLimits, step_s: float = 0.05) -> None:
        self.limits, self.arrays = limits, limits.arrays()
        self.counts = np.zeros(len(LAYERS), dtype=np.int64)
        self._last = np.zeros(8)
        self._joining = np.ones(1, dtype=np.bool_)
        memory = ChainMemory(self.arrays, self._last, np.array(_RAMP) * step_s, self._joining, self.counts)
        self._memory = bind(memory)

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
        _accept(self._memory, checked, checked[:7] if measured is None else measured)
        return checked[:7], float(checked[7])


# --- step rate ------------------------------------------------------------------------------------------------------


@kernel
def _accept(memory: Any, wish: Array, measured: Array) -> None:
    """Change ``wish`` [8] (pose, opening) in place and take it as the last set point of ``memory``, a bound
    ``ChainMemory``; the lead is that ahead of ``measured`` [7], and the ramp holds until a wish is near."""
    limits, last, ramp, joining, counts = memory.parts
    counts[FINITE] += finite_layer(last, wish)
    counts[WORKSPACE] += workspace_layer(limits, wish[:7])
    step, turn = scratch(3), scratch(3)
    distance, angle = _apart(last[:7], wish[:7], step, turn)
    joining[0] = joining[0] and (distance > _JOIN[0] or angle > _JOIN[1])
    most_m, most_rad = limits.jump[0], limits.jump[1]
    if joining[0]:
        most_m, most_rad = min(most_m, ramp[0]), min(most_rad, ramp[1])
    counts[JUMP] += jump_layer(most_m, most_rad, last[:7], wish[:7])
    counts[JUMP] += jump_layer(limits.lead[0], limits.lead[1], measured, wish[:7])
    for i in range(8):
        last[i] = wish[i]


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

    Each is bounded by the barrier a <= k (q_limit - q) - d dq with k = 320 1/s^2 and d = 48 1/s: far away it does not
    bind, near a limit it brakes, beyond one it pushes back. Its modes are 8 and 40 1/s, so a joint that is no faster
    than 40/s of the way left never passes its limit. The same d holds the speed. The torque that gives the bounded
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
        most = min(_BARRIER[0] * (limits.joint[1, i] - q[i]) - _BARRIER[1] * dq[i], _BARRIER[1] * (speed - dq[i]))
        least = max(_BARRIER[0] * (limits.joint[0, i] - q[i]) - _BARRIER[1] * dq[i], _BARRIER[1] * (-speed - dq[i]))
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
def blind_layer(blind: Array, weight: Array, bias: Array, torque: Array, dt: float) -> tuple[bool, bool]:
    """Whether no torque [n] could be told for ``BLIND_S``, and whether that is new or just over.

    The torque then becomes ``weight`` [n], the last known ``bias`` [n], which lets no joint fall and drives none; until
    then the torque layer repeats the last one. ``blind`` [1] s is updated.
    """
    was, seeing = blind[0] >= BLIND_S, True
    for i in range(torque.shape[0]):
        seeing &= math.isfinite(torque[i])
    blind[0] = 0.0 if seeing else blind[0] + dt * (1.0 + _ROUNDING)
    now = blind[0] >= BLIND_S
    for i in range(torque.shape[0]):
        if seeing:
            weight[i] = bias[i]
        elif now:
            torque[i] = weight[i]
    return now, now != was


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
