"""A simulated arm behind the Robot contract: waiting on its clock advances physics, every command passes the safety
chain, the arbiter sits behind ``command`` as it does in the bridge."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import mujoco
import numpy as np

from controllers.arbiter import Arbiter, Arbitration
from controllers.gripper import Gripper
from controllers.inverse_kinematics import inverse_kinematics
from controllers.kinematics import SerialChain, solve_chain
from controllers.operational_space import OperationalSpaceGains
from controllers.safety import LAYERS, SafetyChain, SafetyLimits
from controllers.servo import Servo
from robot_rl.errors import (
    CommandRefusedError,
    ConfigError,
    ResetError,
    RobotConnectionError,
    SimulationDivergedError,
    valid_choices,
)
from robot_rl.geometry import geodesic_angle, quat_xyzw_normalize
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    Arrays,
    ArraySpec,
    CommandReport,
    EnvSpec,
    Observation,
    Phase,
    ResetRequest,
    TargetChunk,
)
from sim.arms import find_arm
from sim.cameras import CameraRig, SceneRenderer
from sim.physics import Physics
from sim.scene import TIMESTEP_S, Scene, SceneModel, build_scene, chain_table

TCP, GRIPPER = "arm0/tcp", "arm0/gripper"
_FAR_M = 5.0  # a position further away than this was not given in metres
_SETTLE_S = 0.1
_POSITION_TOLERANCE_M = 0.005
_ROTATION_TOLERANCE_RAD = 0.05
_DUMPED_STEPS = 40


class SimulationClock:
    """Time of one simulated robot; waiting is stepping."""

    def __init__(self, robot: MujocoRobot) -> None:
        self._robot = robot

    def now_ns(self) -> int:
        """Simulated time [ns]; runs on over resets."""
        return self._robot.time_ns

    def wait_until(self, stamp_ns: int) -> int:
        """Advance physics until ``stamp_ns``. Raises SimulationDivergedError."""
        self._robot.advance_to(stamp_ns)
        return self._robot.time_ns


class MujocoRobot:
    """One arm in a scene. ``box_lower_m`` and ``box_upper_m`` bound the TCP; ``limits`` tightens safety limits by
    name; ``gains`` are those of operational-space control; ``max_open_loop_s`` bounds how long a plan runs on."""

    def __init__(
        self,
        scene: Scene,
        arm: str = "panda",
        cameras: CameraRig | None = None,
        step_rate_hz: float = 20.0,
        box_lower_m: tuple[float, float, float] = (0.25, -0.35, 0.005),
        box_upper_m: tuple[float, float, float] = (0.75, 0.35, 0.5),
        limits: Mapping[str, Any] | None = None,
        gains: OperationalSpaceGains | None = None,
        max_open_loop_s: float = 0.5,
        dump_folder: str | None = None,
    ) -> None:
        self._arm, self._scene, self._rig = find_arm(arm), scene, cameras or CameraRig()
        self._ticks_per_step = round(1.0 / (step_rate_hz * TIMESTEP_S))
        if abs(self._ticks_per_step * TIMESTEP_S * step_rate_hz - 1.0) > 1e-9:
            raise ConfigError(
                f"a step at {step_rate_hz} Hz is no whole number of physics steps", limit=f"{TIMESTEP_S} s each"
            )
        self._tick_ns, self._step_rate_hz = round(TIMESTEP_S * 1e9), float(step_rate_hz)
        self._box = (tuple(box_lower_m), tuple(box_upper_m))
        self._tighter, self._gains = dict(limits or {}), gains
        self._arbiter = Arbiter(round(max_open_loop_s * step_rate_hz))
        self._gripper = Gripper()
        self._dump_folder = dump_folder
        self._clock = SimulationClock(self)
        self._connected: _Connected | None = None
        self._ticks = self._tick = self._step = 0
        self._mode = "stopped"
        self._verdict = Arbitration(Phase.RESET, None, None, None)
        self._wish: dict[str, Array] = {}
        self._observation: Observation | None = None
        self._past: deque[tuple[Array, Array, Array]] = deque(maxlen=_DUMPED_STEPS)

    # --- contract ---------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> SimulationClock:
        return self._clock

    @property
    def time_ns(self) -> int:
        return self._ticks * self._tick_ns

    def connect(self) -> EnvSpec:
        """Compile scene and kernels, once; the arm stands at home, stopped. Raises ConfigError when assets lack."""
        if self._connected is None:
            self._connected = _Connected(self)
            self._place(ResetRequest())
        return self._connected.spec

    def read(self) -> Observation:
        """The observation that opened the running step."""
        self._parts()
        if self._observation is None:
            self._observation = self._observe(None)
        return self._observation

    def command(self, chunk: TargetChunk) -> None:
        """Replace the plan of the chunk's source from the next step on. Raises CommandRefusedError."""
        if self._mode != "tracking":
            raise CommandRefusedError(f"the robot is in mode '{self._mode}'", remedy="Reset it first")
        self._arbiter.submit(_checked(chunk), self._step)

    def release_human(self) -> None:
        """The person lets go: the human channel falls silent at once, the policy's plan takes over."""
        self._arbiter.withdraw(Phase.HUMAN)

    def reset(self, request: ResetRequest) -> Observation:
        """Put arm and objects where the request says and let them come to rest. Raises ResetError."""
        self._parts()
        self._arbiter.reset()
        self._past.clear()
        self._mode, self._tick, self._step = "resetting", 0, 0
        try:
            self._place(request)
            self._verify(request)
        except BaseException:
            self._mode = "stopped"
            raise
        self._mode = "tracking"
        self._observation = self._observe(self._latched_report())
        return self._observation

    def stop(self) -> None:
        """Brake to hold; commands are refused until the next reset."""
        if self._mode.startswith("fault"):
            return
        self._arbiter.reset()
        self._mode = "stopped"

    def close(self) -> None:
        """Stop and release the renderer."""
        self.stop()
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def physics(self) -> Physics:
        """The simulated world, for experts, viewers and disturbances. Raises RobotConnectionError before connect."""
        return self._parts().physics

    # --- time -------------------------------------------------------------------------------------------------------

    def advance_to(self, stamp_ns: int) -> None:
        """Run physics until ``stamp_ns``, step by step. Raises SimulationDivergedError once it is not finite."""
        parts = self._parts()
        if self._mode.startswith("fault"):
            self._ticks = max(self._ticks, -(-stamp_ns // self._tick_ns))
            return
        while self.time_ns < stamp_ns:
            if self._tick == 0:
                self._begin_step(parts)
            wanted = -(-(stamp_ns - self.time_ns) // self._tick_ns)
            ticks = min(self._ticks_per_step - self._tick, wanted)
            parts.physics.advance(parts.servo.arrays, ticks)
            self._ticks += ticks
            self._tick = (self._tick + ticks) % self._ticks_per_step
            if self._tick == 0:
                self._end_step(parts)

    def _begin_step(self, parts: _Connected) -> None:
        """Arbitrate and hand the checked set point to the servo."""
        pose, opening = parts.safety.last
        verdict = self._arbiter.decide(self._step)
        row, following = verdict.row or {}, verdict.following or {}
        self._wish = {TCP: row.get(TCP, pose), GRIPPER: row.get(GRIPPER, np.array([opening]))}
        self._verdict = verdict
        target, opening = parts.safety.set_point(self._wish[TCP], float(self._wish[GRIPPER][0]))
        parts.servo.begin(target, following.get(TCP), moving=verdict.row is not None)
        self._drive_gripper(parts, opening)
        data = parts.physics.data
        self._past.append((data.qpos.copy(), data.qvel.copy(), target))

    def _drive_gripper(self, parts: _Connected, opening: float) -> None:
        moved = self._gripper.compute({}, {"gripper_opening": np.array([opening])}, 1.0 / self._step_rate_hz)
        parts.fingers_ctrl[:] = moved[0] * parts.fingers_open

    def _end_step(self, parts: _Connected) -> None:
        if not parts.physics.finite():
            self._diverged(parts)
        reference = parts.servo.arrays.reference.copy()
        opening = np.array([self._gripper.opening])
        counts = parts.take_counts()
        parts.safety.latch(reference)
        report = CommandReport(
            self._step, self._verdict.source, self._wish, {TCP: reference, GRIPPER: opening},
            human=self._verdict.human, valid=self._verdict.row is not None, interventions=counts,
        )  # fmt: skip
        self._step += 1
        self._observation = self._observe(report)

    def _diverged(self, parts: _Connected) -> None:
        folder = Path(self._dump_folder or tempfile.mkdtemp(prefix="robot_rl_diverged_"))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"diverged_{self._ticks}.npz"
        past = list(self._past)
        np.savez(
            path, qpos=[p[0] for p in past], qvel=[p[1] for p in past], target=[p[2] for p in past],
            qpos_now=parts.physics.data.qpos, qvel_now=parts.physics.data.qvel,
        )  # fmt: skip
        self._mode = "fault: simulation diverged"
        raise SimulationDivergedError(
            f"physics is not finite after step {self._step}",
            remedy=f"The last {len(past)} states are in {path}; reset to go on",
        )

    # --- state ------------------------------------------------------------------------------------------------------

    def _parts(self) -> _Connected:
        if self._connected is None:
            raise RobotConnectionError("the simulated robot is not connected", remedy="Call connect() first")
        return self._connected

    def _observe(self, report: CommandReport | None) -> Observation:
        parts = self._parts()
        state = parts.measure(None if self._observation is None or self._step == 0 else self._observation.state)
        frames = {} if parts.renderer is None else parts.renderer.frames(parts.physics.data, self.time_ns)
        return Observation(self._step, self.time_ns, state, frames, report, self._mode)

    def _latched_report(self) -> CommandReport:
        pose, _ = self._parts().safety.last
        latched = {TCP: pose, GRIPPER: np.array([self._gripper.opening])}
        return CommandReport(-1, Phase.RESET, latched, latched)

    def _place(self, request: ResetRequest) -> None:
        """Write the start into the simulator and let it settle; the pose reached becomes the set point."""
        parts = self._parts()
        physics, data = parts.physics, parts.physics.data
        q = self._start_position(parts, request)
        opening = float(np.clip(request.gripper_opening, 0.0, 1.0))
        mujoco.mj_resetData(physics.model, data)
        data.qpos[: len(q)] = q
        data.qpos[parts.fingers_qpos] = opening * parts.fingers_open
        parts.place_objects(request.simulator_state)
        physics.refresh()
        self._gripper.reset({"gripper_opening": np.array([opening])})
        parts.fingers_ctrl[:] = opening * parts.fingers_open
        parts.servo.reset({"joint_position": q, "bias_force": physics.arm.bias.copy()})
        physics.advance(parts.servo.arrays, round(_SETTLE_S / TIMESTEP_S))
        self._ticks += round(_SETTLE_S / TIMESTEP_S)
        pose = parts.chain.pose(physics.arm.q)
        parts.servo.reset({"joint_position": q, "tcp_pose": pose, "bias_force": parts.servo.arrays.torque.copy()})
        parts.safety.reset(pose, opening)
        parts.take_counts()

    def _start_position(self, parts: _Connected, request: ResetRequest) -> Array:
        chain = parts.chain
        if request.joint_position is not None:
            q = np.array(request.joint_position, dtype=np.float64)
            if q.shape != (chain.dof,) or not ((chain.lower <= q) & (q <= chain.upper)).all():
                raise ResetError(
                    f"start at joint position {q.tolist()}",
                    limit=f"{chain.lower.round(3).tolist()} to {chain.upper.round(3).tolist()} rad",
                )
            return q
        home = np.array(self._arm.home_rad)
        if request.tcp_pose is None:
            return home
        pose = np.array(request.tcp_pose, dtype=np.float64)
        found = inverse_kinematics(chain, pose, home)
        if found is None:
            raise ResetError(
                f"the arm cannot reach the start pose {pose.tolist()}", remedy="Choose one inside the workspace box"
            )
        return found

    def _verify(self, request: ResetRequest) -> None:
        parts = self._parts()
        if not parts.physics.finite():
            self._diverged(parts)
        state = parts.measure(None)
        wanted = parts.chain.pose(self._start_position(parts, request))
        _verify_pose("the TCP", state["arm0/tcp_pose"], wanted)
        for name, value in request.simulator_state.items():
            _verify_pose(f"'{name}'", state[name], np.asarray(value, dtype=np.float64))


class _Connected:
    """What exists between connect and close: the world, the laws on it, the renderer."""

    def __init__(self, robot: MujocoRobot) -> None:
        arm, scene, rig = robot._arm, robot._scene, robot._rig
        self.built: SceneModel = build_scene(scene, arm)
        self.physics = Physics(self.built)
        self.chain = SerialChain.from_table(*chain_table(self.built))  # type: ignore[arg-type]
        limits = SafetyLimits(
            box_lower_m=robot._box[0], box_upper_m=robot._box[1], upright_quat_xyzw=arm.upright_quat_xyzw,
            joint_lower_rad=tuple(self.chain.lower), joint_upper_rad=tuple(self.chain.upper),
            torque_n_m=arm.torque_n_m,
        ).tightened(**robot._tighter)  # fmt: skip
        self.safety = SafetyChain(limits)
        self.servo = Servo(self.chain, limits, robot._gains, np.array(arm.home_rad), 1.0 / robot._step_rate_hz)
        model = self.physics.model
        n = self.built.dof
        self.fingers_open = np.array(arm.finger_open_m)
        self.fingers_qpos = np.array([int(model.joint(name).qposadr[0]) for name in arm.fingers])
        self.fingers_ctrl = self.physics.data.ctrl[n : n + len(arm.fingers)]
        self._upright = np.array(arm.upright_quat_xyzw)
        self._pose, self._jacobian = np.empty(7), np.empty((6, n))
        self.spec = _spec(robot, limits)
        self.renderer: SceneRenderer | None = None
        if rig.cameras:
            self.renderer = SceneRenderer(build_scene(scene, arm, rig.cameras, visual=True).model, rig)

    def close(self) -> None:
        if self.renderer is not None:
            self.renderer.close()

    def take_counts(self) -> dict[str, int]:
        counts = self.safety.counts + self.servo.arrays.counts
        self.safety.counts[:] = 0
        self.servo.arrays.counts[:] = 0
        return {name: int(count) for name, count in zip(LAYERS, counts, strict=True) if count}

    def measure(self, before: Arrays | None) -> dict[str, Array]:
        """The true state by observation name, float32; quaternions near the upright one, and of objects near the
        last."""
        arm, data = self.physics.arm, self.physics.data
        solve_chain(self.built_chain, arm.q, self._pose, self._jacobian)
        pose = self._pose.copy()
        if pose[3:] @ self._upright < 0.0:
            pose[3:] *= -1.0
        opening = float(np.mean(data.qpos[self.fingers_qpos] / self.fingers_open))
        state = {
            "arm0/joint_position": arm.q,
            "arm0/joint_velocity": arm.dq,
            "arm0/tcp_pose": pose,
            "arm0/tcp_velocity": self._jacobian @ arm.dq,
            "arm0/gripper_opening": np.array([min(max(opening, 0.0), 1.0)]),
        }
        for name, address in self.built.object_qpos.items():
            state[f"object/{name}_pose"] = _object_pose(data.qpos[address : address + 7], name, before)
        for name, index in self.built.object_mocap.items():
            state[f"object/{name}_position"] = data.mocap_pos[index]
        return {name: value.astype(np.float32) for name, value in state.items()}

    @property
    def built_chain(self) -> Any:
        return self.servo.arrays.chain

    def place_objects(self, simulator_state: Arrays) -> None:
        """Write requested poses [7] and positions [3]. Raises ResetError for names and values that do not fit."""
        known = {thing.observation: thing for thing in self.built.scene.objects}
        for name, value in simulator_state.items():
            if name not in known:
                raise ResetError(f"the scene has no '{name}'", remedy=valid_choices(name, known))
            wanted = 3 if known[name].marker else 7
            value = np.asarray(value, dtype=np.float64)
            if value.shape != (wanted,) or not np.isfinite(value).all():
                raise ResetError(f"start of '{name}' is {value.tolist()}", limit=f"{wanted} finite numbers")
            thing = known[name].name
            if known[name].marker:
                self.physics.data.mocap_pos[self.built.object_mocap[thing]] = value
                continue
            quat = quat_xyzw_normalize(value[3:])
            address = self.built.object_qpos[thing]
            self.physics.data.qpos[address : address + 7] = [*value[:3], quat[3], *quat[:3]]


def _object_pose(qpos: Array, name: str, before: Arrays | None) -> Array:
    """MuJoCo's (x y z, qw qx qy qz) as a pose, its quaternion near the last one, or near no rotation."""
    quat = np.array([qpos[4], qpos[5], qpos[6], qpos[3]])
    reference = before[f"object/{name}_pose"][3:] if before is not None else np.array([0.0, 0.0, 0.0, 1.0])
    if quat @ reference < 0.0:
        quat = -quat
    return np.concatenate((qpos[:3], quat))


def _verify_pose(what: str, reached: Array, wanted: Array) -> None:
    distance = float(np.linalg.norm(reached[:3] - wanted[:3]))
    angle = float(geodesic_angle(reached[3:], quat_xyzw_normalize(wanted[3:]))) if len(wanted) == 7 else 0.0
    if not (distance <= _POSITION_TOLERANCE_M and angle <= _ROTATION_TOLERANCE_RAD):
        raise ResetError(
            f"{what} came to rest {distance * 1e3:.1f} mm and {angle:.3f} rad from the start that was asked for",
            limit=f"{_POSITION_TOLERANCE_M * 1e3:.0f} mm, {_ROTATION_TOLERANCE_RAD} rad",
            remedy="Ask for a start that is free of contact and at rest",
        )


def _checked(chunk: TargetChunk) -> TargetChunk:
    """The chunk in float64 with unit quaternions. Raises CommandRefusedError saying which part is wrong."""
    sizes = {TCP: 7, GRIPPER: 1}
    if chunk.frame not in ("", "base"):
        raise CommandRefusedError(f"targets in frame '{chunk.frame}'", remedy="The robot takes frame 'base'")
    if chunk.length == 0:
        raise CommandRefusedError("the plan has no rows left", remedy="Send at least the set point of this step")
    targets = {}
    for name, value in chunk.targets.items():
        if name not in sizes:
            raise CommandRefusedError(f"the robot takes no '{name}'", remedy=valid_choices(name, sizes))
        rows = np.array(value, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != sizes[name]:
            raise CommandRefusedError(f"'{name}' has shape {list(rows.shape)}", limit=f"[H, {sizes[name]}]")
        if not np.isfinite(rows).all():
            raise CommandRefusedError(f"'{name}' holds a value that is not finite", remedy="Check the policy's output")
        if name == TCP:
            _check_poses(rows)
        targets[name] = rows
    return TargetChunk(targets, chunk.first_step, chunk.stamp_ns, chunk.source, chunk.frame)


def _check_poses(rows: Array) -> None:
    if np.abs(rows[:, :3]).max() > _FAR_M:
        raise CommandRefusedError(
            f"a TCP target {np.abs(rows[:, :3]).max():.1f} m away",
            limit=f"{_FAR_M} m",
            remedy="Positions are in metres",
        )
    norms = np.linalg.norm(rows[:, 3:], axis=1)
    if np.abs(norms - 1.0).max() > 0.01:
        raise CommandRefusedError(f"a TCP quaternion of length {norms.max():.3f}", limit="1 within 0.01")
    rows[:, 3:] /= norms[:, None]


def _spec(robot: MujocoRobot, limits: SafetyLimits) -> EnvSpec:
    joints = robot._arm.joints
    tcp = ActionPart(
        TCP, ActionKind.TCP_POSE, (*limits.box_lower_m, -1, -1, -1, -1), (*limits.box_upper_m, 1, 1, 1, 1),
        "m, quat_xyzw", "base",
    )  # fmt: skip
    observation = {
        "arm0/joint_position": ArraySpec((len(joints),), unit="rad", names=joints),
        "arm0/joint_velocity": ArraySpec((len(joints),), unit="rad/s", names=joints),
        "arm0/tcp_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
        "arm0/tcp_velocity": ArraySpec((6,), unit="m/s, rad/s", frame="base"),
        "arm0/gripper_opening": ArraySpec((1,), unit="opening"),
    }
    for thing in robot._scene.objects:
        shape, unit = ((3,), "m") if thing.marker else ((7,), "m, quat_xyzw")
        observation[thing.observation] = ArraySpec(shape, unit=unit, frame="base", privileged=True)
    return EnvSpec(
        robot=f"sim_{robot._arm.name}", step_rate_hz=robot._step_rate_hz, observation=observation,
        action=ActionSpec((tcp, ActionPart(GRIPPER, ActionKind.GRIPPER, (0,), (1,), "opening"))),
        cameras=robot._rig.specs(robot._step_rate_hz), limits=limits.scalars(),
    )  # fmt: skip
