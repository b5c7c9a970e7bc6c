# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
"""One arm in its scene: the physics, the laws that drive the arm, what can be measured and put in place."""

from __future__ import annotations

import numpy as np

from controllers.drive import build_drive
from controllers.gripper import Gripper
from controllers.kinematics import SerialChain, solve_chain
from controllers.law import Gains
from controllers.safety import LAYERS
from controllers.safety_limits import SafetyLimits
from robot_rl.geometry import (
    quat_xyzw_conjugate,
    quat_xyzw_from_rotvec,
    quat_xyzw_multiply,
    quat_xyzw_near,
    rotvec_from_quat_xyzw,
)
from robot_rl.types import ActionKind, Array, Arrays, all_finite
from sim.arms.arm import Arm
from sim.measurement import Measurement
from sim.objects import SceneObject
from sim.physics import Physics
from sim.scene import Scene, arm_chain, build_scene, joint_couplings

TCP, JOINTS = "arm0/tcp", "arm0/joints"


def arm_part(gains: Gains | None) -> str:
    """The part of a command that the law of ``gains`` follows."""
    return JOINTS if gains is not None and gains.takes is ActionKind.JOINT_POSITION else TCP


class World:
    """``step_s`` is the time between set points; ``sim.reset`` arranges starts."""

    def __init__(self, scene: Scene, arm: Arm, limits: SafetyLimits, gains: Gains | None, step_s: float) -> None:
        built = build_scene(scene, arm)
        self.arm, self.physics, self.part = arm, Physics(built), arm_part(gains)
        self.chain: SerialChain = arm_chain(built)
        self.safety, self.servo = build_drive(self.chain, limits, gains, np.array(arm.home_rad), step_s)
        self.gripper = Gripper()
        self._measurement = Measurement(self.physics, self.chain.arrays)
        self.things: dict[str, SceneObject] = {thing.observation: thing for thing in scene.objects}
        self.holdable = {thing.held: thing for thing in scene.objects if thing.free}
        self.home, self._step_s = np.array(arm.home_rad), step_s
        self._object_qpos, self._object_mocap = built.object_qpos, built.object_mocap
        model, n = built.model, built.dof
        self._object_qvel = {name: int(model.joint(name).dofadr[0]) for name in self._object_qpos}
        self._fingers_closed = np.array(arm.finger_closed)
        self._fingers_travel = np.array(arm.finger_open) - self._fingers_closed
        self._fingers = list(zip(self._fingers_closed.tolist(), self._fingers_travel.tolist(), strict=True))
        self._fingers_qpos = np.array([int(model.joint(name).qposadr[0]) for name in arm.fingers])
        self._fingers_qvel = np.array([int(model.joint(name).dofadr[0]) for name in arm.fingers])
        self._fingers_ctrl = self.physics.data.ctrl[n : n + len(arm.fingers)]
        self._couplings = joint_couplings(model)
        self._any_pose = self.part == JOINTS or all(arm.axes)
        self._pose, self._jacobian = np.empty(7), np.empty((6, n))

    # --- driving ----------------------------------------------------------------------------------------------------

    def advance(self, ticks: int) -> None:
        """Run ``ticks`` steps of physics under the servo."""
        self.physics.advance(self.servo.arrays, ticks)

    def drive_gripper(self, opening: float) -> None:
        """Set what the fingers head for during this step."""
        moved = self.gripper.move(opening, self._step_s)
        for finger, (closed, travel) in enumerate(self._fingers):  # plain numbers: they are two
            self._fingers_ctrl[finger] = closed + moved * travel

    def take_interventions(self) -> dict[str, int]:
        """Times that each layer of the safety chain changed something since the last call."""
        counts = (self.safety.counts + self.servo.arrays.arm.counts).tolist()
        if not any(counts):
            return {}
        self.safety.counts.fill(0)
        self.servo.arrays.arm.counts.fill(0)
        return {name: count for name, count in zip(LAYERS, counts, strict=True) if count}

    # --- measuring --------------------------------------------------------------------------------------------------

    def measure(self, before: Arrays | None = None) -> dict[str, Array]:
        """The true state by observation name, as ``Measurement.read`` tells."""
        return self._measurement.read(before)

    def possible(self, target: Array) -> Array:
        """``target`` of the arm's part with what its joints cannot choose of a TCP pose [7] as it is at home."""
        if self._any_pose or not all_finite(target) or not target[3:].any():
            return target
        axes, home = np.array(self.arm.axes), self.chain.pose(self.home)
        turn = rotvec_from_quat_xyzw(quat_xyzw_multiply(target[3:], quat_xyzw_conjugate(home[3:])))
        quat = quat_xyzw_multiply(quat_xyzw_from_rotvec(np.where(axes[3:], turn, 0.0)), home[3:])
        return np.concatenate((np.where(axes[:3], target[:3], home[:3]), quat_xyzw_near(quat, target[3:])))

    @property
    def measured(self) -> Array:
        """Where the arm is, as its part commands it: the TCP's pose [7] at the last tick, or joint positions [n]."""
        return self.physics.arm.q if self.part == JOINTS else self.servo.arrays.arm.pose

    # --- starting ---------------------------------------------------------------------------------------------------

    def place(self, thing: SceneObject, value: Array) -> None:
        """Put an object at a pose [7], without speed, or a marker at a position [3]."""
        data = self.physics.data
        if thing.free:
            address, speed = self._object_qpos[thing.name], self._object_qvel[thing.name]
            data.qpos[address : address + 7] = _wxyz(value)
            data.qvel[speed : speed + 6] = 0.0
            return
        index = self._object_mocap[thing.name]
        data.mocap_pos[index] = value[:3]
        if not thing.marker:
            data.mocap_quat[index] = _wxyz(value)[3:]

    def pose_of(self, thing: SceneObject) -> Array:
        """The true pose [7] of an object."""
        data = self.physics.data
        if thing.free:
            address = self._object_qpos[thing.name]
            x, y, z, qw, qx, qy, qz = data.qpos[address : address + 7]
        else:
            index = self._object_mocap[thing.name]
            x, y, z, qw, qx, qy, qz = *data.mocap_pos[index], *data.mocap_quat[index]
        return np.array([x, y, z, qx, qy, qz, qw])

    def open_fingers(self, opening: float) -> None:
        """Put the fingers at an opening, at once, and what is coupled to them."""
        qpos = self.physics.data.qpos
        qpos[self._fingers_qpos] = self._finger_positions(opening)
        for follower, driver, polynomial in self._couplings:
            qpos[follower] = np.polynomial.polynomial.polyval(qpos[driver], polynomial)
        self.aim_fingers(opening)

    def aim_fingers(self, opening: float) -> None:
        """Let the fingers head for an opening, as fast as they can."""
        self.gripper.reset({"gripper_opening": np.array([opening])})
        self._fingers_ctrl[:] = self._finger_positions(opening)

    @property
    def speed(self) -> float:
        """The largest speed [m/s, rad/s] of TCP, fingers and objects. That of the joints does not count: the law may
        still turn a redundant arm towards its posture, behind a TCP that stands."""
        arm = self.physics.arm
        solve_chain(self.servo.arrays.arm.chain, arm.q, self._pose, self._jacobian)
        others = self.physics.data.qvel[len(arm.dq) :]
        return float(max(np.abs(self._jacobian @ arm.dq).max(), np.abs(others).max(initial=0.0)))

    @property
    def finger_speed(self) -> Array:
        """Of the driven joints of the fingers [m/s or rad/s]."""
        return self.physics.data.qvel[self._fingers_qvel]

    def latch(self, opening: float) -> None:
        """Hold the arm where it is, and head for ``opening`` with the fingers."""
        pose = self.chain.pose(self.physics.arm.q)
        torque = self.servo.arrays.arm.torque.copy()
        self.servo.reset({"joint_position": self.physics.arm.q, "tcp_pose": pose, "bias_force": torque})
        self.safety.reset(self.servo.arrays.reference, opening)
        self.take_interventions()

    def _finger_positions(self, opening: float) -> Array:
        return self._fingers_closed + opening * self._fingers_travel


def _wxyz(pose: Array) -> Array:
    """A pose [7] with its quaternion as MuJoCo has it."""
    x, y, z, qx, qy, qz, qw = pose
    return np.array([x, y, z, qw, qx, qy, qz])
