"""What every servo keeps of its arm, whatever it is commanded by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.kinematics import ChainArrays, SerialChain
from controllers.safety import LAYERS
from controllers.safety_limits import LimitArrays
from robot_rl.types import Array, Arrays


class ServoArm(NamedTuple):
    """Constants and memory of one arm under a servo."""

    chain: ChainArrays
    limits: LimitArrays
    pose: Array  # [7] measured
    jacobian: Array  # [6, n]
    torque: Array  # [n] of this tick
    last_torque: Array  # [n]
    counts: Array  # [layers] int64 interventions
    external: Array  # [n] N m that others exert on the joints, written before each tick; zeros where nobody knows
    wrench: Array  # [6] N, N m that others exert on the TCP, over the last 10 ms
    stopped: Array  # [1] whether a force has stopped the arm since the reset


def new_servo_arm(chain: SerialChain, limits: LimitArrays) -> ServoArm:
    n = chain.dof
    return ServoArm(
        chain.arrays, limits, pose=np.empty(7), jacobian=np.empty((6, n)), torque=np.zeros(n), last_torque=np.zeros(n),
        counts=np.zeros(len(LAYERS), dtype=np.int64), external=np.zeros(n), wrench=np.zeros(6),
        stopped=np.zeros(1, dtype=np.bool_),
    )  # fmt: skip


def rest_servo_arm(arm: ServoArm, state: Arrays) -> None:
    """Nothing presses and nothing is counted yet; the torque is the ``bias_force`` [n] of ``state``."""
    arm.last_torque[:] = state.get("bias_force", 0.0)
    arm.counts[:], arm.external[:], arm.wrench[:], arm.stopped[:] = 0, 0.0, 0.0, False
