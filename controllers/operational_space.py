"""Operational-space control with null-space posture (Khatib 1987), compiled.

    tau = J^T Lambda (a_ref + K e + D (v_ref - v)) + N^T M (k_q (q_0 - q) - d_q dq) + h(q, dq)
    Lambda = (J M^-1 J^T)^-1,  N = I - M^-1 J^T Lambda J

with J [6, n] at the TCP in the base frame and h gravity and Coriolis. Gains have the dimensions 1/s^2 (K) and 1/s (D):
the closed loop is the same for every pose. Velocity and acceleration of the reference are fed forward, so that a
moving target is followed without lag; the error that K sees is bounded, so that an obstacle meets a bounded force
however far the reference runs away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from controllers import rotation
from controllers.cholesky import cholesky, solve_cholesky
from controllers.compiled import kernel
from controllers.kinematics import SerialChain, solve_chain
from robot_rl.errors import ConfigError
from robot_rl.types import Array, Arrays


class GainArrays(NamedTuple):
    stiffness: Array  # [6] 1/s^2
    damping: Array  # [6] 1/s
    error: Array  # [2] largest position error [m] and rotation error [rad] that the stiffness sees
    posture: Array  # [3] k_q [1/s^2], d_q [1/s], damping of the task inertia at singularities [-]


@dataclass(frozen=True)
class OperationalSpaceGains:
    """Gains as accelerations per error; ``damping_ratio`` 1 is critical. Defaults near robosuite's OSC_POSE."""

    position_stiffness_1_s2: float = 300.0
    rotation_stiffness_1_s2: float = 300.0
    damping_ratio: float = 1.0
    posture_stiffness_1_s2: float = 20.0
    max_position_error_m: float = 0.05
    max_rotation_error_rad: float = 0.3
    singularity_damping: float = 1e-3

    def __post_init__(self) -> None:
        for name, value in self.__dict__.items():
            if not (math.isfinite(value) and value > 0.0):
                raise ConfigError(f"operational-space gain {name} is {value}", limit="> 0")

    def arrays(self) -> GainArrays:
        stiffness = np.repeat([self.position_stiffness_1_s2, self.rotation_stiffness_1_s2], 3).astype(np.float64)
        posture = [self.posture_stiffness_1_s2, 2.0 * math.sqrt(self.posture_stiffness_1_s2), self.singularity_damping]
        return GainArrays(
            stiffness,
            2.0 * self.damping_ratio * np.sqrt(stiffness),
            np.array([self.max_position_error_m, self.max_rotation_error_rad]),
            np.array(posture),
        )


class OperationalSpace:
    """The law as a Controller. State: joint_position, joint_velocity [n], mass_matrix [n, n], bias_force [n] (gravity
    and Coriolis, N m). Target: tcp_pose [7], tcp_twist [6] and
    tcp_acceleration [6] in the base frame. Command: torque [n] N m."""

    def __init__(self, chain: SerialChain, gains: OperationalSpaceGains | None = None) -> None:
        self._chain = chain.arrays
        self._gains = (gains or OperationalSpaceGains()).arrays()
        self._posture = np.zeros(chain.dof)
        self._torque = np.empty(chain.dof)
        self._pose, self._jacobian = np.empty(7), np.empty((6, chain.dof))

    def reset(self, state: Arrays) -> None:
        """The posture to keep in the null space is that of ``state``."""
        self._posture[:] = state["joint_position"]

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Torque [n] N m; the law has no memory, so ``dt`` does not matter."""
        solve_chain(self._chain, state["joint_position"], self._pose, self._jacobian)
        operational_space_torque(
            self._gains, self._pose, self._jacobian, state["joint_position"], state["joint_velocity"],
            state["mass_matrix"], state["bias_force"], self._posture, target["tcp_pose"], target["tcp_twist"],
            target["tcp_acceleration"], self._torque,
        )  # fmt: skip
        return self._torque.copy()


@kernel
def operational_space_torque(
    gains: GainArrays, pose: Array, jacobian: Array, q: Array, dq: Array, mass: Array, bias: Array, posture: Array,
    reference: Array, reference_twist: Array, reference_acceleration: Array, torque: Array,
) -> None:  # fmt: skip
    """Write the torque [n] of the law above; ``mass`` [n, n] is symmetric positive definite."""
    n = q.shape[0]
    acceleration = np.empty(6)
    acceleration[:] = reference_acceleration
    _add_feedback(gains, pose, jacobian, dq, reference, reference_twist, acceleration)
    factor = mass.copy()
    cholesky(factor)
    # columns of M^-1 J^T, and the posture's joint acceleration a_0, which acts through N^T M
    minv_jt = np.empty((n, 6))
    column = np.empty(n)
    for k in range(6):
        for i in range(n):
            column[i] = jacobian[k, i]
        solve_cholesky(factor, column)
        for i in range(n):
            minv_jt[i, k] = column[i]
    for i in range(n):
        column[i] = gains.posture[0] * (posture[i] - q[i]) - gains.posture[1] * dq[i]
    inverse_inertia = np.empty((6, 6))
    wrench = np.empty(6)
    for a in range(6):
        total = acceleration[a]
        for i in range(n):
            total -= jacobian[a, i] * column[i]
        wrench[a] = total
        for b in range(6):
            entry = 0.0
            for i in range(n):
                entry += jacobian[a, i] * minv_jt[i, b]
            inverse_inertia[a, b] = entry
        inverse_inertia[a, a] += gains.posture[2]
    # N^T M a_0 = M a_0 - J^T Lambda J a_0: both J^T terms share one solve
    cholesky(inverse_inertia)
    solve_cholesky(inverse_inertia, wrench)
    for i in range(n):
        total = bias[i]
        for a in range(6):
            total += jacobian[a, i] * wrench[a]
        for j in range(n):
            total += mass[i, j] * column[j]
        torque[i] = total


@kernel
def _add_feedback(
    gains: GainArrays, pose: Array, jacobian: Array, dq: Array, reference: Array, twist: Array, out: Array
) -> None:
    error = np.empty(6)
    for a in range(3):
        error[a] = reference[a] - pose[a]
    rotation.difference(pose[3:], reference[3:], error[3:])
    for part in range(2):
        first = 3 * part
        size = math.sqrt(error[first] ** 2 + error[first + 1] ** 2 + error[first + 2] ** 2)
        if size > gains.error[part]:
            for a in range(first, first + 3):
                error[a] *= gains.error[part] / size
    for a in range(6):
        velocity = 0.0
        for i in range(dq.shape[0]):
            velocity += jacobian[a, i] * dq[i]
        out[a] += gains.stiffness[a] * error[a] + gains.damping[a] * (twist[a] - velocity)
