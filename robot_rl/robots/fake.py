"""A fake arm as product code: Panda-like state that follows absolute targets, with faults and a human on demand.

It serves tests, drills and dry runs of the whole stack on any machine: same contract as the real arm, base
dependencies only. In step k the set points of row k of the plan in force are reached (``lag`` 0, perfect tracking) or
approached; when the plan has run out the last set points are kept and the step is reported as not valid.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import StrEnum
from typing import Self, TypeVar

import numpy as np

from robot_rl.errors import CommandRefusedError, ResetError, RobotError, StaleObservationError, valid_choices
from robot_rl.geometry import pose_interpolate, pose_inverse, pose_multiply, se3_log
from robot_rl.interfaces import Clock
from robot_rl.robots.target_check import checked_targets
from robot_rl.runtime.clock import SimulatedClock, WallClock
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

HOME_JOINT_POSITION = (0.0, 0.196, 0.0, -2.618, 0.0, 2.942, 0.785)  # rad
HOME_TCP_POSE = (0.45, 0.0, 0.3, 1.0, 0.0, 0.0, 0.0)  # m and quaternion xyzw: the gripper points down
_Choice = TypeVar("_Choice")
_JOINTS = tuple(f"joint{i + 1}" for i in range(7))
_MAX_JOINT_RAD = 2.9


class Fault(StrEnum):
    """Faults that can be commanded for a drill; a reset clears them, as an operator would."""

    SILENT = "silent"  # the state stream has stopped: ``read`` raises
    FROZEN = "frozen"  # ``read`` keeps giving the same old observation
    NAN = "nan"  # the measured state is not finite
    PROTECTIVE_STOP = "protective_stop"  # the arm reports a fault and refuses commands


class FakeRobot:
    """Robot contract without a robot.

    ``clock`` is ``simulated`` (time passes when the loop waits) or ``wall``; ``control`` selects ``tcp`` or ``joint``
    targets; ``lag`` in [0, 1) is the share of the way to a set point that is left at the end of its step; ``objects``
    are resting poses that a task may ask for as privileged state, placed by the reset request.
    """

    def __init__(
        self,
        step_rate_hz: float = 20.0,
        clock: str = "simulated",
        control: str = "tcp",
        lag: float = 0.0,
        objects: Sequence[str] = (),
    ) -> None:
        self._clock: Clock = _choose("clock", clock, {"simulated": SimulatedClock, "wall": WallClock})()
        self._spec = _spec(step_rate_hz, control, objects)
        self._period_ns = self._spec.step_period_ns
        self._lag = float(lag)
        self._state = _home(objects)
        self._set_points = self._measured_targets()
        self._plan: TargetChunk | None = None
        self._human: Arrays | None = None
        self._report: CommandReport | None = None
        self._frozen: Observation | None = None
        self._fault: Fault | None = None
        self._drill: tuple[Fault, int] | None = None
        self._mode = "stopped"
        self._start_ns, self._step = self._clock.now_ns(), 0
        self._lock = threading.RLock()  # stop comes from any thread

    @property
    def clock(self) -> Clock:
        return self._clock

    def connect(self) -> EnvSpec:
        """Nothing to open; describes the arm."""
        return self._spec

    def read(self) -> Observation:
        """The state at the start of the running step. Raises StaleObservationError in the drill ``silent``."""
        self._advance()
        if self._fault is Fault.SILENT:
            raise StaleObservationError("fake robot: the state stream is silent (drill)", remedy="Reset ends the drill")
        if self._fault is Fault.FROZEN and self._frozen is not None:
            return self._frozen
        state = {name: value.astype(np.float32) for name, value in self._state.items()}
        if self._fault is Fault.NAN:
            state["arm0/joint_position"] = np.full(7, np.nan, dtype=np.float32)
        self._frozen = Observation(self._step, self._clock.now_ns(), state, report=self._report, mode=self._mode)
        return self._frozen

    def command(self, chunk: TargetChunk) -> None:
        """Replace the plan. Raises CommandRefusedError when stopped, or for targets that no arm would take."""
        checked = checked_targets(chunk, self._spec.action)
        with self._lock:
            if self._mode != "tracking":
                raise CommandRefusedError(f"fake robot is in mode '{self._mode}'", remedy="Reset it first")
            self._advance()
            self._plan = checked

    def reset(self, request: ResetRequest) -> Observation:
        """Jump to the requested start; clears faults, plan and human. Raises ResetError for a start that is none."""
        objects = [name.removeprefix("object/").removesuffix("_pose") for name in self._state if "object/" in name]
        state = _home(objects)
        wanted = {
            "arm0/joint_position": request.joint_position,
            "arm0/tcp_pose": request.tcp_pose,
            "arm0/gripper_opening": [request.gripper_opening],
            **request.simulator_state,
        }
        for name, value in wanted.items():
            if value is not None:
                state[name] = _start(name, value, state)
        with self._lock:
            self._state = state
            self._set_points = self._measured_targets()
            self._plan = self._human = self._report = self._frozen = self._fault = self._drill = None
            self._mode, self._step, self._start_ns = "tracking", 0, self._clock.now_ns()
            return self.read()

    def stop(self) -> None:
        """Keep the set points in force; commands are refused until the next reset. A fault stays a fault."""
        with self._lock:
            self._advance()
            self._plan = None
            if not self._mode.startswith("fault"):
                self._mode = "stopped"

    def close(self) -> None:
        """Stop."""
        self.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def drill(self, fault: Fault | str, after_steps: int = 0) -> None:
        """Command a fault, at once or in the middle of a later step; a reset ends it. Raises RobotError."""
        if fault not in list(Fault):
            raise RobotError(f"no drill '{fault}'", remedy=valid_choices(fault, list(Fault)))
        self._advance()
        self._drill = (Fault(fault), self._step + after_steps)
        self._begin_drill()

    def human(self, targets: Arrays | None) -> None:
        """A human takes over with these absolute targets {part: [k]} until handing back with None. Raises
        CommandRefusedError for targets that no arm would take."""
        rows = {name: np.asarray(value)[None] for name, value in (targets or {}).items()}
        if rows:
            rows = checked_targets(TargetChunk(rows, self._step, 0, Phase.HUMAN), self._spec.action).targets
        with self._lock:
            self._advance()
            asked = {name: value[0] for name, value in rows.items()}
            self._human = None if targets is None else {**self._set_points, **asked}

    @property
    def mode(self) -> str:
        """What ``read`` reports as mode, also when a drill keeps it from reporting."""
        return self._mode

    def _advance(self) -> None:
        """Run the steps that ended since the last call."""
        with self._lock:
            while self._clock.now_ns() >= self._start_ns + (self._step + 1) * self._period_ns:
                self._run_step()
                self._step += 1
                self._begin_drill()

    def _begin_drill(self) -> None:
        if self._drill is None or self._step < self._drill[1]:
            return
        self._fault, self._drill = self._drill[0], None
        if self._fault is Fault.PROTECTIVE_STOP:
            self._plan, self._mode = None, "fault: protective stop (drill)"

    def _run_step(self) -> None:
        planned = None if self._plan is None else _row(self._plan, self._step)
        source = Phase.HOLD if self._plan is None or planned is None else self._plan.source
        commanded = {**self._set_points, **(planned or {})}
        if self._human is not None and self._mode == "tracking":
            source, commanded = Phase.HUMAN, dict(self._human)
        human = commanded if source is Phase.HUMAN else None
        self._report = CommandReport(
            self._step, source, commanded, commanded, human=human, valid=source is not Phase.HOLD
        )
        self._set_points = commanded
        self._follow(commanded)

    def _follow(self, targets: Arrays) -> None:
        rate = 1e9 / self._period_ns
        for name, target in targets.items():
            measured = _MEASURED[name]
            before = self._state[measured]
            if measured == "arm0/tcp_pose":
                after = pose_interpolate(before, target, 1.0 - self._lag) if self._lag else np.array(target)
                self._state["arm0/tcp_velocity"] = _twist(before, after) * rate
            else:
                after = target + self._lag * (before - target)
            if measured == "arm0/joint_position":
                self._state["arm0/joint_velocity"] = (after - before) * rate
            self._state[measured] = after

    def _measured_targets(self) -> dict[str, Array]:
        return {part.name: self._state[_MEASURED[part.name]].copy() for part in self._spec.action.parts}


_MEASURED = {
    "arm0/tcp": "arm0/tcp_pose",
    "arm0/joints": "arm0/joint_position",
    "arm0/gripper": "arm0/gripper_opening",
}


def _start(name: str, value: object, state: Arrays) -> Array:
    if name not in state:
        raise ResetError(f"the fake robot has no '{name}'", remedy=valid_choices(name, state))
    start = np.asarray(value)
    if start.dtype.kind not in "fiu" or start.shape != state[name].shape or not np.isfinite(start).all():
        raise ResetError(f"start of '{name}' is {value}", limit=f"{len(state[name])} finite numbers")
    return np.array(start, dtype=np.float64)


def _row(plan: TargetChunk, step: int) -> dict[str, Array] | None:
    row = step - plan.first_step
    if not 0 <= row < plan.length:
        return None
    return {name: np.asarray(value[row], dtype=np.float64) for name, value in plan.targets.items()}


def _twist(before: Array, after: Array) -> Array:
    """Linear and angular motion from ``before`` to ``after``, both in the base frame, [6]."""
    if np.array_equal(before[3:], after[3:]):
        return np.concatenate((after[:3] - before[:3], np.zeros(3)))
    turn = se3_log(np.concatenate((np.zeros(3), pose_multiply(after, pose_inverse(before))[3:])))
    return np.concatenate((after[:3] - before[:3], turn[3:]))


def _home(objects: Sequence[str]) -> dict[str, Array]:
    state = {
        "arm0/joint_position": np.array(HOME_JOINT_POSITION),
        "arm0/joint_velocity": np.zeros(7),
        "arm0/tcp_pose": np.array(HOME_TCP_POSE),
        "arm0/tcp_velocity": np.zeros(6),
        "arm0/gripper_opening": np.ones(1),
    }
    return state | {f"object/{name}_pose": np.array([0.5, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0]) for name in objects}


def _spec(step_rate_hz: float, control: str, objects: Sequence[str]) -> EnvSpec:
    tcp = ActionPart(
        "arm0/tcp", ActionKind.TCP_POSE, (-1, -1, -1, -1, -1, -1, -1), (1, 1, 1, 1, 1, 1, 1), "m, quat_xyzw", "base"
    )
    joints = ActionPart("arm0/joints", ActionKind.JOINT_POSITION, (-_MAX_JOINT_RAD,) * 7, (_MAX_JOINT_RAD,) * 7, "rad")
    gripper = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0,), (1,), "opening")
    observation = {
        "arm0/joint_position": ArraySpec((7,), unit="rad", names=_JOINTS),
        "arm0/joint_velocity": ArraySpec((7,), unit="rad/s", names=_JOINTS),
        "arm0/tcp_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
        "arm0/tcp_velocity": ArraySpec((6,), unit="m/s, rad/s", frame="base"),
        "arm0/gripper_opening": ArraySpec((1,), unit="opening"),
    }
    for name in objects:
        observation[f"object/{name}_pose"] = ArraySpec((7,), unit="m, quat_xyzw", frame="base", privileged=True)
    arm = _choose("control", control, {"tcp": tcp, "joint": joints})
    return EnvSpec("fake", step_rate_hz, observation, ActionSpec((arm, gripper)))


def _choose(what: str, name: str, choices: dict[str, _Choice]) -> _Choice:
    if name not in choices:
        raise RobotError(f"no {what} '{name}'", remedy=valid_choices(name, choices))
    return choices[name]
