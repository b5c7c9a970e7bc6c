"""What runs at control rate for an arm that is commanded by joint positions, as ``servo`` does for poses of the TCP."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from controllers.compiled import kernel
from controllers.joint_impedance import JointImpedanceGains
from controllers.joint_path import (
    JointPath,
    advance_joint_path,
    begin_joint_path,
    new_joint_path,
    rest_joint_path,
    sample_joint_path,
)
from controllers.joint_safety import joint_motion_layer
from controllers.kinematics import SerialChain, solve_chain
from controllers.law import ArmState, Gains, JointReference, law_torque
from controllers.safety import (
    BLIND,
    CONTACT,
    FINITE,
    FORCE,
    JOINT,
    MOTION,
    TORQUE,
    WORKSPACE,
    blind_layer,
    force_layer,
    joint_layer,
    torque_layer,
)
from controllers.safety_limits import SafetyLimits
from controllers.servo_arm import ServoArm, fault, new_servo_arm, rest_servo_arm
from robot_rl.types import Array, Arrays, all_finite


@kernel
def joint_servo_tick(servo: JointServoArrays, q: Array, dq: Array, mass: Array, bias: Array, dt: float) -> None:
    """One cycle: write ``servo.arm.torque`` [n] N m from joint state, ``mass`` [n, n] and ``bias`` [n]."""
    n, arm = q.shape[0], servo.arm
    before, after, last_rate, rate = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    solve_chain(arm.chain, q, arm.pose, arm.jacobian)
    if force_layer(arm.limits, arm.jacobian, arm.external, arm.wrench, dt):
        arm.counts[FORCE] += 1
        if not arm.stopped[0]:
            rest_joint_path(servo.path, q if math.isfinite(np.sum(q)) else servo.reference)  # what presses is let go
            arm.stopped[0] = CONTACT
    sample_joint_path(servo.path, before, last_rate)
    advance_joint_path(servo.path, dt)
    sample_joint_path(servo.path, after, rate)
    reference = JointReference(servo.reference, servo.reference_velocity, servo.reference_acceleration)
    for i in range(n):
        last_rate[i] = (rate[i] - last_rate[i]) / dt
    left, braked = joint_motion_layer(arm.limits, arm.chain, before, after, last_rate, reference, dt)
    arm.counts[MOTION] += left
    arm.counts[WORKSPACE] += braked
    law_torque(servo.law, ArmState(q, dq, mass, bias, arm.pose, arm.jacobian), reference, dt, arm.torque)
    arm.counts[JOINT] += joint_layer(arm.limits, q, dq, mass, bias, arm.torque)
    blind, changed = blind_layer(arm.blind, arm.weight, bias, arm.torque, dt)
    arm.counts[FINITE] += blind
    if changed:  # rest where the reference is, then where the arm is
        rest_joint_path(servo.path, servo.reference if blind else q)
        arm.stopped[0] = arm.stopped[0] or BLIND
    arm.counts[TORQUE] += torque_layer(arm.limits, arm.last_torque, arm.torque, dt)


class JointServoArrays(NamedTuple):
    """Constants and memory of one servo."""

    arm: ServoArm
    law: Any  # LawArrays that follow a JointReference
    path: JointPath
    reference: Array  # [n] rad, set point of this tick, after the motion layer
    reference_velocity: Array  # [n]
    reference_acceleration: Array  # [n]

    tick = joint_servo_tick


class JointServo:
    """A Controller for one arm under the law of ``gains`` (joint impedance unless given), inside the safety chain.
    State: joint_position, joint_velocity [n], mass_matrix [n, n], bias_force [n], and external_torque [n] unless the
    limits' force source is none. Target: joint_position [n] rad, reached ``target_s`` after it is first given.
    Command: torque [n] N m."""

    def __init__(
        self, chain: SerialChain, limits: SafetyLimits, gains: Gains | None = None, target_s: float = 0.05
    ) -> None:
        n, constants = chain.dof, limits.arrays()
        self.chain, self._target_s, self._force_source = chain, target_s, limits.force_source
        self._latched = np.full(n, np.nan)
        self.arrays = JointServoArrays(
            arm=new_servo_arm(chain, constants),
            law=(gains or JointImpedanceGains()).arrays(chain, constants),
            path=new_joint_path(n),
            reference=np.zeros(n),
            reference_velocity=np.zeros(n),
            reference_acceleration=np.zeros(n),
        )

    def reset(self, state: Arrays) -> None:
        """Rest at ``joint_position``."""
        a, q = self.arrays, np.array(state["joint_position"], dtype=np.float64)
        rest_joint_path(a.path, q)
        a.reference[:] = q
        a.reference_velocity[:] = a.reference_acceleration[:] = 0.0
        rest_servo_arm(a.arm, state)
        self._latched[:] = q
        a.law.latch(q, q)

    def begin(self, target: Array, following: Array | None = None, *, moving: bool = True) -> None:
        """Head for the set point ``target`` [n] rad, already checked; ``following`` [n] is the one after it.

        One that is not finite is none. Once a ``fault`` stopped the arm, nothing begins until the reset.
        """
        if not all_finite(target):
            self.arrays.arm.counts[FINITE] += 1
            return
        self._latched[:] = target
        if self.arrays.arm.stopped[0]:
            return
        ahead = target if following is None else following
        begin_joint_path(self.arrays.path, target, ahead, following is not None, moving, self._target_s)

    @property
    def fault(self) -> str:
        """What stopped the arm since the reset, empty where nothing did."""
        return fault(self.arrays.arm)

    @property
    def late(self) -> bool:
        """Whether the path has not come to the last set point yet."""
        elapsed, duration = self.arrays.path.time
        return bool(elapsed < duration)

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Torque [n] N m for the next ``dt`` seconds."""
        if not np.array_equal(target["joint_position"], self._latched):
            self.begin(target["joint_position"])
        if self._force_source != "none":
            self.arrays.arm.external[:] = state["external_torque"]
        joint_servo_tick(
            self.arrays, state["joint_position"], state["joint_velocity"], state["mass_matrix"], state["bias_force"], dt
        )
        return self.arrays.arm.torque.copy()
