"""What runs at control rate: path between set points -> motion limits -> a law -> joint and torque limits.

One compiled ``servo_tick`` on preallocated arrays, so that a simulator can call it between two halves of a physics
step without touching Python, and a driver once per cycle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from controllers.bound import bind
from controllers.compiled import kernel_of, lean_kernel
from controllers.interpolation import Segment, late, new_segment
from controllers.kinematics import SerialChain, solve_chain
from controllers.law import ArmState, Gains, Reference, law_torque
from controllers.operational_space import OperationalSpaceGains
from controllers.reference import Way, advance_reference, begin_row, give_way, hold, rest_reference
from controllers.safety import (
    BLIND,
    CONTACT,
    FINITE,
    FORCE,
    JOINT,
    TORQUE,
    blind_layer,
    force_layer,
    joint_layer,
    torque_layer,
)
from controllers.safety_limits import SafetyLimits
from controllers.servo_arm import ServoArm, fault, new_servo_arm, rest_servo_arm
from robot_rl.types import Array, Arrays, all_finite

# One cycle of a servo: f(servo, q, dq, mass, bias, dt) writes servo.arm.torque.
servo_tick = kernel_of("tick")


@lean_kernel
def tcp_servo_tick(servo: ServoArrays, q: Array, dq: Array, mass: Array, bias: Array, dt: float) -> None:
    """One cycle: write ``servo.arm.torque`` [n] N m from joint state, ``mass`` [n, n] and ``bias`` [n]."""
    arm = servo.arm
    solve_chain(arm.chain, q, arm.pose, arm.jacobian)
    if force_layer(arm.limits, arm.jacobian, arm.external, arm.wrench, dt):
        arm.counts[FORCE] += 1
        if not arm.stopped[0]:
            give_way(arm.limits, servo.segment, servo.reference, servo.reference_twist, arm.pose, dt)
            arm.stopped[0] = CONTACT
    advance_reference(
        arm.limits, servo.segment, arm.jacobian, q, servo.reference, servo.reference_twist,
        servo.reference_acceleration, arm.counts, dt,
    )  # fmt: skip
    reference = Reference(servo.reference, servo.reference_twist, servo.reference_acceleration)
    law_torque(servo.law, ArmState(q, dq, mass, bias, arm.pose, arm.jacobian), reference, dt, arm.torque)
    arm.counts[JOINT] += joint_layer(arm.limits, q, dq, mass, bias, arm.torque)
    blind, changed = blind_layer(arm.blind, arm.weight, bias, arm.torque, dt)
    arm.counts[FINITE] += blind
    if changed:  # rest where the reference is, then where the arm is
        way = arm.pose if not blind else servo.reference
        give_way(arm.limits, servo.segment, servo.reference, servo.reference_twist, way, dt)
        arm.stopped[0] = arm.stopped[0] or BLIND
    arm.counts[TORQUE] += torque_layer(arm.limits, arm.last_torque, arm.torque, dt)


class ServoArrays(NamedTuple):
    """Constants and memory of one servo."""

    arm: ServoArm
    law: Any  # LawArrays; its type decides which kernel the tick is compiled with
    segment: Segment
    reference: Array  # [7] set point of this tick, after the motion layer
    reference_twist: Array  # [6]
    reference_acceleration: Array  # [6]

    tick = tcp_servo_tick


class Servo:
    """A Controller for one arm under the law of ``gains`` (operational-space control unless given), inside the safety
    chain. State: joint_position, joint_velocity [n], mass_matrix [n, n], bias_force [n], and external_torque [n] unless
    the limits' force source is none. Target: tcp_pose [7], reached ``target_s`` after it is first given. Command:
    torque [n] N m."""

    def __init__(
        self,
        chain: SerialChain,
        limits: SafetyLimits,
        gains: Gains | None = None,
        posture: Array | None = None,
        target_s: float = 0.05,
    ) -> None:
        constants = limits.arrays()
        self.chain, self._target_s, self._force_source = chain, target_s, limits.force_source
        self._posture = None if posture is None else np.array(posture, dtype=np.float64)
        self._latched = np.full(7, np.nan)
        self._announced: bytes | None = None
        self.arrays = ServoArrays(
            arm=new_servo_arm(chain, constants),
            law=(gains or OperationalSpaceGains()).arrays(chain, constants),
            segment=new_segment(),
            reference=np.empty(7),
            reference_twist=np.zeros(6),
            reference_acceleration=np.zeros(6),
        )
        a = self.arrays
        self._way = bind(Way(constants, a.segment, a.reference, a.reference_twist))

    def reset(self, state: Arrays) -> None:
        """Rest at the pose of ``joint_position``, or at ``tcp_pose`` [7] where the state names one."""
        a = self.arrays
        pose = state["tcp_pose"] if "tcp_pose" in state else self.chain.pose(state["joint_position"])
        rest_reference(
            a.segment, np.ascontiguousarray(pose, dtype=np.float64), a.reference, a.reference_twist,
            a.reference_acceleration,
        )  # fmt: skip
        rest_servo_arm(a.arm, state)
        self._latched[:], self._announced = pose, None
        q = state["joint_position"]
        a.law.latch(q, q if self._posture is None else self._posture)

    def begin(self, target: Array, following: Array | None = None, *, moving: bool = True) -> None:
        """Head for the set point ``target`` [7], already checked; ``following`` [7] is the one after it.

        A set point that the last one announced continues its plan: where the path is late, it waits for those before.
        Any other one starts at once, from where the reference is. Not ``moving``, the arm comes to rest at ``target``,
        or ahead of it, where that is too near to brake. One that is not finite is none. Once a ``fault`` stopped the
        arm, nothing begins until the reset.
        """
        if not all_finite(target):
            self.arrays.arm.counts[FINITE] += 1
            return
        a, continuing = self.arrays, target.tobytes() == self._announced
        self._latched[:], self._announced = target, None if following is None or not moving else following.tobytes()
        if a.arm.stopped[0]:
            return
        if not moving:
            hold(a.arm.limits, a.segment, a.reference, a.reference_twist, target.copy(), self._target_s)
            return
        ahead = target if following is None else following
        begin_row(self._way, target, ahead, following is not None, continuing, self._target_s)

    @property
    def fault(self) -> str:
        """What stopped the arm since the reset, empty where nothing did."""
        return fault(self.arrays.arm)

    @property
    def late(self) -> bool:
        """Whether the path has not come to the last set point yet."""
        return late(self.arrays.segment)

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Torque [n] for the next ``dt`` seconds."""
        if not np.array_equal(target["tcp_pose"], self._latched):
            self.begin(target["tcp_pose"])
        if self._force_source != "none":
            self.arrays.arm.external[:] = state["external_torque"]
        tcp_servo_tick(
            self.arrays, state["joint_position"], state["joint_velocity"], state["mass_matrix"], state["bias_force"], dt
        )
        return self.arrays.arm.torque.copy()
