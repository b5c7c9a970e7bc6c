"""An arm's own controller, as vendors ship it: it follows a stream of set points and knows nothing of plans.

Set points (poses of the TCP, or joint positions) arrive at some 100 Hz, never quite on time. Each is reached along a
straight line within ``spread_s``, which lies under a critically damped second-order filter,

    a = w^2 (p_in - p) - 2 w v,

whose position, speed and acceleration the law follows. It adds no limit of its own but those of joints and torque: what
is streamed too fast is seen in the measured motion. Where the line ends without a further set point the arm brakes:
p_in = p + 2 v / w makes a(0) = 0, never turns back, and brakes with v w / e at most, by which w is chosen.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from controllers import rotation
from controllers.compiled import lean_kernel
from controllers.kinematics import SerialChain, solve_chain
from controllers.law import ArmState, Gains, JointReference, Reference, law_torque
from controllers.safety import CONTACT, FORCE, JOINT, TORQUE, force_layer, joint_layer, torque_layer
from controllers.safety_limits import SafetyLimits
from controllers.scratch import scratch
from controllers.servo_arm import ServoArm, fault, new_servo_arm, rest_servo_arm
from robot_rl.types import ActionKind, Array, Arrays

_JOIN = (0.15, 0.6)  # m/s and rad/s of the TCP, or rad/s of the joints: how fast a stream is joined after braking
_JOIN_GROWTH = 1.02  # with each set point, so that one that runs away is caught up with


class Stream(NamedTuple):
    """Set points on their way to the reference; of m coordinates, 7 of a pose or n of the joints."""

    target: Array  # [m] the newest set point
    input: Array  # [m] on the line to it
    left: Array  # [1] s until the line ends; negative while braking
    natural: Array  # [1] w, rad/s
    most: Array  # [2] w of a stream, rad/s; what is braked with, m/s^2 and rad/s^2


@lean_kernel
def tcp_tick(servo: TcpStreamArrays, q: Array, dq: Array, mass: Array, bias: Array, dt: float) -> None:
    """One cycle: write ``servo.arm.torque`` [n] N m."""
    arm = servo.arm
    solve_chain(arm.chain, q, arm.pose, arm.jacobian)
    _advance_tcp(servo.stream, servo.reference, servo.velocity, servo.acceleration, dt)
    if force_layer(arm.limits, arm.jacobian, arm.external, arm.wrench, dt):
        arm.counts[FORCE] += 1
        if not arm.stopped[0]:  # a reflex: let go of what presses
            for i in range(7):
                servo.stream.input[i] = arm.pose[i]
            servo.stream.left[0] = -1.0
            arm.stopped[0] = CONTACT
    reference = Reference(servo.reference, servo.velocity, servo.acceleration)
    law_torque(servo.law, ArmState(q, dq, mass, bias, arm.pose, arm.jacobian), reference, dt, arm.torque)
    arm.counts[JOINT] += joint_layer(arm.limits, q, dq, mass, bias, arm.torque)
    arm.counts[TORQUE] += torque_layer(arm.limits, arm.last_torque, arm.torque, dt)


@lean_kernel
def joint_tick(servo: JointStreamArrays, q: Array, dq: Array, mass: Array, bias: Array, dt: float) -> None:
    """One cycle: write ``servo.arm.torque`` [n] N m."""
    arm = servo.arm
    solve_chain(arm.chain, q, arm.pose, arm.jacobian)
    _advance_joints(servo.stream, servo.reference, servo.velocity, servo.acceleration, dt)
    if force_layer(arm.limits, arm.jacobian, arm.external, arm.wrench, dt):
        arm.counts[FORCE] += 1
        if not arm.stopped[0]:
            for i in range(q.shape[0]):
                servo.stream.input[i] = q[i]
            servo.stream.left[0] = -1.0
            arm.stopped[0] = CONTACT
    reference = JointReference(servo.reference, servo.velocity, servo.acceleration)
    law_torque(servo.law, ArmState(q, dq, mass, bias, arm.pose, arm.jacobian), reference, dt, arm.torque)
    arm.counts[JOINT] += joint_layer(arm.limits, q, dq, mass, bias, arm.torque)
    arm.counts[TORQUE] += torque_layer(arm.limits, arm.last_torque, arm.torque, dt)


@lean_kernel
def _advance_tcp(stream: Stream, pose: Array, twist: Array, acceleration: Array, dt: float) -> None:
    turn, apart = scratch(3), scratch(3)
    if stream.left[0] == 0.0:
        aim_tcp(stream, pose, twist, _braking(stream, twist))
        stream.left[0] = -1.0
    share = _share(stream, dt)
    rotation.difference(stream.input[3:], stream.target[3:], turn)
    for i in range(3):
        stream.input[i] += share * (stream.target[i] - stream.input[i])
        turn[i] *= share
    rotation.rotate_by(turn, stream.input[3:], stream.input[3:])
    rotation.difference(pose[3:], stream.input[3:], apart)
    w = stream.natural[0]
    for i in range(6):
        error = stream.input[i] - pose[i] if i < 3 else apart[i - 3]
        acceleration[i] = w * w * error - 2.0 * w * twist[i]
        twist[i] += acceleration[i] * dt
    for i in range(3):
        pose[i] += twist[i] * dt
        turn[i] = twist[3 + i] * dt
    rotation.rotate_by(turn, pose[3:], pose[3:])


@lean_kernel
def _advance_joints(stream: Stream, q: Array, dq: Array, ddq: Array, dt: float) -> None:
    if stream.left[0] == 0.0:
        aim_joints(stream, q, dq, _braking(stream, dq))
        stream.left[0] = -1.0
    share, w = _share(stream, dt), stream.natural[0]
    for i in range(q.shape[0]):
        stream.input[i] += share * (stream.target[i] - stream.input[i])
        ddq[i] = w * w * (stream.input[i] - q[i]) - 2.0 * w * dq[i]
        dq[i] += ddq[i] * dt
        q[i] += dq[i] * dt


@lean_kernel
def _share(stream: Stream, dt: float) -> float:
    """Of the way that is left to the target, what the next ``dt`` seconds take."""
    if stream.left[0] < 0.0:
        return 0.0
    share = 1.0 if stream.left[0] <= dt else dt / stream.left[0]
    stream.left[0] = max(stream.left[0] - dt, 0.0)
    return share


@lean_kernel
def _braking(stream: Stream, velocity: Array) -> float:
    """The w that stops from ``velocity`` as the limit of braking says."""
    fastest = 1e-9
    for i in range(velocity.shape[0]):
        fastest = max(fastest, abs(velocity[i]))
    return min(stream.most[0], math.e * stream.most[1] / fastest)


@lean_kernel
def aim_tcp(stream: Stream, pose: Array, twist: Array, w: float) -> None:
    """Set w, and the input to where it asks for no acceleration now: to where the TCP would come to rest."""
    turn = scratch(3)
    for i in range(3):
        stream.input[i] = pose[i] + twist[i] * (2.0 / w)
        turn[i] = twist[3 + i] * (2.0 / w)
    rotation.rotate_by(turn, pose[3:], stream.input[3:])
    stream.natural[0] = w


@lean_kernel
def aim_joints(stream: Stream, q: Array, dq: Array, w: float) -> None:
    """The same for joints."""
    for i in range(q.shape[0]):
        stream.input[i] = q[i] + dq[i] * (2.0 / w)
    stream.natural[0] = w


class TcpStreamArrays(NamedTuple):
    arm: ServoArm
    law: Any  # LawArrays; its type decides which kernel the tick is compiled with
    stream: Stream
    reference: Array  # [7]
    velocity: Array  # [6]
    acceleration: Array  # [6]

    tick = tcp_tick


class JointStreamArrays(NamedTuple):
    arm: ServoArm
    law: Any
    stream: Stream
    reference: Array  # [n] rad
    velocity: Array  # [n]
    acceleration: Array  # [n]

    tick = joint_tick


class StreamedServo:
    """Follows streamed set points under the law of ``gains``, TCP poses [7] or joint positions [n] as that law takes.

    ``natural_rad_s`` is w, ``spread_s`` the time that each set point is given (say twice the period of the stream), and
    ``brake`` what is braked with [m/s^2 and rad/s^2 of each axis of the TCP, or rad/s^2 of each joint].
    """

    def __init__(
        self,
        chain: SerialChain,
        limits: SafetyLimits,
        gains: Gains,
        posture: Array,
        *,
        natural_rad_s: float = 50.0,
        spread_s: float = 0.02,
        brake: float = 3.5,
    ) -> None:
        self.chain, self._posture = chain, posture
        self._spread_s, self._joining = spread_s, 0.0  # of the speeds of joining
        self._joints = gains.takes is ActionKind.JOINT_POSITION
        n = chain.dof
        size, rates, kind = (n, n, JointStreamArrays) if self._joints else (7, 6, TcpStreamArrays)
        constants = limits.arrays()
        self.arrays: Any = kind(
            new_servo_arm(chain, constants), gains.arrays(chain, constants),
            Stream(
                np.zeros(size), np.zeros(size), -np.ones(1), np.array([natural_rad_s]), np.array([natural_rad_s, brake])
            ),
            np.zeros(size), np.zeros(rates), np.zeros(rates),
        )  # fmt: skip

    def reset(self, state: Arrays) -> None:
        """Rest at ``joint_position`` [n] rad of ``state``."""
        a, q = self.arrays, np.array(state["joint_position"], dtype=np.float64)
        for place in (a.reference, a.stream.target, a.stream.input):
            place[:] = q if self._joints else self.chain.pose(q)
        a.velocity[:] = a.acceleration[:] = 0.0
        a.stream.left[0], a.stream.natural[0] = -1.0, a.stream.most[0]
        rest_servo_arm(a.arm, state)
        a.law.latch(q, q if self._joints else self._posture)

    def follow(self, target: Array) -> None:
        """A set point has arrived; it is finite, a quaternion of unit length. After braking the arm comes to the stream
        with a bounded speed, however far it has run on. Once a reflex stopped the arm, nothing is followed."""
        a, spread_s = self.arrays, self._spread_s
        if a.arm.stopped[0]:
            return
        if a.stream.left[0] < 0.0:  # it was braking
            (aim_joints if self._joints else aim_tcp)(a.stream, a.reference, a.velocity, float(a.stream.most[0]))
            self._joining = 1.0
        if self._joining:
            far = self._apart(a.stream.input, target)
            spread_s = max(spread_s, max(far[0] / _JOIN[0], far[1] / _JOIN[1]) / self._joining)
            self._joining = self._joining * _JOIN_GROWTH if spread_s > self._spread_s else 0.0
        a.stream.target[:], a.stream.left[0] = target, spread_s

    def apart(self, target: Array) -> tuple[float, float]:
        """Distance of a set point from the reference: m and rad of the TCP, or 0 and rad of the furthest joint."""
        return self._apart(self.arrays.reference, target)

    def _apart(self, place: Array, target: Array) -> tuple[float, float]:
        if self._joints:
            return 0.0, float(np.abs(target - place).max())
        turn = np.empty(3)
        rotation.difference(place[3:], target[3:], turn)
        return math.dist(target[:3], place[:3]), _length(turn)

    def hold(self) -> None:
        """Come to rest, whatever was streamed; also from an input that is far away."""
        self.arrays.stream.left[0] = 0.0

    @property
    def fault(self) -> str:
        """What stopped the arm since the reset, empty where nothing did."""
        return fault(self.arrays.arm)


def _length(vector: Array) -> float:
    return float(np.linalg.norm(vector))
