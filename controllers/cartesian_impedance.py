"""Cartesian impedance with a bounded pull: a spring and a damper between TCP and reference (Hogan 1985).

    tau = J^T (clip(K e + D v_ref + m a_ref) - D v) + N^T M (k_q (q_0 - q) - d_q dq) + h(q, dq)

K is a real stiffness [N/m, N m/rad]: what pushes the tool aside feels the same spring in every pose. The pull is
clipped in length to K times ``max_*_error``, the reference limiting of SERL's controller (Luo et al. 2024): however far
or fast the reference runs away, contact meets no more than that force, and free motion no more speed than the damper
lets through. D follows from ``damping_ratio`` z and the inertia m_i = 1 / (J M^-1 J^T)_ii felt along each axis,
d_i = 2 z sqrt(k_i m_i), unless it is given. h is gravity and Coriolis, N as in ``task_space``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from controllers.cholesky import cholesky, solve_cholesky
from controllers.compiled import kernel
from controllers.kinematics import SerialChain
from controllers.law import ArmState, Reference, check_positive
from controllers.safety_limits import LimitArrays
from controllers.scratch import scratch
from controllers.task_space import (
    compose_torque,
    inverse_task_inertia,
    pose_error,
    posture_acceleration,
    shorten,
    tcp_twist,
)
from robot_rl.types import ActionKind, Array


@kernel
def cartesian_impedance_torque(
    law: CartesianImpedanceArrays, arm: ArmState, reference: Reference, dt: float, out: Array
) -> None:
    """Write the torque [n] N m of the law above; it has no memory, so ``dt`` does not matter."""
    n = arm.q.shape[0]
    wrench, velocity, posture, null = scratch(6), scratch(6), np.empty(n), scratch(6)
    inverse_inertia = scratch((6, 6))
    inverse_task_inertia(arm, law.null[1], inverse_inertia)
    pose_error(arm.pose, reference.pose, wrench)
    tcp_twist(arm, velocity)
    damping = scratch(6)
    for a in range(6):
        inertia = 1.0 / inverse_inertia[a, a]
        damping[a] = law.damping[a] + law.damping_ratio[a] * math.sqrt(law.stiffness[a] * inertia)
        wrench[a] = law.stiffness[a] * wrench[a] + damping[a] * reference.twist[a] + inertia * reference.acceleration[a]
    shorten(wrench, law.pull)
    posture_acceleration(arm, law.posture, law.null[0], posture)
    for a in range(6):
        null[a] = 0.0
        for i in range(n):
            null[a] += arm.jacobian[a, i] * posture[i]
    cholesky(inverse_inertia)
    solve_cholesky(inverse_inertia, null)
    for a in range(6):
        wrench[a] -= damping[a] * velocity[a] + null[a]
    compose_torque(arm, wrench, posture, out)


class CartesianImpedanceArrays(NamedTuple):
    stiffness: Array  # [6] N/m, N m/rad
    damping: Array  # [6] N s/m, N m s/rad, given
    damping_ratio: Array  # [6] twice the ratio where damping follows from inertia, 0 where it is given
    pull: Array  # [2] longest pull N, N m
    null: Array  # [2] k_q [1/s^2], damping of the task inertia at singularities [1/kg, 1/(kg m^2)]
    posture: Array  # [n] q_0 rad

    torque = cartesian_impedance_torque

    def latch(self, q: Array, posture: Array) -> None:
        self.posture[:] = posture


@dataclass(frozen=True)
class CartesianImpedanceGains:
    """Stiffness of the TCP; damping by ratio (1 is critical) or, where not None, in N s/m and N m s/rad."""

    position_stiffness_n_m: float
    rotation_stiffness_n_m_rad: float
    max_position_error_m: float
    max_rotation_error_rad: float
    damping_ratio: float = 1.0
    position_damping_n_s_m: float | None = None
    rotation_damping_n_m_s_rad: float | None = None
    posture_stiffness_1_s2: float = 20.0
    singularity_damping: float = 1e-4

    @property
    def takes(self) -> ActionKind:
        return ActionKind.TCP_POSE

    def __post_init__(self) -> None:
        check_positive("Cartesian impedance", {k: v for k, v in self.__dict__.items() if v is not None})

    def arrays(self, chain: SerialChain, limits: LimitArrays) -> CartesianImpedanceArrays:
        stiffness = np.array([self.position_stiffness_n_m, self.rotation_stiffness_n_m_rad])
        given = [self.position_damping_n_s_m, self.rotation_damping_n_m_s_rad]
        return CartesianImpedanceArrays(
            np.repeat(stiffness, 3),
            np.repeat([value or 0.0 for value in given], 3),
            np.repeat([2.0 * self.damping_ratio if value is None else 0.0 for value in given], 3),
            stiffness * [self.max_position_error_m, self.max_rotation_error_rad],
            np.array([self.posture_stiffness_1_s2, self.singularity_damping]),
            np.zeros(chain.dof),
        )
