"""What runs at control rate for an arm that is commanded by joint positions, as ``servo`` does for poses of the TCP."""

from __future__ import annotations

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
from controllers.kinematics import ChainArrays, SerialChain, solve_chain
from controllers.law import ArmState, Gains, JointReference, law_torque
from controllers.safety import (
    FINITE,
    FORCE,
    JOINT,
    LAYERS,
    MOTION,
    TORQUE,
    WORKSPACE,
    force_layer,
    joint_layer,
    torque_layer,
)
from controllers.safety_limits import LimitArrays, SafetyLimits
from robot_rl.types import Array, Arrays


@kernel
def joint_servo_tick(servo: JointServoArrays, q: Array, dq: Array, mass: Array, bias: Array, dt: float) -> None:
    """One cycle: write ``servo.torque`` [n] N m from joint state, ``mass`` [n, n] and ``bias`` [n]."""
    n = q.shape[0]
    before, after, last_rate, rate = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    solve_chain(servo.chain, q, servo.pose, servo.jacobian)
    if force_layer(servo.limits, servo.jacobian, servo.external, servo.wrench, dt):
        servo.counts[FORCE] += 1
        if not servo.stopped[0]:
            rest_joint_path(servo.path, q)  # where the arm is: what presses is let go
        servo.stopped[0] = True
    sample_joint_path(servo.path, before, last_rate)
    advance_joint_path(servo.path, dt)
    sample_joint_path(servo.path, after, rate)
    reference = JointReference(servo.reference, servo.reference_velocity, servo.reference_acceleration)
    for i in range(n):
        last_rate[i] = (rate[i] - last_rate[i]) / dt
    left, braked = joint_motion_layer(servo.limits, servo.chain, before, after, last_rate, reference, dt)
    servo.counts[MOTION] += left
    servo.counts[WORKSPACE] += braked
    arm = ArmState(q, dq, mass, bias, servo.pose, servo.jacobian)
    law_torque(servo.law, arm, reference, dt, servo.torque)
    servo.counts[JOINT] += joint_layer(servo.limits, q, dq, mass, bias, servo.torque)
    servo.counts[TORQUE] += torque_layer(servo.limits, servo.last_torque, servo.torque, dt)


class JointServoArrays(NamedTuple):
    """Constants and memory of one servo."""

    chain: ChainArrays
    law: Any  # LawArrays that follow a JointReference
    limits: LimitArrays
    path: JointPath
    pose: Array  # [7] measured
    jacobian: Array  # [6, n]
    reference: Array  # [n] rad, set point of this tick, after the motion layer
    reference_velocity: Array  # [n]
    reference_acceleration: Array  # [n]
    torque: Array  # [n] of this tick
    last_torque: Array  # [n]
    counts: Array  # [layers] int64 interventions
    external: Array  # [n] N m that others exert on the joints, written before each tick; zeros where nobody knows
    wrench: Array  # [6] N, N m that others exert on the TCP, over the last 10 ms
    stopped: Array  # [1] whether a force has stopped the arm since the reset

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
            chain=chain.arrays,
            law=(gains or JointImpedanceGains()).arrays(chain, constants),
            limits=constants,
            path=new_joint_path(n),
            pose=np.empty(7),
            jacobian=np.empty((6, n)),
            reference=np.zeros(n),
            reference_velocity=np.zeros(n),
            reference_acceleration=np.zeros(n),
            torque=np.zeros(n),
            last_torque=np.zeros(n),
            counts=np.zeros(len(LAYERS), dtype=np.int64),
            external=np.zeros(n),
            wrench=np.zeros(6),
            stopped=np.zeros(1, dtype=np.bool_),
        )

    def reset(self, state: Arrays) -> None:
        """Rest at ``joint_position``."""
        a, q = self.arrays, np.array(state["joint_position"], dtype=np.float64)
        rest_joint_path(a.path, q)
        a.reference[:] = q
        a.reference_velocity[:] = a.reference_acceleration[:] = 0.0
        a.last_torque[:] = state.get("bias_force", 0.0)
        a.counts[:], a.external[:], a.wrench[:], a.stopped[:] = 0, 0.0, 0.0, False
        self._latched[:] = q
        a.law.latch(q, q)

    def begin(self, target: Array, following: Array | None = None, *, moving: bool = True) -> None:
        """Head for the set point ``target`` [n] rad, already checked; ``following`` [n] is the one after it.

        One that is not finite is none. Once a force stopped the arm, nothing begins until the reset.
        """
        if not np.isfinite(target).all():
            self.arrays.counts[FINITE] += 1
            return
        self._latched[:] = target
        if self.arrays.stopped[0]:
            return
        ahead = target if following is None else following
        begin_joint_path(self.arrays.path, target, ahead, following is not None, moving, self._target_s)

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
            self.arrays.external[:] = state["external_torque"]
        joint_servo_tick(
            self.arrays, state["joint_position"], state["joint_velocity"], state["mass_matrix"], state["bias_force"], dt
        )
        return self.arrays.torque.copy()
