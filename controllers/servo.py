"""What runs at control rate: path between set points -> motion limits -> a law -> joint and torque limits.

One compiled ``servo_tick`` on preallocated arrays, so that a simulator can call it between two halves of a physics
step without touching Python, and a driver once per cycle.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from controllers.compiled import kernel_of, lean_kernel
from controllers.interpolation import Segment, late, new_segment
from controllers.kinematics import ChainArrays, SerialChain, solve_chain
from controllers.law import ArmState, Gains, Reference, law_torque
from controllers.operational_space import OperationalSpaceGains
from controllers.reference import advance_reference, begin_row, give_way, hold, rest_reference
from controllers.safety import FINITE, FORCE, JOINT, LAYERS, TORQUE, force_layer, joint_layer, torque_layer
from controllers.safety_limits import LimitArrays, SafetyLimits
from robot_rl.types import Array, Arrays

# One cycle of a servo: f(servo, q, dq, mass, bias, dt) writes servo.torque.
servo_tick = kernel_of("tick")


@lean_kernel
def tcp_servo_tick(servo: ServoArrays, q: Array, dq: Array, mass: Array, bias: Array, dt: float) -> None:
    """One cycle: write ``servo.torque`` [n] N m from joint state, ``mass`` [n, n] and ``bias`` [n]."""
    solve_chain(servo.chain, q, servo.pose, servo.jacobian)
    if force_layer(servo.limits, servo.jacobian, servo.external, servo.wrench, dt):
        servo.counts[FORCE] += 1
        if not servo.stopped[0]:
            give_way(servo.limits, servo.segment, servo.reference, servo.reference_twist, servo.pose, dt)
        servo.stopped[0] = True
    advance_reference(
        servo.limits, servo.segment, servo.jacobian, q, servo.reference, servo.reference_twist,
        servo.reference_acceleration, servo.counts, dt,
    )  # fmt: skip
    law_torque(
        servo.law, ArmState(q, dq, mass, bias, servo.pose, servo.jacobian),
        Reference(servo.reference, servo.reference_twist, servo.reference_acceleration), dt, servo.torque,
    )  # fmt: skip
    servo.counts[JOINT] += joint_layer(servo.limits, q, dq, mass, bias, servo.torque)
    servo.counts[TORQUE] += torque_layer(servo.limits, servo.last_torque, servo.torque, dt)


class ServoArrays(NamedTuple):
    """Constants and memory of one servo."""

    chain: ChainArrays
    law: Any  # LawArrays; its type decides which kernel the tick is compiled with
    limits: LimitArrays
    segment: Segment
    pose: Array  # [7] measured
    jacobian: Array  # [6, n]
    reference: Array  # [7] set point of this tick, after the motion layer
    reference_twist: Array  # [6]
    reference_acceleration: Array  # [6]
    torque: Array  # [n] of this tick
    last_torque: Array  # [n]
    counts: Array  # [layers] int64 interventions
    external: Array  # [n] N m that others exert on the joints, written before each tick; zeros where nobody knows
    wrench: Array  # [6] N, N m that others exert on the TCP, over the last 10 ms
    stopped: Array  # [1] whether a force has stopped the arm since the reset

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
        n, constants = chain.dof, limits.arrays()
        self.chain, self._target_s, self._force_source = chain, target_s, limits.force_source
        self._posture = None if posture is None else np.array(posture, dtype=np.float64)
        self._latched = np.full(7, np.nan)
        self._announced: Array | None = None
        self.arrays = ServoArrays(
            chain=chain.arrays,
            law=(gains or OperationalSpaceGains()).arrays(chain, constants),
            limits=constants,
            segment=new_segment(),
            pose=np.empty(7),
            jacobian=np.empty((6, n)),
            reference=np.empty(7),
            reference_twist=np.zeros(6),
            reference_acceleration=np.zeros(6),
            torque=np.zeros(n),
            last_torque=np.zeros(n),
            counts=np.zeros(len(LAYERS), dtype=np.int64),
            external=np.zeros(n),
            wrench=np.zeros(6),
            stopped=np.zeros(1, dtype=np.bool_),
        )

    def reset(self, state: Arrays) -> None:
        """Rest at the pose of ``joint_position``, or at ``tcp_pose`` [7] where the state names one."""
        a = self.arrays
        pose = state["tcp_pose"] if "tcp_pose" in state else self.chain.pose(state["joint_position"])
        rest_reference(
            a.segment, np.ascontiguousarray(pose, dtype=np.float64), a.reference, a.reference_twist,
            a.reference_acceleration,
        )  # fmt: skip
        a.last_torque[:] = state.get("bias_force", 0.0)
        a.counts[:], a.external[:], a.wrench[:], a.stopped[:] = 0, 0.0, 0.0, False
        self._latched[:], self._announced = pose, None
        q = state["joint_position"]
        a.law.latch(q, q if self._posture is None else self._posture)

    def begin(self, target: Array, following: Array | None = None, *, moving: bool = True) -> None:
        """Head for the set point ``target`` [7], already checked; ``following`` [7] is the one after it.

        A set point that the last one announced continues its plan: where the path is late, it waits for those before.
        Any other one starts at once, from where the reference is. Not ``moving``, the arm comes to rest at ``target``,
        or ahead of it, where that is too near to brake. One that is not finite is none. Once a force stopped the arm,
        nothing begins until the reset.
        """
        if not np.isfinite(target).all():
            self.arrays.counts[FINITE] += 1
            return
        a, continuing = self.arrays, self._announced is not None and np.array_equal(target, self._announced)
        self._latched[:], self._announced = target, None if following is None or not moving else following.copy()
        if a.stopped[0]:
            return
        if not moving:
            hold(a.limits, a.segment, a.reference, a.reference_twist, target.copy(), self._target_s)
            return
        ahead = target if following is None else following
        begin_row(
            a.limits, a.segment, a.reference, a.reference_twist, target, ahead, following is not None, continuing,
            self._target_s,
        )  # fmt: skip

    @property
    def late(self) -> bool:
        """Whether the path has not come to the last set point yet."""
        return late(self.arrays.segment)

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Torque [n] for the next ``dt`` seconds."""
        if not np.array_equal(target["tcp_pose"], self._latched):
            self.begin(target["tcp_pose"])
        if self._force_source != "none":
            self.arrays.external[:] = state["external_torque"]
        tcp_servo_tick(
            self.arrays, state["joint_position"], state["joint_velocity"], state["mass_matrix"], state["bias_force"], dt
        )
        return self.arrays.torque.copy()
