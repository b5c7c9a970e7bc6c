"""What runs at control rate for an arm whose own controller takes poses or joint positions: the path, the limits and
the force stop of ``controllers.servo`` and ``controllers.joint_servo``, kernel by kernel, without a torque behind them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from controllers.bound import bind
from controllers.compiled import kernel, lean_kernel
from controllers.differential_ik import DifferentialIkArrays, DifferentialIkGains, differential_ik_step
from controllers.interpolation import Segment, new_segment
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
from controllers.law import JointReference, Reference
from controllers.reference import Way, advance_reference, begin_row, give_way, hold, rest_reference
from controllers.safety import CONTACT, FORCE, MOTION, WORKSPACE, force_layer
from controllers.safety_limits import SafetyLimits
from controllers.servo_arm import ServoArm, fault, new_servo_arm, rest_servo_arm
from robot_rl.types import Array


class PoseArrays(NamedTuple):
    """Constants and memory of a ``PoseServo``."""

    arm: ServoArm
    ik: DifferentialIkArrays
    segment: Segment
    reference: Array  # [7] set point of this tick
    twist: Array  # [6]
    acceleration: Array  # [6]


@kernel
def _pose_tick(bound: Any, q: Array, dt: float) -> None:
    servo = bound.parts
    _advance_pose(servo, q, dt)
    differential_ik_step(servo.ik, Reference(servo.reference, servo.twist, servo.acceleration), dt)


@lean_kernel
def _advance_pose(servo: PoseArrays, q: Array, dt: float) -> None:
    arm = servo.arm
    solve_chain(arm.chain, q, arm.pose, arm.jacobian)
    if force_layer(arm.limits, arm.jacobian, arm.external, arm.wrench, dt):
        arm.counts[FORCE] += 1
        if not arm.stopped[0]:
            give_way(arm.limits, servo.segment, servo.reference, servo.twist, arm.pose, dt)
            arm.stopped[0] = CONTACT
    advance_reference(
        arm.limits, servo.segment, arm.jacobian, q, servo.reference, servo.twist, servo.acceleration, arm.counts, dt
    )


class PoseServo:
    """Follows set points of the TCP [7], which come every ``step_s`` seconds. The reference is for arms that take
    poses, ``joints`` for those that take joint positions: differential inverse kinematics, near ``posture`` [n] rad."""

    def __init__(self, chain: SerialChain, limits: SafetyLimits, posture: Array, step_s: float) -> None:
        constants = limits.arrays()
        self._chain, self._posture, self._step_s = chain, np.array(posture, dtype=np.float64), step_s
        self._announced: bytes | None = None
        self._arrays = PoseArrays(
            new_servo_arm(chain, constants), DifferentialIkGains().arrays(chain, constants), new_segment(), np.empty(7),
            np.zeros(6), np.zeros(6),
        )  # fmt: skip
        a = self._arrays
        self._bound = bind(a)
        self._way = bind(Way(constants, a.segment, a.reference, a.twist))

    def reset(self, position: Array) -> None:
        """Rest where the joints [n] are measured."""
        a, q = self._arrays, np.array(position, dtype=np.float64)
        rest_reference(a.segment, self._chain.pose(q), a.reference, a.twist, a.acceleration)
        rest_servo_arm(a.arm, {"joint_position": q})
        a.ik.latch(q, self._posture)
        a.arm.pose[:] = a.reference
        self._announced = None

    def begin(self, target: Array, following: Array | None, within_s: float, *, moving: bool = True) -> None:
        """Head for the checked set point ``target`` [7], to be reached in ``within_s``; as ``Servo.begin`` does."""
        a, continuing = self._arrays, target.tobytes() == self._announced
        self._announced = None if following is None or not moving else following.tobytes()
        if a.arm.stopped[0]:
            return
        if not moving:
            hold(a.arm.limits, a.segment, a.reference, a.twist, target.copy(), self._step_s)
            return
        ahead = target if following is None else following
        begin_row(self._way, target, ahead, following is not None, continuing, within_s)

    def tick(self, position: Array, dt: float) -> None:
        """One cycle from the measured joints [n]; ``external`` is written before."""
        _pose_tick(self._bound, position, dt)

    @property
    def reference(self) -> Array:
        """The set point of this tick, pose [7]."""
        return self._arrays.reference.copy()

    @property
    def speed(self) -> Array:
        """How fast the set point moves, [6] m/s and rad/s."""
        return self._arrays.twist.copy()

    @property
    def joints(self) -> Array:
        """Joint positions [n] rad of this tick whose TCP is at the reference."""
        return self._arrays.ik.joint.position.copy()

    @property
    def pose(self) -> Array:
        """The set point's TCP [7]."""
        return self.reference

    @property
    def measured(self) -> Array:
        """The measured TCP [7] of the last tick."""
        return self._arrays.arm.pose

    @property
    def arm(self) -> ServoArm:
        """Counts of the layers, external torques, what stopped the arm."""
        return self._arrays.arm

    @property
    def fault(self) -> str:
        """What stopped the arm since the reset, empty where nothing did."""
        return fault(self._arrays.arm)


class JointArrays(NamedTuple):
    """Constants and memory of a ``JointPositionServo``."""

    arm: ServoArm
    path: JointPath
    reference: JointReference


@kernel
def _joint_tick(bound: Any, q: Array, dt: float) -> None:
    servo = bound.parts
    n, arm, reference = q.shape[0], servo.arm, servo.reference
    before, after, last_rate, rate = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    solve_chain(arm.chain, q, arm.pose, arm.jacobian)
    if force_layer(arm.limits, arm.jacobian, arm.external, arm.wrench, dt):
        arm.counts[FORCE] += 1
        if not arm.stopped[0]:
            rest_joint_path(servo.path, q)
            arm.stopped[0] = CONTACT
    sample_joint_path(servo.path, before, last_rate)
    advance_joint_path(servo.path, dt)
    sample_joint_path(servo.path, after, rate)
    for i in range(n):
        last_rate[i] = (rate[i] - last_rate[i]) / dt
    left, braked = joint_motion_layer(arm.limits, arm.chain, before, after, last_rate, reference, dt)
    arm.counts[MOTION] += left
    arm.counts[WORKSPACE] += braked


class JointPositionServo:
    """Follows set points of the joints [n] rad; otherwise as ``PoseServo``."""

    def __init__(self, chain: SerialChain, limits: SafetyLimits, posture: Array, step_s: float) -> None:
        n, constants = chain.dof, limits.arrays()
        self._chain, self._step_s, self._q = chain, step_s, np.zeros(n)
        self._arrays = JointArrays(
            new_servo_arm(chain, constants), new_joint_path(n), JointReference(np.zeros(n), np.zeros(n), np.zeros(n))
        )
        self._bound = bind(self._arrays)

    def reset(self, position: Array) -> None:
        """Rest where the joints [n] are measured."""
        a, q = self._arrays, np.array(position, dtype=np.float64)
        rest_joint_path(a.path, q)
        a.reference.position[:] = q
        a.reference.velocity[:] = a.reference.acceleration[:] = 0.0
        rest_servo_arm(a.arm, {"joint_position": q})
        self._q[:] = q

    def begin(self, target: Array, following: Array | None, within_s: float, *, moving: bool = True) -> None:
        """Head for the checked set point ``target`` [n] rad, to be reached in ``within_s``."""
        a = self._arrays
        if not a.arm.stopped[0]:
            ahead = target if following is None else following
            begin_joint_path(a.path, target, ahead, following is not None, moving, within_s)

    def tick(self, position: Array, dt: float) -> None:
        """One cycle from the measured joints [n]."""
        self._q[:] = position
        _joint_tick(self._bound, position, dt)

    @property
    def reference(self) -> Array:
        """The set point of this tick, joints [n] rad."""
        return self._arrays.reference.position.copy()

    @property
    def speed(self) -> Array:
        """How fast the set point moves, [n] rad/s."""
        return self._arrays.reference.velocity.copy()

    @property
    def joints(self) -> Array:
        """The same as the reference."""
        return self.reference

    @property
    def pose(self) -> Array:
        """The set point's TCP [7]."""
        return self._chain.pose(self._arrays.reference.position)

    @property
    def measured(self) -> Array:
        """The measured joints [n] of the last tick."""
        return self._q

    @property
    def arm(self) -> ServoArm:
        """Counts of the layers, external torques, what stopped the arm."""
        return self._arrays.arm

    @property
    def fault(self) -> str:
        """What stopped the arm since the reset, empty where nothing did."""
        return fault(self._arrays.arm)
