"""Operational-space control with null-space posture (Khatib 1987), compiled.

    tau = J^T Lambda (a_ref + K e + D (v_ref - v)) + N^T M (k_q (q_0 - q) - d_q dq) + h(q, dq)
    Lambda = (J M^-1 J^T)^-1,  N = I - M^-1 J^T Lambda J

with J [6, n] at the TCP in the base frame and h gravity and Coriolis. Gains have the dimensions 1/s^2 (K) and 1/s (D):
the closed loop is the same for every pose. Velocity and acceleration of the reference are fed forward, so that a
moving target is followed without lag; the error that K sees is bounded, so that an obstacle meets a bounded force
however far the reference runs away.
"""

from __future__ import annotations

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
def operational_space_torque(
    law: OperationalSpaceArrays, arm: ArmState, reference: Reference, dt: float, out: Array
) -> None:
    """Write the torque [n] N m of the law above; it has no memory, so ``dt`` does not matter."""
    n = arm.q.shape[0]
    wrench, velocity, posture = scratch(6), scratch(6), np.empty(n)
    pose_error(arm.pose, reference.pose, wrench)
    shorten(wrench, law.error)
    tcp_twist(arm, velocity)
    posture_acceleration(arm, law.posture, law.null[0], posture)
    for a in range(6):
        wrench[a] = (
            reference.acceleration[a]
            + law.stiffness[a] * wrench[a]
            + law.damping[a] * (reference.twist[a] - velocity[a])
        )
        for i in range(n):
            wrench[a] -= arm.jacobian[a, i] * posture[i]
    # N^T M a_0 = M a_0 - J^T Lambda J a_0: both J^T terms share one solve
    inverse_inertia = scratch((6, 6))
    inverse_task_inertia(arm, law.null[1], inverse_inertia)
    cholesky(inverse_inertia)
    solve_cholesky(inverse_inertia, wrench)
    compose_torque(arm, wrench, posture, out)


class OperationalSpaceArrays(NamedTuple):
    stiffness: Array  # [6] 1/s^2
    damping: Array  # [6] 1/s
    error: Array  # [2] largest position error [m] and rotation error [rad] that the stiffness sees
    null: Array  # [2] k_q [1/s^2], damping of the task inertia at singularities [1/kg, 1/(kg m^2)]
    posture: Array  # [n] q_0 rad

    torque = operational_space_torque

    def latch(self, q: Array, posture: Array) -> None:
        self.posture[:] = posture


@dataclass(frozen=True)
class OperationalSpaceGains:
    """Gains as accelerations per error; ``damping_ratio`` 1 is critical. Defaults near robosuite's OSC_POSE."""

    position_stiffness_1_s2: float = 300.0
    rotation_stiffness_1_s2: float = 300.0
    damping_ratio: float = 1.0
    posture_stiffness_1_s2: float = 20.0
    max_position_error_m: float = 0.05
    max_rotation_error_rad: float = 0.3
    singularity_damping: float = 1e-4  # more of it lets the posture leak into the TCP

    @property
    def takes(self) -> ActionKind:
        return ActionKind.TCP_POSE

    def __post_init__(self) -> None:
        check_positive("operational-space control", self.__dict__)

    def arrays(self, chain: SerialChain, limits: LimitArrays) -> OperationalSpaceArrays:
        stiffness = np.repeat([self.position_stiffness_1_s2, self.rotation_stiffness_1_s2], 3).astype(np.float64)
        return OperationalSpaceArrays(
            stiffness,
            2.0 * self.damping_ratio * np.sqrt(stiffness),
            np.array([self.max_position_error_m, self.max_rotation_error_rad]),
            np.array([self.posture_stiffness_1_s2, self.singularity_damping]),
            np.zeros(chain.dof),
        )
