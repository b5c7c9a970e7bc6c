"""An arm behind its ROS topics, or whatever else is its port, as a Robot: threads and clock around ArmControl.

The control thread ticks on the monotonic clock whatever else happens; the watchdog thread looks after it, and after
faults of the arm; a third one tells of modes. All go on when ROS's executor, the network or a client does not. What may
wait for others (sending, telling) is done without the lock, so that stop is never kept waiting.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from robot_rl.errors import CommandRefusedError, ResetError, StaleObservationError
from robot_rl.runtime.clock import WallClock
from robot_rl.runtime.priority import run_first
from robot_rl.types import EnvSpec, Observation, Phase, ResetRequest, TargetChunk
from robot_rl_bridge.arm_control import ArmControl
from robot_rl_bridge.arm_description import ArmDescription
from robot_rl_bridge.arm_reset import ArmReset
from robot_rl_bridge.arm_state import Measured
from robot_rl_bridge.arm_watch import ArmWatch
from robot_rl_bridge.modes import Listener, Mode
from robot_rl_bridge.pace import Pace
from robot_rl_bridge.port import Port
from robot_rl_bridge.sensors import Sensors
from robot_rl_bridge.warm_up import warm_up

_MOST_FAILURES = 50  # of control, which then ends; until then it tries to brake
_SOON_NS = 3_000_000  # a read that comes so early waits for its step
_POLL_S = 0.002


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
        self._listener, self._changes = listener, queue.SimpleQueue[tuple[Mode, str] | None]()
        self.control = ArmControl(arm, spec, lambda mode, cause: self._changes.put((mode, cause)))
        self.pace = Pace(round(1e9 / arm.control_rate_hz))
        self.confirm = arm.reset.confirm if confirm is None else confirm
        self.operator_s = arm.reset.confirm_timeout_s if self.confirm else 0.0
        self.warm = False
        self._on_death, self._clock = on_death, WallClock()
        self.lock = threading.RLock()
        self._ticked = threading.Condition(self.lock)
        self._reading, self._resetting = threading.Lock(), threading.Lock()
        self._observation: Observation | None = None
        self.operator = threading.Event()  # has said that the arm may move to the start
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    # --- life ---------------------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Run every kernel once, before anything moves: compiling them takes seconds."""
        warm_up(self.arm, self.spec)
        self.warm = True

    def start(self) -> Self:
        """Begin to tick; nothing is sent before activation."""
        watch = ArmWatch(self.port, self.control.modes, self.pace, self.fail, self._on_death)
        for name, work in (
            ("control", lambda: (run_first(), self._run())),
            ("watchdog", lambda: (run_first(), watch.run(self._closing))),
            ("teller", self._tell),
        ):
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
        with self.lock:
            self.control.activate(self.measured(), self._clock.now_ns())

    def deactivate(self) -> None:
        """Brake, then send nothing."""
        self.stop("deactivated")
        self._wait(lambda: self.control.at_rest, 1.0)
        with self.lock:
            self.control.deactivate()

    # --- Robot --------------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> WallClock:
        return self._clock

    def connect(self) -> EnvSpec:
        """The spec; the arm itself is opened by activating it."""
        return self.spec

    def read(self) -> Observation:
        """The observation that opens the running step; asked for again in the second half of a step, that of the next
        one. Raises StaleObservationError for a stream that is silent."""
        with self._reading:
            now_ns = self._clock.now_ns()
            self.sensors.require(now_ns)
            control, seen = self.control, self._observation
            left_ns = control.left_ns(now_ns)
            again = seen is not None and seen.step == control.step_at(now_ns)
            if left_ns < (control.period_ns // 2 if again else _SOON_NS):  # whose clock is a little ahead
                now_ns = self._clock.wait_until(now_ns + left_ns)
            step = control.step_at(now_ns)
            if seen is None or seen.step != step:
                self._wait(lambda: control.decided(step), 0.05)
                seen = self._observation = self._observe(step)
            return replace(seen, mode=control.modes.text)

    def command(self, chunk: TargetChunk) -> None:
        """Replace the plan of the chunk's source. Raises CommandRefusedError, for that of the reset routine as well."""
        if chunk.source is Phase.RESET:
            raise CommandRefusedError("a plan of source RESET", remedy="Only the reset routine sends these: reset()")
        now_ns = self._clock.now_ns()
        with self.lock:
            self.control.heartbeat(now_ns)
            self.control.submit(chunk, now_ns)

    def reset(self, request: ResetRequest) -> Observation:
        """Bring the arm to the start of an episode by its reset routine, once the operator said so; verified. Raises
        ResetError."""
        if not self._resetting.acquire(blocking=False):
            raise ResetError("a reset is under way", remedy="Wait for its end, or stop it")
        try:
            ArmReset(self, request).run()
            return self.begin_episode()
        except BaseException:
            self.stop("the reset failed")
            raise
        finally:
            self._resetting.release()

    def begin_episode(self) -> Observation:
        """Step 0 begins with what is measured now, of an arm at rest. Raises ResetError when it was stopped."""
        with self._reading:
            aligned = self.sensors.now()
            with self.lock:
                self.check_resetting()
                self.control.end_reset(self.measured(), aligned.stamp_ns, self._clock.now_ns())
                report, mode = self.control.report(-1), self.control.modes.text
            state = self.sensors.observed(aligned)
            self._observation = Observation(0, aligned.stamp_ns, state, aligned.frames, report, mode)
            return self._observation

    def check_resetting(self) -> None:
        """Raise ResetError when the reset was ended by something else."""
        if self.control.modes.mode is not Mode.RESETTING:
            raise ResetError(
                f"the reset was ended: {self.control.modes.text}", remedy="Reset again when the arm may move"
            )

    def stop(self, cause: str = "stopped by a client", *, keep: bool = False) -> None:
        """Brake to hold; commands are refused until the next reset. From any thread, in every mode. Whom a person had
        left, and whom somebody stops with ``keep``, is still held for that person once enabled with it."""
        with self.lock:
            self.control.stop(cause, keep=keep)

    def hold(self, cause: str) -> None:
        """Brake to hold; a plan that starts near the arm goes on."""
        with self.lock:
            self.control.hold(cause, self._clock.now_ns())

    def hand_back(self) -> None:
        """The person gives the arm back to the policy."""
        with self.lock:
            self.control.hand_back()

    def heartbeat(self) -> None:
        """The client that commands was heard."""
        self.control.heartbeat(self._clock.now_ns())

    def fail(self, cause: str) -> None:
        """Brake to hold until the fault is cleared."""
        with self.lock:
            self.control.fail(cause)

    def clear_fault(self) -> None:
        """Leave a fault whose cause is gone, while idle only the arm's own; nothing is recovered before the arm is held
        where it is measured, to which somebody may have guided it. Raises RobotError, saying what is still wrong."""
        if self.control.modes.mode is Mode.FAULT:
            self.sensors.require(self._clock.now_ns())
            with self._ticked:
                self.control.rest(self.measured(), self._clock.now_ns())
                for _ in range(2):  # at the end of the second tick that of the first has been sent
                    self._ticked.wait(0.1)
        self.port.recover()
        if still := self.port.fault():
            raise CommandRefusedError(f"the arm still says '{still}'", remedy="Clear it at the arm")
        if self.control.modes.mode is Mode.IDLE:
            return
        self.sensors.require(self._clock.now_ns())
        with self.lock:
            self.control.clear_fault(self.measured(), self._clock.now_ns())

    def enable(self, cause: str = "enabled", *, keep: bool = False) -> None:
        """Take plans that start near the arm, without a reset. Raises CommandRefusedError."""
        self.sensors.require(self._clock.now_ns())
        with self.lock:
            self.control.enable(self.measured(), self._clock.now_ns(), cause, keep=keep)

    def confirmed(self) -> None:
        """The operator says that the arm may move to the start."""
        self.operator.set()

    def close(self) -> None:
        """Brake, then end the threads; idempotent."""
        if not self._closing.is_set() and self._threads:
            self.deactivate()
        self._closing.set()
        self._changes.put(None)
        for thread in self._threads:
            thread.join(timeout=2.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- observing ----------------------------------------------------------------------------------------------------

    def _observe(self, step: int) -> Observation:
        """At the newest time since the last observation at which all streams agree. Where a picture was lost that is
        waited for half a step, then the newest of the arm counts; its stamp always rises."""
        after_ns = 0 if self._observation is None else self._observation.stamp_ns
        begun_ns = now_ns = self._clock.now_ns()
        aligned = self.sensors.newest(after_ns)
        while aligned is None:
            time.sleep(_POLL_S)
            now_ns = self._clock.now_ns()
            self.sensors.require(now_ns)
            aligned = self.sensors.newest(after_ns)
            if aligned is None and now_ns - begun_ns > self.control.period_ns // 2:
                newest = self.sensors.now()
                aligned = newest if newest.stamp_ns > after_ns else None
                self.sensors.counts["observations without agreement of all streams"] += aligned is not None
        step = max(step, self.control.step_at(now_ns))
        with self.lock:
            report = self.control.report(step - 1)
        return Observation(step, aligned.stamp_ns, self.sensors.observed(aligned), aligned.frames, report)

    def measured(self) -> Measured:
        """The newest of joints and gripper. Raises StaleObservationError before both were heard."""
        measured = self.sensors.measured()
        if measured is None:
            raise StaleObservationError("the arm has not been heard yet", remedy="Are its topics as described?")
        return measured

    # --- threads ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        """The control thread. A cycle that comes late is not made up for; one that raises is a fault, and the next ones
        brake where they can."""
        due_ns, failures = time.monotonic_ns(), 0
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
                failures += 1
                self.control.fail(f"control raised {error!r}")
                self._on_death(f"control raised {error!r}")
                if failures > _MOST_FAILURES:
                    return

    def _cycle(self, now_ns: int) -> None:
        measured, silent = self.sensors.measured(), self.sensors.silent(now_ns)
        with self.lock:
            point = None if measured is None else self.control.tick(now_ns, measured, silent)
            self._ticked.notify_all()
        if point is not None:
            self.port.send(point)

    def _tell(self) -> None:
        """The teller's thread: who hears of modes may take its time."""
        while (change := self._changes.get()) is not None:
            try:
                self._listener(*change)
            except Exception as error:
                self._on_death(f"telling the mode raised {error!r}")

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        with self._ticked:
            self._ticked.wait_for(condition, timeout_s)
