"""Differential inverse kinematics: joint rates that follow a moving pose, as weighted least squares within bounds.

    min_dq  |W (J dq - v*)|^2 + w_p^2 |dq - k_p (q_0 - q)|^2 + w_d^2 |dq|^2,    v* = v_ref + k (e - v_ref dt)
    s.t.    |dq_i| <= speed_i,   -k_l (q_i - lower_i) <= dq_i <= k_l (upper_i - q_i)

in the manner of pink and mink: tasks with costs (pose, posture, damping), limits on speed and on the way left to a
joint's end (Kanoun et al. 2011). The joint position is integrated from its own last value, not from the measured one:
nothing that the arm does can make it drift or ring.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from controllers.cholesky import cholesky, solve_cholesky
from controllers.compiled import kernel
from controllers.joint_impedance import JointImpedanceArrays, JointImpedanceGains, joint_impedance_torque
from controllers.kinematics import ChainArrays, SerialChain, solve_chain
from controllers.law import ArmState, JointReference, Reference, check_positive
from controllers.safety_limits import LimitArrays, SafetyLimits
from controllers.task_space import pose_error, shorten
from robot_rl.types import ActionKind, Array, Arrays


@kernel
def differential_ik_step(law: DifferentialIkArrays, reference: Reference, dt: float) -> None:
    """Move the joint reference of ``law`` on by ``dt`` towards ``reference``."""
    n = law.joint.position.shape[0]
    pose, jacobian, wanted, bounds = np.empty(7), np.empty((6, n)), np.empty(6), np.empty((2, n))
    solve_chain(law.chain, law.joint.position, pose, jacobian)
    pose_error(pose, reference.pose, wanted)
    shorten(wanted, law.error)
    for a in range(6):
        wanted[a] = reference.twist[a] + law.rates[0] * (wanted[a] - reference.twist[a] * dt)
    for i in range(n):
        bounds[0, i] = max(-law.speed[i], law.rates[1] * (law.limits[0, i] - law.joint.position[i]))
        bounds[1, i] = min(law.speed[i], law.rates[1] * (law.limits[1, i] - law.joint.position[i]))
    hessian, gradient, rate = np.empty((n, n)), np.empty(n), np.empty(n)
    _normal_equations(law, jacobian, wanted, hessian, gradient)
    bounded_least_squares(hessian, gradient, bounds, rate)
    for i in range(n):
        law.joint.acceleration[i] = (rate[i] - law.joint.velocity[i]) / dt
        law.joint.velocity[i] = rate[i]
        law.joint.position[i] += rate[i] * dt


@kernel
def _normal_equations(
    law: DifferentialIkArrays, jacobian: Array, wanted: Array, hessian: Array, gradient: Array
) -> None:
    n = gradient.shape[0]
    for i in range(n):
        gradient[i] = law.cost[6] * law.rates[2] * (law.posture[i] - law.joint.position[i])
        for a in range(6):
            gradient[i] += law.cost[a] * jacobian[a, i] * wanted[a]
        for j in range(n):
            hessian[i, j] = 0.0
            for a in range(6):
                hessian[i, j] += law.cost[a] * jacobian[a, i] * jacobian[a, j]
        hessian[i, i] += law.cost[6] + law.cost[7]


@kernel
def bounded_least_squares(hessian: Array, gradient: Array, bounds: Array, out: Array) -> None:
    """out [n], always within ``bounds`` [2, n]: the minimum of 1/2 x^T H x - g^T x there.

    An active set (Stark and Parker 1995): the variable that breaks its bound most is fixed at it, one that the cost
    pulls off its bound is let go. Ends at the optimum, or after 4 n changes.
    """
    n = gradient.shape[0]
    fixed = np.zeros(n, dtype=np.bool_)
    for _ in range(4 * n):
        _solve_free(hessian, gradient, fixed, out)
        change, most = -1, 0.0
        for i in range(n):
            beyond = max(out[i] - bounds[1, i], bounds[0, i] - out[i])
            if not fixed[i] and beyond > most:
                change, most = i, beyond
        if change >= 0:
            fixed[change] = True
            out[change] = min(max(out[change], bounds[0, change]), bounds[1, change])
            continue
        most = 1e-12
        for i in range(n):
            if fixed[i]:
                pull = gradient[i]
                for j in range(n):
                    pull -= hessian[i, j] * out[j]
                inwards = -pull if out[i] >= bounds[1, i] else pull
                if inwards > most:
                    change, most = i, inwards
        if change < 0:
            return
        fixed[change] = False
    for i in range(n):
        out[i] = min(max(out[i], bounds[0, i]), bounds[1, i])


@kernel
def _solve_free(hessian: Array, gradient: Array, fixed: Array, out: Array) -> None:
    """Minimise over the variables that are not ``fixed`` [n]; these keep their values in ``out`` [n]."""
    n = gradient.shape[0]
    system, solution = hessian.copy(), gradient.copy()
    for i in range(n):
        for j in range(n):
            if fixed[i] or fixed[j]:
                if fixed[j] and not fixed[i]:
                    solution[i] -= hessian[i, j] * out[j]
                system[i, j] = 1.0 if i == j else 0.0
        if fixed[i]:
            solution[i] = out[i]
    cholesky(system)
    solve_cholesky(system, solution)
    out[:] = solution


@kernel
def differential_ik_torque(
    law: DifferentialIkArrays, arm: ArmState, reference: Reference, dt: float, out: Array
) -> None:
    """Move the joint reference on and write the torque [n] N m of joint impedance around it."""
    differential_ik_step(law, reference, dt)
    joint_impedance_torque(law.tracking, arm, law.joint, dt, out)


class DifferentialIkArrays(NamedTuple):
    chain: ChainArrays
    tracking: JointImpedanceArrays
    cost: Array  # [8] squared costs of the pose [6], of the posture, of the rates
    rates: Array  # [3] 1/s: k of the pose error, k_l ahead of a limit, k_p of the posture
    error: Array  # [2] largest error that one step sees [m, rad]
    limits: Array  # [2, n] rad
    speed: Array  # [n] rad/s
    posture: Array  # [n] q_0 rad
    joint: JointReference  # memory

    torque = differential_ik_torque

    def latch(self, q: Array, posture: Array) -> None:
        self.posture[:] = posture
        self.joint.position[:] = q
        self.joint.velocity[:] = 0.0
        self.joint.acceleration[:] = 0.0


@dataclass(frozen=True)
class DifferentialIkGains:
    """Costs weigh the tasks against each other (pose per m and per rad, the others per rad), gains are rates in 1/s."""

    position_cost: float = 1.0
    rotation_cost: float = 0.5
    posture_cost: float = 0.01
    damping: float = 0.01
    pose_gain_1_s: float = 30.0
    limit_gain_1_s: float = 6.0
    posture_gain_1_s: float = 1.0
    max_position_error_m: float = 0.05
    max_rotation_error_rad: float = 0.3
    tracking: JointImpedanceGains = field(default_factory=JointImpedanceGains)

    @property
    def takes(self) -> ActionKind:
        return ActionKind.TCP_POSE

    def __post_init__(self) -> None:
        check_positive("differential IK", {k: v for k, v in self.__dict__.items() if k != "tracking"})

    def arrays(self, chain: SerialChain, limits: LimitArrays) -> DifferentialIkArrays:
        n = chain.dof
        costs = [*[self.position_cost] * 3, *[self.rotation_cost] * 3, self.posture_cost, self.damping]
        return DifferentialIkArrays(
            chain.arrays,
            self.tracking.arrays(chain, limits),
            np.square(costs),
            np.array([self.pose_gain_1_s, self.limit_gain_1_s, self.posture_gain_1_s]),
            np.array([self.max_position_error_m, self.max_rotation_error_rad]),
            limits.joint.copy(),
            limits.joint_speed.copy(),
            np.zeros(n),
            JointReference(np.zeros(n), np.zeros(n), np.zeros(n)),
        )


class DifferentialIk:
    """Joint positions that follow a pose, as a Controller, for arms that are commanded by position.

    State (at reset alone): joint_position [n] rad. Target: tcp_pose [7] in the base frame, optionally tcp_twist [6].
    Command: joint position [n] rad after ``dt`` seconds, within the limits of ``limits`` less their margin and at most
    its joint speeds from the last one. The posture is that of the reset unless given.
    """

    def __init__(
        self,
        chain: SerialChain,
        limits: SafetyLimits,
        gains: DifferentialIkGains | None = None,
        posture: Array | None = None,
    ) -> None:
        self.arrays = (gains or DifferentialIkGains()).arrays(chain, limits.arrays())
        self._posture = posture
        self._reference = Reference(np.empty(7), np.zeros(6), np.zeros(6))

    def reset(self, state: Arrays) -> None:
        """Rest at ``joint_position``."""
        q = state["joint_position"]
        self.arrays.latch(q, q if self._posture is None else self._posture)

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Joint position [n] rad for the end of the next ``dt`` seconds."""
        self._reference.pose[:] = target["tcp_pose"]
        self._reference.twist[:] = target.get("tcp_twist", 0.0)
        differential_ik_step(self.arrays, self._reference, dt)
        return self.arrays.joint.position.copy()
