# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
"""One arm in its scene: the physics, the laws that drive the arm, what can be measured, how a start is arranged."""

from __future__ import annotations

import mujoco
import numpy as np

from controllers.gripper import Gripper
from controllers.inverse_kinematics import inverse_kinematics
from controllers.kinematics import SerialChain, solve_chain
from controllers.operational_space import OperationalSpaceGains
from controllers.safety import LAYERS, SafetyChain
from controllers.safety_limits import SafetyLimits
from controllers.servo import Servo
from robot_rl.errors import ResetError, valid_choices
from robot_rl.geometry import geodesic_angle, quat_xyzw_normalize
from robot_rl.types import Array, Arrays, ArraySpec, ResetRequest
from sim.arms import Arm
from sim.physics import Physics
from sim.scene import Scene, SceneObject, arm_chain, build_scene

_SETTLE_S = 0.1
_POSITION_TOLERANCE_M = 0.005
_ROTATION_TOLERANCE_RAD = 0.05
_EDGE = 1e-4  # [m, rad] that rounding may put a start beyond the edge of the workspace
_NO_ROTATION = np.array([0.0, 0.0, 0.0, 1.0])


class World:
    """Physics at rest at ``arm.home_rad`` until a start is arranged; ``step_s`` is the time between set points."""

    def __init__(
        self, scene: Scene, arm: Arm, limits: SafetyLimits, gains: OperationalSpaceGains | None, step_s: float
    ) -> None:
        built = build_scene(scene, arm)
        self.physics = Physics(built)
        self.chain: SerialChain = arm_chain(built)
        self.safety = SafetyChain(limits)
        self.servo = Servo(self.chain, limits, gains, np.array(arm.home_rad), step_s)
        self.gripper = Gripper()
        self._things: dict[str, SceneObject] = {thing.observation: thing for thing in scene.objects}
        self._home, self._step_s = np.array(arm.home_rad), step_s
        self._object_qpos, self._object_mocap = built.object_qpos, built.object_mocap
        model, n = built.model, built.dof
        self._fingers_open = np.array(arm.finger_open_m)
        self._fingers_qpos = np.array([int(model.joint(name).qposadr[0]) for name in arm.fingers])
        self._fingers_ctrl = self.physics.data.ctrl[n : n + len(arm.fingers)]
        self._upright = np.array(arm.upright_quat_xyzw)
        self._pose, self._jacobian = np.empty(7), np.empty((6, n))

    # --- driving ----------------------------------------------------------------------------------------------------

    def advance(self, ticks: int) -> None:
        """Run ``ticks`` steps of physics under the servo."""
        self.physics.advance(self.servo.arrays, ticks)

    def drive_gripper(self, opening: float) -> None:
        """Set what the fingers head for during this step."""
        moved = self.gripper.compute({}, {"gripper_opening": np.array([opening])}, self._step_s)
        self._fingers_ctrl[:] = moved[0] * self._fingers_open

    def take_interventions(self) -> dict[str, int]:
        """Times that each layer of the safety chain changed something since the last call."""
        counts = self.safety.counts + self.servo.arrays.counts
        self.safety.counts[:] = 0
        self.servo.arrays.counts[:] = 0
        return {name: int(count) for name, count in zip(LAYERS, counts, strict=True) if count}

    # --- measuring --------------------------------------------------------------------------------------------------

    def measure(self, before: Arrays | None = None) -> dict[str, Array]:
        """The true state by observation name, float32.

        The TCP's quaternion is the one near the upright tool, that of an object the one near its last in ``before``,
        or near no rotation: streams of them have no jumps.
        """
        arm, data = self.physics.arm, self.physics.data
        solve_chain(self.servo.arrays.chain, arm.q, self._pose, self._jacobian)
        pose = self._pose.copy()
        pose[3:] = _near(pose[3:], self._upright)
        opening = float(np.mean(data.qpos[self._fingers_qpos] / self._fingers_open))
        state = {
            "arm0/joint_position": arm.q,
            "arm0/joint_velocity": arm.dq,
            "arm0/tcp_pose": pose,
            "arm0/tcp_velocity": self._jacobian @ arm.dq,
            "arm0/gripper_opening": np.array([min(max(opening, 0.0), 1.0)]),
        }
        for name, thing in self._things.items():
            if thing.marker:
                state[name] = data.mocap_pos[self._object_mocap[thing.name]]
                continue
            address = self._object_qpos[thing.name]
            x, y, z, qw, qx, qy, qz = data.qpos[address : address + 7]
            reference = _NO_ROTATION if before is None else before[name][3:]
            state[name] = np.array([x, y, z, *_near(np.array([qx, qy, qz, qw]), reference)])
        return {name: value.astype(np.float32) for name, value in state.items()}

    # --- starting ---------------------------------------------------------------------------------------------------

    def start(self, request: ResetRequest) -> None:
        """Put arm and objects where the request says, let them settle, latch onto the pose reached.

        Raises ResetError for a start that does not exist, which changes nothing, and for one that is not held: the arm
        then rests at home.
        """
        q, opening = self._start_position(request), float(_numbers("the gripper", [request.gripper_opening], 1)[0])
        opening = min(max(opening, 0.0), 1.0)
        placed = {name: self._checked_start(name, value) for name, value in request.simulator_state.items()}
        self._arrange(q, opening, placed)
        try:
            self._verify(self.chain.pose(q), placed)
        except ResetError:
            self._arrange(self._home, 1.0, {})
            raise

    def _arrange(self, q: Array, opening: float, placed: Arrays) -> None:
        data = self.physics.data
        mujoco.mj_resetData(self.physics.model, data)
        data.qpos[: len(q)] = q
        data.qpos[self._fingers_qpos] = opening * self._fingers_open
        for name, value in placed.items():
            self._place(self._things[name], value)
        self.physics.refresh()
        self.gripper.reset({"gripper_opening": np.array([opening])})
        self._fingers_ctrl[:] = opening * self._fingers_open
        self.servo.reset({"joint_position": q, "bias_force": self.physics.arm.bias.copy()})
        self.advance(self.settle_ticks)
        self._latch(opening)

    @property
    def settle_ticks(self) -> int:
        """Steps of physics that a start takes."""
        return round(_SETTLE_S / self.physics.timestep_s)

    def _latch(self, opening: float) -> None:
        pose = self.chain.pose(self.physics.arm.q)
        torque = self.servo.arrays.torque.copy()
        self.servo.reset({"joint_position": self.physics.arm.q, "tcp_pose": pose, "bias_force": torque})
        self.safety.reset(pose, opening)
        self.take_interventions()

    def _start_position(self, request: ResetRequest) -> Array:
        """Joint position [n] of the start, within the limits that hold while the arm is driven."""
        q = self._home
        if request.joint_position is not None:
            q = _numbers("the joint position", request.joint_position, self.chain.dof)
        elif request.tcp_pose is not None:
            pose = _pose("the TCP", request.tcp_pose)
            found = inverse_kinematics(self.chain, pose, self._home)
            if found is None:
                raise ResetError(
                    f"the arm cannot reach the start pose {pose.tolist()}", remedy="Choose one inside the workspace box"
                )
            q = found
        limits = self.safety.arrays
        if not ((limits.joint[0] <= q) & (q <= limits.joint[1])).all():
            raise ResetError(
                f"start at joint position {q.round(3).tolist()}",
                limit=f"{limits.joint[0].round(3).tolist()} to {limits.joint[1].round(3).tolist()} rad",
            )
        pose = self.chain.pose(q)
        if max(_apart(pose, self.safety.inside(pose))) > _EDGE:
            raise ResetError(
                f"the start has the TCP at {pose.round(3).tolist()}, outside of the workspace",
                limit=f"{limits.box[0].tolist()} to {limits.box[1].tolist()} m, {limits.tilt[0]} rad from upright",
            )
        return q

    def _checked_start(self, name: str, value: Array) -> Array:
        if name not in self._things:
            raise ResetError(f"the scene has no '{name}'", remedy=valid_choices(name, self._things))
        return _numbers(f"'{name}'", value, 3) if self._things[name].marker else _pose(f"'{name}'", value)

    def _place(self, thing: SceneObject, value: Array) -> None:
        if thing.marker:
            self.physics.data.mocap_pos[self._object_mocap[thing.name]] = value
            return
        qx, qy, qz, qw = value[3:]
        address = self._object_qpos[thing.name]
        self.physics.data.qpos[address : address + 7] = [*value[:3], qw, qx, qy, qz]

    def _verify(self, tcp_pose: Array, placed: Arrays) -> None:
        if not self.physics.finite():
            raise ResetError("physics is not finite at the start", remedy="Ask for a start that is free of contact")
        state = self.measure()
        for name, wanted in {"arm0/tcp_pose": tcp_pose, **placed}.items():
            distance, angle = _apart(state[name], wanted)
            if not (distance <= _POSITION_TOLERANCE_M and angle <= _ROTATION_TOLERANCE_RAD):
                raise ResetError(
                    f"'{name}' came to rest {distance * 1e3:.1f} mm and {angle:.3f} rad from its start",
                    limit=f"{_POSITION_TOLERANCE_M * 1e3:.0f} mm, {_ROTATION_TOLERANCE_RAD} rad",
                    remedy="Ask for a start that is free of contact and at rest",
                )


def observation_specs(scene: Scene, arm: Arm) -> dict[str, ArraySpec]:
    """What ``World.measure`` returns."""
    joints = arm.joints
    specs = {
        "arm0/joint_position": ArraySpec((len(joints),), unit="rad", names=joints),
        "arm0/joint_velocity": ArraySpec((len(joints),), unit="rad/s", names=joints),
        "arm0/tcp_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
        "arm0/tcp_velocity": ArraySpec((6,), unit="m/s, rad/s", frame="base"),
        "arm0/gripper_opening": ArraySpec((1,), unit="opening"),
    }
    for thing in scene.objects:
        shape, unit = ((3,), "m") if thing.marker else ((7,), "m, quat_xyzw")
        specs[thing.observation] = ArraySpec(shape, unit=unit, frame="base", privileged=True)
    return specs


def _near(quat: Array, reference: Array) -> Array:
    return -quat if quat @ reference < 0.0 else quat


def _numbers(what: str, value: object, size: int) -> Array:
    """A part of a start as float64 [size]. Raises ResetError."""
    try:
        numbers = np.array(value, dtype=np.float64)
        if numbers.shape != (size,) or not np.isfinite(numbers).all():
            raise ValueError("wrong shape or not finite")
    except (TypeError, ValueError) as error:
        raise ResetError(f"start of {what} is {value}", limit=f"{size} finite numbers") from error
    return numbers


def _pose(what: str, value: object) -> Array:
    """The start of something with a pose [7], its quaternion of unit length. Raises ResetError."""
    pose = _numbers(what, value, 7)
    if np.linalg.norm(pose[3:]) < 1e-6:
        raise ResetError(f"start of {what} is {value}", limit="a quaternion with a direction")
    pose[3:] = quat_xyzw_normalize(pose[3:])
    return pose


def _apart(pose: Array, other: Array) -> tuple[float, float]:
    """Distance [m] of two positions or poses, and angle [rad] of the poses."""
    angle = float(geodesic_angle(pose[3:], other[3:])) if len(other) == 7 else 0.0
    return float(np.linalg.norm(pose[:3] - other[:3])), angle
