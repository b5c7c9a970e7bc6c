"""A simulated arm behind the Robot contract: waiting on its clock advances physics, every command passes the safety
chain, the arbiter sits behind ``command`` as it does in the bridge."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from controllers.arbiter import Arbiter, Arbitration
from controllers.law import Gains
from controllers.servo import Servo
from robot_rl.errors import (
    CommandRefusedError,
    ConfigError,
    ResetError,
    RobotConnectionError,
    SimulationDivergedError,
)
from robot_rl.robots.target_check import checked_targets
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    CommandReport,
    EnvSpec,
    Observation,
    Phase,
    ResetRequest,
    TargetChunk,
)
from sim.arms.arm import Arm
from sim.arms.panda import panda
from sim.cameras import CameraRig, SceneRenderer
from sim.measurement import observation_specs
from sim.overview import Overview
from sim.physics import Physics, ticks_per_step
from sim.reset import arrange
from sim.scene import TIMESTEP_S, Scene, build_scene
from sim.world import World

TCP, GRIPPER = "arm0/tcp", "arm0/gripper"
_DUMPED_STEPS = 40
_OPEN_LOOP_S = 0.5
_HOLD = Arbitration(Phase.HOLD, None, None, None)


class SimulationClock:
    """Time of one simulated robot; waiting is stepping."""

    stepped = True

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
    """One arm (a Panda unless given) in a scene, its TCP kept in the box from ``box_lower_m`` to ``box_upper_m``, which
    lies in the arm's own.

    ``limits`` tightens safety limits by name, ``gains`` choose the law and set it, ``max_open_loop_s``
    (at most 0.5) bounds how far past its arrival a plan runs, ``dump_folder`` takes the last states when physics
    diverges.
    """

    def __init__(
        self,
        scene: Scene,
        arm: Arm | None = None,
        cameras: CameraRig | None = None,
        step_rate_hz: float = 20.0,
        box_lower_m: Sequence[float] = (0.25, -0.35, 0.005),
        box_upper_m: Sequence[float] = (0.75, 0.35, 0.5),
        limits: Mapping[str, Any] | None = None,
        gains: Gains | None = None,
        max_open_loop_s: float = _OPEN_LOOP_S,
        dump_folder: str | None = None,
    ) -> None:
        self._arm, self._scene, self._rig, self._gains = arm or panda(), scene, cameras or CameraRig(), gains
        self._tick_ns, self._ticks_per_step = round(TIMESTEP_S * 1e9), ticks_per_step(step_rate_hz)
        self._step_s = self._ticks_per_step * TIMESTEP_S
        if not self._step_s <= max_open_loop_s <= _OPEN_LOOP_S:
            raise ConfigError(
                f"a plan may run for {max_open_loop_s} s", limit=f"one step of {self._step_s} s to {_OPEN_LOOP_S} s"
            )
        self._limits = self._arm.safety_limits(box_lower_m, box_upper_m, limits or {})
        self._spec = self._describe(step_rate_hz)
        self._arbiter = Arbiter(round(max_open_loop_s * step_rate_hz))
        self._switch = threading.RLock()  # of the mode and of who commands: stop comes from any thread
        self._dump_folder = dump_folder
        self._clock = SimulationClock(self)
        self._world: World | None = None
        self._renderer: SceneRenderer | None = None
        self._overview: Overview | None = None
        self._ticks = self._tick = self._step = 0  # of the clock's life, of the running step, of the episode
        self._mode, self._verdict, self._stops = "stopped", _HOLD, 0
        self._wish: dict[str, Array] = {}
        self._observation: Observation | None = None
        self._past: deque[tuple[Array, Array, Array]] = deque(maxlen=_DUMPED_STEPS)

    @property
    def clock(self) -> SimulationClock:
        return self._clock

    @property
    def time_ns(self) -> int:
        """Simulated time [ns]."""
        return self._ticks * self._tick_ns

    @property
    def physics(self) -> Physics:
        """The simulated world, for viewers and disturbances. Raises RobotConnectionError before connect."""
        return self._connected().physics

    @property
    def servo(self) -> Servo:
        """The law that drives the arm. Raises RobotConnectionError before connect."""
        return self._connected().servo

    @property
    def renderer(self) -> SceneRenderer | None:
        """What draws the cameras; None without cameras or before connect."""
        return self._renderer

    def render(self) -> Array:
        """The scene from outside, RGB uint8 [360, 480, 3], whatever the cameras. Raises RobotError without OpenGL."""
        if self._overview is None:
            self._overview = Overview(self._scene, self._arm)
        return self._overview.draw(self.physics)

    def connect(self) -> EnvSpec:
        """Compile scene and laws, once; the arm stands at home, stopped. Raises ConfigError when assets lack."""
        if self._world is None:
            world = World(self._scene, self._arm, self._limits, self._gains, self._step_s)
            arrange(world, ResetRequest())
            if self._rig.cameras:
                dressed = build_scene(self._scene, self._arm, self._rig.cameras, look=self._rig.profile)
                self._renderer = SceneRenderer(dressed.model, self._rig)
            self._world, self._tick, self._step = world, 0, 0
        return self._spec

    def read(self) -> Observation:
        """The observation that opened the running step, with the mode of now."""
        if self._observation is None:
            self._observation = self._observe(None)
        if self._observation.mode != self._mode:  # stopped since
            self._observation = replace(self._observation, mode=self._mode)
        return self._observation

    def command(self, chunk: TargetChunk) -> None:
        """Replace the plan of the chunk's source from the next step on. Raises CommandRefusedError."""
        checked = checked_targets(chunk, self._spec.action)
        with self._switch:
            if self._mode != "tracking":
                raise CommandRefusedError(f"the robot is in mode '{self._mode}'", remedy="Reset it first")
            self._arbiter.submit(checked, self._step)

    def release_human(self) -> None:
        """The person lets go: the human channel falls silent at once, the policy's plan takes over."""
        self._arbiter.withdraw(Phase.HUMAN)

    def reset(self, request: ResetRequest) -> Observation:
        """Arrange the start and let it come to rest. Raises ResetError, also when stopped meanwhile; the arm then rests
        and commands are refused."""
        world = self._connected()
        with self._switch:
            stops, self._mode = self._stops, "stopped"
            self._arbiter.reset()
        self._past.clear()
        self._observation, self._verdict, self._tick, self._step = None, _HOLD, 0, 0
        self._ticks += round(arrange(world, request) / TIMESTEP_S)
        with self._switch:
            if self._stops != stops:
                raise ResetError("the robot was stopped during the reset", remedy="Reset it again when it may move")
            self._mode = "tracking"
        pose, opening = world.safety.last
        latched = {TCP: pose, GRIPPER: np.array([opening])}
        self._observation = self._observe(CommandReport(-1, Phase.RESET, latched, latched))
        return self._observation

    def stop(self) -> None:
        """Brake to hold from the next step on; commands are refused until the next reset. From any thread."""
        with self._switch:
            self._stops += 1
            self._arbiter.reset()
            if not self._mode.startswith("fault"):
                self._mode = "stopped"

    def close(self) -> None:
        """Stop and release world and renderer."""
        self.stop()
        for drawing in (self._renderer, self._overview):
            if drawing is not None:
                drawing.close()
        self._world = self._renderer = self._overview = self._observation = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- time -------------------------------------------------------------------------------------------------------

    def advance_to(self, stamp_ns: int) -> None:
        """Run physics until ``stamp_ns``, step by step; with a fault only time goes on. Raises
        SimulationDivergedError once physics is not finite."""
        world = self._connected()
        while self.time_ns < stamp_ns:
            wanted = -(-(stamp_ns - self.time_ns) // self._tick_ns)
            if self._mode.startswith("fault"):
                self._ticks += wanted
                return
            if self._tick == 0:
                self._begin_step(world)
            ticks = min(self._ticks_per_step - self._tick, wanted)
            world.advance(ticks)
            self._ticks += ticks
            self._tick = (self._tick + ticks) % self._ticks_per_step
            if self._tick == 0:
                self._end_step(world)

    def _begin_step(self, world: World) -> None:
        """Arbitrate and hand the checked set point to servo and gripper."""
        pose, opening = world.safety.last
        verdict, before = self._arbiter.decide(self._step), self._verdict
        if verdict.source is not before.source:
            world.safety.join()
        self._verdict = verdict
        self._wish = {TCP: pose, GRIPPER: np.array([opening]), **(verdict.row or {})}
        target, opening = world.safety.set_point(self._wish[TCP], float(self._wish[GRIPPER][0]))
        following = None if verdict.following is None else verdict.following.get(TCP)
        world.servo.begin(target, following, moving=verdict.row is not None)
        world.drive_gripper(opening)
        data = world.physics.data
        self._past.append((data.qpos.copy(), data.qvel.copy(), target))

    def _end_step(self, world: World) -> None:
        if not world.physics.finite():
            self._diverged(world)
        verdict, reached = self._verdict, world.servo.arrays.reference.copy()
        world.safety.latch(reached)
        report = CommandReport(
            self._step, verdict.source, self._wish, {TCP: reached, GRIPPER: np.array([world.gripper.opening])},
            human=verdict.human, valid=verdict.row is not None, interventions=world.take_interventions(),
        )  # fmt: skip
        self._step += 1
        self._observation = self._observe(report)

    def _diverged(self, world: World) -> None:
        """Write the last states once and refuse to go on."""
        folder = Path(self._dump_folder or tempfile.mkdtemp(prefix="robot_rl_diverged_"))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"diverged_{self._ticks}.npz"
        data, past = world.physics.data, list(self._past)
        np.savez(
            path, qpos=[row[0] for row in past], qvel=[row[1] for row in past], target=[row[2] for row in past],
            qpos_now=data.qpos, qvel_now=data.qvel,
        )  # fmt: skip
        with self._switch:
            self._mode = "fault: simulation diverged"
        raise SimulationDivergedError(
            f"physics is not finite after step {self._step}",
            remedy=f"The last {len(past)} states are in {path}; reset to go on",
        )

    # --- description and measurement --------------------------------------------------------------------------------

    def _connected(self) -> World:
        if self._world is None:
            raise RobotConnectionError("the simulated robot is not connected", remedy="Call connect() first")
        return self._world

    def _observe(self, report: CommandReport | None) -> Observation:
        world = self._connected()
        before = self._observation.state if self._observation is not None and self._step > 0 else None
        frames = {} if self._renderer is None else self._renderer.frames(world.physics.data, self.time_ns)
        return Observation(self._step, self.time_ns, world.measure(before), frames, report, self._mode)

    def _describe(self, step_rate_hz: float) -> EnvSpec:
        box = self._limits.box_lower_m, self._limits.box_upper_m
        tcp = ActionPart(
            TCP, ActionKind.TCP_POSE, (*box[0], -1, -1, -1, -1), (*box[1], 1, 1, 1, 1), "m, quat_xyzw", "base"
        )
        return EnvSpec(
            robot=f"sim_{self._arm.name}",
            step_rate_hz=float(step_rate_hz),
            observation=observation_specs(self._scene, self._arm),
            action=ActionSpec((tcp, ActionPart(GRIPPER, ActionKind.GRIPPER, (0,), (1,), "opening"))),
            cameras=self._rig.specs(step_rate_hz),
            limits=self._limits.scalars(),
        )
