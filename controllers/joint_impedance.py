"""Joint impedance: a spring and a damper at every joint, the arm's own weight carried (Albu-Schaeffer et al. 2007).

    tau = K clip(q_ref - q) + D (dq_ref - dq) + M ddq_ref + h(q, dq),   d_i = 2 z sqrt(k_i M_ii)

K [N m/rad] is diagonal; the error that it sees is bounded, so that a blocked joint pushes with a bounded torque. With
inertia feed-forward (M ddq_ref) a moving reference is followed without lag; without it the arm trails.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from controllers.compiled import kernel
from controllers.kinematics import SerialChain
from controllers.law import ArmState, JointReference, check_positive
from controllers.safety_limits import LimitArrays
from robot_rl.errors import ConfigError
from robot_rl.types import ActionKind, Array


@kernel
def joint_impedance_torque(
    law: JointImpedanceArrays, arm: ArmState, reference: JointReference, dt: float, out: Array
) -> None:
    """Write the torque [n] N m of the law above; it has no memory, so ``dt`` does not matter."""
    n = arm.q.shape[0]
    for i in range(n):
        error = min(max(reference.position[i] - arm.q[i], -law.error[0]), law.error[0])
        damping = law.damping_ratio[0] * math.sqrt(law.stiffness[i] * arm.mass[i, i])
        total = arm.bias[i] + law.stiffness[i] * error + damping * (reference.velocity[i] - arm.dq[i])
        for j in range(n):
            total += law.inertia_share[0] * arm.mass[i, j] * reference.acceleration[j]
        out[i] = total


class JointImpedanceArrays(NamedTuple):
    stiffness: Array  # [n] N m/rad
    damping_ratio: Array  # [1] twice the ratio
    error: Array  # [1] rad, the largest that the stiffness sees
    inertia_share: Array  # [1] of the torque that accelerates the arm with its reference: 1 all, 0 none

    torque = joint_impedance_torque

    def latch(self, q: Array, posture: Array) -> None:
        """It has no memory, and the reference names every joint."""


@dataclass(frozen=True)
class JointImpedanceGains:
    """``stiffness_n_m_rad`` for every joint alike, or one number each, base to tip; ``damping_ratio`` 1 is critical."""

    stiffness_n_m_rad: float | Sequence[float] = 600.0
    damping_ratio: float = 1.0
    max_error_rad: float = 0.2
    inertia_feedforward: bool = True

    @property
    def takes(self) -> ActionKind:
        return ActionKind.JOINT_POSITION

    def __post_init__(self) -> None:
        numbers = np.atleast_1d(np.asarray(self.stiffness_n_m_rad, dtype=np.float64)).tolist()
        check_positive(
            "joint impedance", {"damping_ratio": self.damping_ratio, "max_error_rad": self.max_error_rad}
            | {f"stiffness_n_m_rad[{i}]": value for i, value in enumerate(numbers)}
        )  # fmt: skip

    def arrays(self, chain: SerialChain, limits: LimitArrays) -> JointImpedanceArrays:
        """Raises ConfigError for a number of stiffnesses that is not that of the joints."""
        given = np.atleast_1d(np.asarray(self.stiffness_n_m_rad, dtype=np.float64))
        if len(given) not in (1, chain.dof):
            raise ConfigError(f"{len(given)} joint stiffnesses for {chain.dof} joints", limit=f"1 or {chain.dof}")
        return JointImpedanceArrays(
            np.array(np.broadcast_to(given, chain.dof)),
            np.array([2.0 * self.damping_ratio]),
            np.array([self.max_error_rad]),
            np.array([1.0 if self.inertia_feedforward else 0.0]),
        )
