"""What the laws of the TCP share: error, velocity, the inertia felt there, and torque that leaves it alone.

With J [6, n] and M [n, n]: Lambda = (J M^-1 J^T)^-1 is the inertia felt at the TCP, and N^T = 1 - J^T Lambda J M^-1
projects torque onto what does not accelerate it (Khatib 1987, dynamically consistent).
"""

from __future__ import annotations

import math

import numpy as np

from controllers import rotation
from controllers.cholesky import cholesky
from controllers.compiled import kernel
from controllers.law import ArmState
from robot_rl.types import Array


@kernel
def pose_error(pose: Array, reference: Array, out: Array) -> None:
    """out [6] = reference - pose: translation [m], rotation vector [rad] in the base frame."""
    for a in range(3):
        out[a] = reference[a] - pose[a]
    rotation.difference(pose[3:], reference[3:], out[3:])


@kernel
def shorten(vector: Array, most: Array) -> None:
    """Scale the two halves of ``vector`` [6] down to lengths ``most`` [2] in place."""
    for part in range(2):
        first = 3 * part
        size = math.sqrt(vector[first] ** 2 + vector[first + 1] ** 2 + vector[first + 2] ** 2)
        if size > most[part]:
            for a in range(first, first + 3):
                vector[a] *= most[part] / size


@kernel
def tcp_twist(arm: ArmState, out: Array) -> None:
    """out [6] = J dq."""
    for a in range(6):
        rate = 0.0
        for i in range(arm.dq.shape[0]):
            rate += arm.jacobian[a, i] * arm.dq[i]
        out[a] = rate


@kernel
def inverse_task_inertia(arm: ArmState, damping: float, out: Array) -> None:
    """out [6, 6] = J M^-1 J^T + damping 1, which stays invertible at singularities."""
    n = arm.q.shape[0]
    factor = arm.mass.copy()
    cholesky(factor)
    half = np.empty((n, 6))  # L^-1 J^T with M = L L^T, so that J M^-1 J^T = half^T half; six columns at once
    for i in range(n):
        for a in range(6):
            half[i, a] = arm.jacobian[a, i]
        for k in range(i):
            for a in range(6):
                half[i, a] -= factor[i, k] * half[k, a]
        for a in range(6):
            half[i, a] /= factor[i, i]
    for a in range(6):
        for b in range(a + 1):
            entry = 0.0
            for i in range(n):
                entry += half[i, a] * half[i, b]
            out[a, b] = out[b, a] = entry
        out[a, a] += damping


@kernel
def posture_acceleration(arm: ArmState, posture: Array, stiffness: float, out: Array) -> None:
    """out [n] = k (q_0 - q) - 2 sqrt(k) dq rad/s^2, critically damped, for ``stiffness`` k 1/s^2."""
    damping = 2.0 * math.sqrt(stiffness)
    for i in range(arm.q.shape[0]):
        out[i] = stiffness * (posture[i] - arm.q[i]) - damping * arm.dq[i]


@kernel
def compose_torque(arm: ArmState, wrench: Array, acceleration: Array, out: Array) -> None:
    """out [n] = J^T wrench + M acceleration + h."""
    n = arm.q.shape[0]
    for i in range(n):
        total = arm.bias[i]
        for a in range(6):
            total += arm.jacobian[a, i] * wrench[a]
        for j in range(n):
            total += arm.mass[i, j] * acceleration[j]
        out[i] = total
