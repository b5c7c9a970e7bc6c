"""An arm behind its ROS topics, or whatever else is its port, as a Robot: threads and clock around ArmControl.

The control thread ticks on the monotonic clock whatever else happens; the watchdog thread looks after it, and after
faults of the arm. Both go on when ROS's executor, the network or a client does not.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol, Self

import numpy as np

from robot_rl.errors import CommandRefusedError, ResetError, StaleObservationError
from robot_rl.runtime.clock import WallClock
from robot_rl.types import Array, EnvSpec, Observation, Phase, ResetRequest, TargetChunk
from robot_rl_bridge.arm_control import ArmControl
from robot_rl_bridge.arm_description import GRIPPER, JOINTS, ArmDescription
from robot_rl_bridge.arm_state import Measured, SetPoint
from robot_rl_bridge.modes import Listener, Mode
from robot_rl_bridge.pace import Pace
from robot_rl_bridge.reset_routine import goal, joint_way, tcp_way, verify
from robot_rl_bridge.sensors import Sensors

_WATCH_S = 0.02
_DEAD_S = 0.5  # without a cycle the control thread counts as dead
_SOON_NS = 3_000_000  # a read that comes so early waits for its step
_POLL_S = 0.002
_STILL = (0.02, 0.05)  # m/s, rad/s of an arm at rest


class Port(Protocol):
    """The way to the arm."""

    def send(self, point: SetPoint) -> None:
        """Hand a set point to the arm; must not wait."""
        ...

    def fault(self) -> str:
        """What the arm itself says is wrong; empty where nothing is."""
        ...

    def missing(self) -> list[str]:
        """What must be there before the arm is activated, and is not."""
        ...

    def recover(self) -> None:
        """Clear the fault of the arm itself, where it knows how. Raises RobotError."""
        ...

    def reset_simulator(self, request: ResetRequest, timeout_s: float) -> None:
        """Put a simulated arm and its objects where they shall be. Raises ResetError."""
        ...


class BridgedArm:
    """Robot contract over ``sensors`` and ``port``. ``confirm`` keeps resets waiting for an operator; ``listener``
    hears of modes; ``on_death`` is called when the control thread is dead."""

    concurrent = True  # it may be read while it is reset

    def __init__(
        self,
        arm: ArmDescription,
        spec: EnvSpec,
        sensors: Sensors,
        port: Port,
        *,
        confirm: bool | None = None,
        listener: Listener = lambda mode, cause: None,
        on_death: Callable[[str], None] = lambda cause: None,
    ) -> None:
        self.arm, self.spec, self.sensors, self.port = arm, spec, sensors, port
        self.control = ArmControl(arm, spec, listener)
        self.pace = Pace(round(1e9 / arm.control_rate_hz))
        self.confirm = arm.reset.confirm if confirm is None else confirm
        self.operator_s = arm.reset.confirm_timeout_s if self.confirm else 0.0
        self.warm = False
        self._on_death, self._clock = on_death, WallClock()
        self._lock = threading.RLock()
        self._ticked = threading.Condition(self._lock)
        self._reading, self._resetting = threading.Lock(), threading.Lock()
        self._observation: Observation | None = None
        self._confirmed = threading.Event()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    # --- life ---------------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Run every kernel once, before anything moves: compiling them takes seconds."""
        scratch, home = ArmControl(self.arm, self.spec), self.arm.home
        measured = Measured(home, np.zeros(len(home)), 1.0, 0, np.zeros(len(home)))
        scratch.activate(measured, 0)
        target = {scratch.part: np.tile(scratch.servo.reference, (3, 1)), GRIPPER: np.ones((3, 1))}
        scratch.enable(measured, 0, "warm")
        scratch.submit(TargetChunk(target, 0, 0), 0)
        tick_ns = round(1e9 * scratch.tick_s)
        for tick in range(3 * scratch.period_ns // tick_ns):
            scratch.heartbeat(tick * tick_ns)
            scratch.tick(tick * tick_ns, measured)
        scratch.hold("warm", 0)
        scratch.tick(3 * scratch.period_ns, measured)
        self.warm = True

    def start(self) -> Self:
        """Begin to tick; nothing is sent before activation."""
        sys.setswitchinterval(0.0005)
        for name, work in (("control", self._run), ("watchdog", self._watch)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def unready(self) -> list[str]:
        """Everything that keeps the arm from being activated."""
        now_ns = self._clock.now_ns()
        found = [] if self.warm else ["the control kernels are being compiled"]
        if self.warm and not self.pace.held(now_ns):
            found.append("the control loop has not held its rate for 1 s")
        return found + self.sensors.missing(now_ns) + self.port.missing()

    def activate(self) -> None:
        """Hold the arm where it is. Raises CommandRefusedError that lists what is missing."""
        if missing := self.unready():
            raise CommandRefusedError("cannot be activated: " + "; ".join(missing))
        with self._lock:
            self.control.activate(self._measured(), self._clock.now_ns())

    def deactivate(self) -> None:
        """Brake, then send nothing."""
        self.stop("deactivated")
        self._wait(lambda: self.control.at_rest, 1.0)
        with self._lock:
            self.control.deactivate()

    # --- Robot --------------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> WallClock:
        return self._clock

    def connect(self) -> EnvSpec:
        """The spec; the arm itself is opened by activating it."""
        return self.spec

    def read(self) -> Observation:
        """The observation that opens the running step. Raises StaleObservationError for a stream that is silent."""
        with self._reading:
            now_ns = self._clock.now_ns()
            self.sensors.require(now_ns)
            into_ns = (now_ns - self.control._start_ns) % self.control.period_ns
            if self.control.period_ns - into_ns < _SOON_NS:
                now_ns = self._clock.wait_until(now_ns + self.control.period_ns - into_ns)
            step = self.control.step_at(now_ns)
            if self._observation is None or self._observation.step != step:
                self._wait(lambda: self.control._step >= step or self.control.modes.mode is Mode.IDLE, 0.05)
                self._observation = self._observe(step)
            return replace(self._observation, mode=self.control.modes.text)

    def command(self, chunk: TargetChunk) -> None:
        """Replace the plan of the chunk's source. Raises CommandRefusedError."""
        now_ns = self._clock.now_ns()
        with self._lock:
            self.control.heartbeat(now_ns)
            self.control.submit(chunk, now_ns)

    def reset(self, request: ResetRequest) -> Observation:
        """Bring the arm to the start of an episode by its reset routine, once the operator said so; verified. Raises
        ResetError."""
        if not self._resetting.acquire(blocking=False):
            raise ResetError("a reset is under way", remedy="Wait for its end, or stop it")
        try:
            if request.simulator_state and self.arm.reset.by != "simulator":
                raise ResetError(
                    f"'{next(iter(request.simulator_state))}' is placed by a simulator only",
                    remedy="On hardware a person arranges the objects: operator_text",
                )
            return self._reset(request)
        except BaseException:
            self.stop("the reset failed")
            raise
        finally:
            self._resetting.release()

    def stop(self, cause: str = "stopped by a client") -> None:
        """Brake to hold; commands are refused until the next reset. From any thread, in every mode."""
        with self._lock:
            self.control.stop(cause)

    def hold(self, cause: str) -> None:
        """Brake to hold; a plan that starts near the arm goes on."""
        with self._lock:
            self.control.hold(cause, self._clock.now_ns())

    def heartbeat(self) -> None:
        """The client that commands was heard."""
        self.control.heartbeat(self._clock.now_ns())

    def fail(self, cause: str) -> None:
        """Brake to hold until the fault is cleared."""
        with self._lock:
            self.control.fail(cause)

    def clear_fault(self) -> None:
        """Leave a fault whose cause is gone. Raises RobotError, saying what is still wrong."""
        self.port.recover()
        if still := self.port.fault():
            raise CommandRefusedError(f"the arm still says '{still}'", remedy="Clear it at the arm")
        self.sensors.require(self._clock.now_ns())
        with self._lock:
            self.control.clear_fault(self._measured(), self._clock.now_ns())

    def enable(self, cause: str = "enabled") -> None:
        """Take plans from where the arm is, without a reset. Raises CommandRefusedError."""
        self.sensors.require(self._clock.now_ns())
        with self._lock:
            self.control.enable(self._measured(), self._clock.now_ns(), cause)

    def confirmed(self) -> None:
        """The operator says that the arm may move to the start."""
        self._confirmed.set()

    def close(self) -> None:
        """Brake, then end both threads; idempotent."""
        if not self._closing.is_set() and self._threads:
            self.deactivate()
        self._closing.set()
        for thread in self._threads:
            thread.join(timeout=2.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- observing ----------------------------------------------------------------------------------------------------

    def _observe(self, step: int) -> Observation:
        """At the newest time since the last observation at which all streams agree; where a picture was lost, now."""
        after_ns = 0 if self._observation is None else self._observation.stamp_ns
        aligned = None
        until_ns = self._clock.now_ns() + self.control.period_ns // 2
        while (aligned := self.sensors.newest(after_ns)) is None and self._clock.now_ns() < until_ns:
            time.sleep(_POLL_S)
        if aligned is None:
            self.sensors.counts["observations without agreement of all streams"] += 1
            aligned = self.sensors.now()
        with self._lock:
            report = self.control.report(step - 1)
        return Observation(step, aligned.stamp_ns, self.sensors.observed(aligned), aligned.frames, report)

    def _measured(self) -> Measured:
        measured = self.sensors.measured()
        if measured is None:
            raise StaleObservationError("the arm has not been heard yet", remedy="Are its topics as described?")
        return measured

    # --- resetting ----------------------------------------------------------------------------------------------------

    def _reset(self, request: ResetRequest) -> Observation:
        pose, joints = goal(self.arm, request)
        self.sensors.require(self._clock.now_ns())
        with self._lock:
            self.control.begin_reset(self._measured(), self._clock.now_ns(), "waiting for the operator")
        dead_man = self._confirm(request)
        until_s = time.monotonic() + request.timeout_s
        with self._lock:
            self._check_resetting()
            self.control.modes.enter(Mode.RESETTING, "moving to the start")
        if self.arm.reset.by == "simulator":
            self._reset_simulator(request, until_s)
        else:
            self._travel(pose, joints, request.gripper_opening, until_s, dead_man)
        self._settle(until_s)
        verify(self.arm, self.arm.chain, self._measured(), pose, joints)
        with self._reading:
            aligned = self.sensors.now()
            with self._lock:
                self._check_resetting()
                self.control.end_reset(self._measured(), aligned.stamp_ns, self._clock.now_ns())
                report, mode = self.control.report(-1), self.control.modes.text
            state = self.sensors.observed(aligned)
            self._observation = Observation(0, aligned.stamp_ns, state, aligned.frames, report, mode)
            return self._observation

    def _confirm(self, request: ResetRequest) -> bool:
        """Wait for the operator's word or dead-man; whether it was the dead-man. Raises ResetError."""
        if not self.confirm:
            return False
        self._confirmed.clear()
        until_s = time.monotonic() + self.arm.reset.confirm_timeout_s
        while not self._confirmed.wait(_POLL_S):
            self._check_resetting()
            if self._pressed():
                return True
            if time.monotonic() > until_s:
                raise ResetError(
                    "no operator has confirmed the reset",
                    limit=f"{self.arm.reset.confirm_timeout_s} s",
                    remedy="Call ~/confirm_reset or hold the dead-man when the way is clear",
                )
        return False

    def _pressed(self) -> bool:
        return self.control.human.alive(self._clock.now_ns())

    def _reset_simulator(self, request: ResetRequest, until_s: float) -> None:
        with self._lock:
            self.control.mute()
        self.port.reset_simulator(request, max(until_s - time.monotonic(), 0.1))
        self.sensors.restart()
        self._await(
            lambda: not self.sensors.silent(self._clock.now_ns()) and self._known(), until_s, "was not measured"
        )

    def _known(self) -> bool:
        """Whether every stream has something."""
        try:
            self.sensors.now()
        except StaleObservationError:
            return False
        return True

    def _travel(self, pose: Array, joints: Array | None, opening: float, until_s: float, dead_man: bool) -> None:
        """Feed the arbiter's reset channel with the way, step by step."""
        control, step_s = self.control, self.control.period_ns * 1e-9
        start = control.servo.reference
        if control.part == JOINTS:
            if joints is None:
                raise ResetError("the arm is commanded by joints", remedy="Give joint_position in the reset request")
            rows = joint_way(start, joints, self.arm.reset, step_s)
        else:
            ceiling_m = self.arm.safety_limits.box_upper_m[2]
            rows = tcp_way(start, pose, self.arm.reset, step_s, ceiling_m)
        targets = {control.part: rows, GRIPPER: np.full((len(rows), 1), opening)}
        with self._lock:
            chunk = TargetChunk(targets, control.step_at(self._clock.now_ns()) + 1, self._clock.now_ns(), Phase.RESET)
        last = chunk.first_step + chunk.length
        while (step := control.step_at(self._clock.now_ns())) < last:
            self.sensors.require(self._clock.now_ns())
            if dead_man and not self._pressed():
                raise ResetError("the dead-man was let go", remedy="Reset again and hold it until the arm is there")
            if time.monotonic() > until_s:
                raise ResetError("the way to the start takes too long", remedy="Allow a longer timeout_s")
            with self._lock:
                self._check_resetting()
                left = chunk.remaining(max(step, chunk.first_step))
                control.submit(replace(left, stamp_ns=self._clock.now_ns()), self._clock.now_ns())
            self._clock.wait_until(self._clock.now_ns() + self.control.period_ns // 2)

    def _settle(self, until_s: float) -> None:
        self._await(self._at_rest, until_s, "did not come to rest")

    def _at_rest(self) -> bool:
        measured = self._measured()
        speed = np.abs(self.arm.chain.jacobian(measured.position) @ measured.velocity)
        return bool(speed[:3].max() < _STILL[0] and speed[3:].max() < _STILL[1]) and (
            self.control._muted or self.control.at_rest
        )

    def _await(self, condition: Callable[[], bool], until_s: float, what: str) -> None:
        while not condition():
            self._check_resetting()
            if time.monotonic() > until_s:
                raise ResetError(f"the arm {what} at the start of the episode", remedy="See its topics and its state")
            time.sleep(_POLL_S)

    def _check_resetting(self) -> None:
        if self.control.modes.mode is not Mode.RESETTING:
            raise ResetError(
                f"the reset was ended: {self.control.modes.text}", remedy="Reset again when the arm may move"
            )

    # --- threads ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """The control thread. A cycle that comes late is not made up for."""
        due_ns = time.monotonic_ns()
        while not self._closing.is_set():
            due_ns += self.pace.period_ns
            if (left_ns := due_ns - time.monotonic_ns()) > 0:
                time.sleep(left_ns * 1e-9)
            begun_ns = time.monotonic_ns()
            self.pace.cycle(due_ns, begun_ns)
            if begun_ns - due_ns > self.pace.period_ns:
                due_ns = begun_ns
            try:
                self._cycle(begun_ns)
            except Exception as error:
                self.control.fail(f"control raised {error!r}")
                self._on_death(f"control raised {error!r}")
                return

    def _cycle(self, now_ns: int) -> None:
        measured, silent = self.sensors.measured(), self.sensors.silent(now_ns)
        with self._lock:
            point = None if measured is None else self.control.tick(now_ns, measured, silent)
            if point is not None:
                self.port.send(point)
            self._ticked.notify_all()

    def _watch(self) -> None:
        """The watchdog thread: faults of the arm itself, and a control thread that stands still."""
        while not self._closing.wait(_WATCH_S):
            try:
                fault = self.port.fault()
            except Exception as error:
                fault = f"the arm's state cannot be told: {error!r}"
            if fault and self.control.modes.mode not in (Mode.IDLE, Mode.FAULT):
                self.fail(f"arm: {fault}")
            if time.monotonic_ns() - self.pace.last_ns > _DEAD_S * 1e9 and self.pace.last_ns:
                self._on_death("the control thread stands still")

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        with self._ticked:
            self._ticked.wait_for(condition, timeout_s)
