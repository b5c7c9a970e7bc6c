"""A simulated arm behind the Robot contract: waiting on its clock advances physics, every command passes the safety
chain, the arbiter sits behind ``command`` as it does in the bridge."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from controllers.arbiter import Arbiter
from controllers.joint_servo import JointServo
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
from sim.control_step import GRIPPER
from sim.disturbances import Disturbances
from sim.measurement import observation_specs
from sim.overview import Overview
from sim.physics import Physics, ticks_per_step
from sim.randomization import Randomization
from sim.scene import TIMESTEP_S, Scene
from sim.simulation import TICK_NS, Outfit, Simulation
from sim.world import JOINTS, TCP, arm_part

_OPEN_LOOP_S = 0.5
_HUMAN_S = 0.25  # the stream of a person is taken for silent after it
_DIVERGED = "fault: simulation diverged"


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

    ``limits`` tightens safety limits by name, ``gains`` choose the law and set it (one that follows joints takes the
    part arm0/joints, others arm0/tcp), ``max_open_loop_s`` (at most 0.5) bounds how far past its arrival a plan runs,
    ``dump_folder`` takes the last states when physics diverges.
    ``randomization`` and ``disturbances`` make every episode another, by the seed of its reset.
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
        randomization: Randomization | None = None,
        disturbances: Disturbances | None = None,
    ) -> None:
        self._arm, self._scene = arm or panda(), scene
        self._ticks_per_step = ticks_per_step(step_rate_hz)
        step_s = self._ticks_per_step * TIMESTEP_S
        if not step_s <= max_open_loop_s <= _OPEN_LOOP_S:
            raise ConfigError(
                f"a plan may run for {max_open_loop_s} s", limit=f"one step of {step_s} s to {_OPEN_LOOP_S} s"
            )
        self._outfit = Outfit(
            self._arm.safety_limits(box_lower_m, box_upper_m, limits or {}), gains, cameras or CameraRig(),
            randomization or Randomization(), disturbances or Disturbances(), dump_folder,
        )  # fmt: skip
        self._spec = self._describe(step_rate_hz)
        human = int(min(max_open_loop_s, _HUMAN_S) * step_rate_hz + 1e-9)
        self._arbiter = Arbiter(round(max_open_loop_s * step_rate_hz), max(human, 1))
        self._switch = threading.RLock()  # of the mode and of who commands: stop comes from any thread
        self._clock = SimulationClock(self)
        self._simulation: Simulation | None = None
        self._overview: Overview | None = None
        self._seed = 0  # of the running episode
        self._ticks = 0  # of the clock's life
        self._mode, self._stops = "stopped", 0
        self._observation: Observation | None = None

    @property
    def clock(self) -> SimulationClock:
        return self._clock

    @property
    def time_ns(self) -> int:
        """Simulated time [ns]."""
        return self._ticks * TICK_NS

    @property
    def physics(self) -> Physics:
        """The simulated world, for viewers and disturbances. Raises RobotConnectionError before connect."""
        return self._connected().world.physics

    @property
    def servo(self) -> Servo | JointServo:
        """The law that drives the arm. Raises RobotConnectionError before connect."""
        return self._connected().world.servo

    @property
    def renderer(self) -> SceneRenderer | None:
        """What draws the cameras; None without cameras or before connect."""
        return None if self._simulation is None else self._simulation.renderer

    def render(self) -> Array:
        """The scene from outside, RGB uint8 [360, 480, 3], whatever the cameras. Raises RobotError without OpenGL."""
        if self._overview is None:
            self._overview = Overview(self._scene, self._arm, randomization=self._outfit.randomization)
            self._overview.vary(self._seed)
        return self._overview.draw(self.physics)

    def connect(self) -> EnvSpec:
        """Compile scene and laws, once; the arm stands at home, stopped. Raises ConfigError when assets lack."""
        if self._simulation is None:
            self._simulation = Simulation(
                self._scene, self._arm, self._outfit, self._arbiter, self._ticks_per_step
            )  # fmt: skip
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
            self._arbiter.submit(checked, self._connected().step, self.time_ns)

    def release_human(self) -> None:
        """The person lets go: the human channel falls silent at once, the policy's plan takes over."""
        self._arbiter.withdraw(Phase.HUMAN)

    def reset(self, request: ResetRequest) -> Observation:
        """Arrange the start and let it come to rest. Raises ResetError, also when stopped meanwhile; the arm then rests
        and commands are refused."""
        simulation = self._connected()
        with self._switch:
            stops, self._mode = self._stops, "stopped"
            self._arbiter.reset()
        self._observation = None
        self._seed = request.seed
        if self._overview is not None:
            self._overview.vary(request.seed)
        took, latched = simulation.start(request, self.time_ns)
        self._ticks += took
        with self._switch:
            self._arbiter.reset(self.time_ns)
            if self._stops != stops:
                raise ResetError("the robot was stopped during the reset", remedy="Reset it again when it may move")
            self._mode = "tracking"
        self._observation = self._observe(latched)
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
        for part in (self._simulation, self._overview):
            if part is not None:
                part.close()
        self._simulation = self._overview = self._observation = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- time -------------------------------------------------------------------------------------------------------

    def advance_to(self, stamp_ns: int) -> None:
        """Run physics until ``stamp_ns``, step by step; once it diverged only time goes on. Raises
        SimulationDivergedError when physics is not finite."""
        simulation = self._connected()
        while self.time_ns < stamp_ns:
            wanted = -(-(stamp_ns - self.time_ns) // TICK_NS)
            if self._mode == _DIVERGED:
                self._ticks += wanted
                return
            try:
                ticks, report = simulation.run(wanted, self.time_ns)
            except SimulationDivergedError:
                self._lose(simulation)
                raise
            self._ticks += ticks
            if report is not None:
                self._check_fault(simulation)
                self._observation = self._observe(report)

    def _check_fault(self, simulation: Simulation) -> None:
        """What stopped the arm is a fault until the next reset; the servo brakes to hold by itself."""
        fault = simulation.world.servo.fault
        if fault and not self._mode.startswith("fault"):
            with self._switch:
                self._arbiter.reset(self.time_ns)
                self._mode = f"fault: {fault}"

    def _lose(self, simulation: Simulation) -> None:
        """The step has no end that could be seen: what is read from now on is what it began with, and the fault."""
        with self._switch:
            self._mode = _DIVERGED
        self._ticks += 1
        last = self.read()
        self._observation = replace(last, step=last.step + 1, stamp_ns=self.time_ns, report=simulation.lost())

    # --- description and measurement --------------------------------------------------------------------------------

    def _connected(self) -> Simulation:
        if self._simulation is None:
            raise RobotConnectionError("the simulated robot is not connected", remedy="Call connect() first")
        return self._simulation

    def _observe(self, report: CommandReport | None) -> Observation:
        simulation = self._connected()
        state, frames = simulation.seen()
        return Observation(simulation.step, self.time_ns, state, frames, report, self._mode)

    def _describe(self, step_rate_hz: float) -> EnvSpec:
        gripper = ActionPart(GRIPPER, ActionKind.GRIPPER, (0,), (1,), "opening")
        return EnvSpec(
            robot=f"sim_{self._arm.name}",
            step_rate_hz=float(step_rate_hz),
            observation=observation_specs(self._scene, self._arm),
            action=ActionSpec((self._describe_arm(), gripper)),
            cameras=self._outfit.cameras.specs(step_rate_hz),
            limits=self._outfit.limits.scalars(),
        )

    def _describe_arm(self) -> ActionPart:
        limits = self._outfit.limits
        if arm_part(self._outfit.gains) == JOINTS:
            lower, upper = limits.arrays().joint
            return ActionPart(JOINTS, ActionKind.JOINT_POSITION, tuple(lower), tuple(upper), "rad")
        low, high = (*limits.box_lower_m, -1, -1, -1, -1), (*limits.box_upper_m, 1, 1, 1, 1)
        return ActionPart(TCP, ActionKind.TCP_POSE, low, high, "m, quat_xyzw", "base")
