"""What every servo keeps of its arm, whatever it is commanded by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.kinematics import ChainArrays, SerialChain
from controllers.safety import BLIND, BLIND_S, CONTACT, LAYERS
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
    stopped: Array  # [1] int64 what has stopped the arm since the reset: nothing (0), CONTACT, BLIND
    blind: Array  # [1] s without a torque that is finite
    weight: Array  # [n] N m, the last finite bias


def new_servo_arm(chain: SerialChain, limits: LimitArrays) -> ServoArm:
    n = chain.dof
    return ServoArm(
        chain.arrays, limits, pose=np.empty(7), jacobian=np.empty((6, n)), torque=np.zeros(n), last_torque=np.zeros(n),
        counts=np.zeros(len(LAYERS), dtype=np.int64), external=np.zeros(n), wrench=np.zeros(6),
        stopped=np.zeros(1, dtype=np.int64), blind=np.zeros(1), weight=np.zeros(n),
    )  # fmt: skip


def rest_servo_arm(arm: ServoArm, state: Arrays) -> None:
    """Nothing presses and nothing is counted yet; the torque is the ``bias_force`` [n] of ``state``."""
    arm.last_torque[:] = arm.weight[:] = state.get("bias_force", 0.0)
    arm.counts[:], arm.external[:], arm.wrench[:], arm.stopped[:], arm.blind[:] = 0, 0.0, 0.0, 0, 0.0


def fault(arm: ServoArm) -> str:
    """What stopped the arm since the reset, empty where nothing did."""
    if arm.stopped[0] == CONTACT:
        force, torque = np.linalg.norm(arm.wrench[:3]), np.linalg.norm(arm.wrench[3:])
        return f"contact stopped the arm, {force:.0f} N and {torque:.0f} N m are left"
    return f"no finite measurement for {1e3 * BLIND_S:.0f} ms stopped the arm" if arm.stopped[0] == BLIND else ""
