"""A robot with a task, a time limit and the policy's kind of action: the Env that every arm is run through."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from robot_rl.errors import (
    ConfigError,
    FarPlanError,
    RobotError,
    SimulationDivergedError,
    SpecMismatchError,
    StaleObservationError,
    valid_choices,
)
from robot_rl.interfaces import Clock, Robot, Task
from robot_rl.runtime.action_targets import express, integrate
from robot_rl.runtime.calibration_in_use import calibration_in_use
from robot_rl.runtime.clock import StepGrid
from robot_rl.runtime.confirmation import Confirm
from robot_rl.runtime.fault_wait import await_cleared
from robot_rl.runtime.frame_codec import compressed
from robot_rl.runtime.reflex import Reflex
from robot_rl.runtime.set_points import SetPoints
from robot_rl.types import (
    ActionRecord,
    ActionSpec,
    Array,
    Arrays,
    EnvSpec,
    Judgement,
    Observation,
    Phase,
    StepResult,
    TargetChunk,
    all_finite,
    target_kind,
)


class RobotEnv:
    """Env over any Robot. Connects it; closing the env stops and closes it.

    ``action`` is the policy's action, its parts named like those the robot takes; deltas are integrated here and only
    absolute targets are sent. ``reflex`` commands parts that the policy does not; ``name`` is the task's in the spec
    where that is another than the task's own; ``confirm`` is asked before every reset (None: resets are automatic).
    With ``observe_set_points`` the policy sees what its deltas are added to, ``<part>_set_point``, which nothing else
    tells; ``max_lead_m`` is how far that may be ahead of the measured TCP. Without ``rule`` the task says how episodes
    begin and nothing of how they go, so that it may be one whose rule the robot's measurements do not serve: a
    classifier around the env or a person's key judges.
    Raises ConfigError for limits below a step, SpecMismatchError when the robot takes no such part, or when task or
    reflex go by something that it does not measure (or only a simulator knows, on hardware).
    """

    def __init__(
        self,
        robot: Robot,
        task: Task,
        action: ActionSpec,
        max_steps: int,
        step_rate_hz: float | None = None,
        reflex: Reflex | None = None,
        name: str | None = None,
        confirm: Confirm | None = None,
        observe_set_points: bool = False,
        max_lead_m: float = math.inf,
        rule: bool = True,
    ) -> None:
        if max_steps < 1 or (step_rate_hz is not None and step_rate_hz <= 0):
            raise ConfigError(f"max_steps={max_steps}, step_rate_hz={step_rate_hz}", limit="at least 1, above 0")
        self._robot, self._task, self._reflex = robot, task, reflex
        self.max_steps = max_steps  # a longer limit counts from the next step on
        self.confirm, self._observe_set_points, self.judges = confirm, observe_set_points, rule
        self._set_points = SetPoints(action, max_lead_m)
        try:
            offered = robot.connect()
            _check_action(action, offered.action)
            self._spec = replace(
                offered, action=action, task=name or task.name, step_rate_hz=step_rate_hz or offered.step_rate_hz,
                calibration_sha256=offered.calibration_sha256 or calibration_in_use(offered.robot).sha256,
            )  # fmt: skip
            if observe_set_points:
                seen = self._set_points.specs(offered.action)
                self._spec = replace(self._spec, observation={**self._spec.observation, **seen})
            _check_rule("max_lead_m goes by", self._set_points.requires, self._spec)
            _check_rule(f"task '{task.name}' judges by", task.requires if rule else frozenset(), self._spec)
            _check_rule("the reflex goes by", reflex.requires if reflex else frozenset(), self._spec)
        except BaseException:
            robot.close()
            raise
        self._grid = StepGrid(robot.clock, self._spec.step_period_ns)
        self._observation: Observation | None = None
        self._last = _Targets({}, {})

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def clock(self) -> Clock:
        return self._robot.clock

    @property
    def robot(self) -> Robot:
        """The arm itself, for drills and devices; the loop does not need it."""
        return self._robot

    @property
    def overruns(self) -> int:
        """Steps of this env's life whose end had passed before the plan was sent."""
        return self._grid.overruns

    def reset(self, seed: int) -> Observation:
        """Bring the robot to the start of the episode of ``seed``, once a fault that ended the last one is cleared.
        Raises ResetError; the robot is then stopped."""
        try:
            await_cleared(self._robot, self._observation)
            request = self._task.reset_request(seed)
            if self.confirm is not None:
                self.confirm(request)
            observation = self._seen(_checked(self._robot.reset(request), None))
        except BaseException:
            self._robot.stop()
            raise
        self._grid.start(observation.stamp_ns)
        if self._reflex is not None:
            self._reflex.reset()
        in_force = self._set_points.in_force(observation)
        self._observation, self._last = observation, _Targets(in_force, in_force)
        return observation

    def anchor(self, actions: Array, observation: Observation, source: Phase = Phase.POLICY) -> TargetChunk:
        """Integrate a plan [H, A] of ``source`` onto the targets in force at ``observation``."""
        targets = integrate(self._spec.action, actions, self._set_points.in_force(observation, source))
        return TargetChunk(targets, observation.step, observation.stamp_ns, source)

    def hold(self) -> TargetChunk:
        """One step at the targets in force: measured ones after a reset or while a human commands."""
        observation = self._current()
        in_force = self._set_points.in_force(observation)
        targets = {name: np.asarray(value)[None] for name, value in in_force.items()}
        return TargetChunk(targets, observation.step, observation.stamp_ns, source=Phase.HOLD)

    def step(self, plan: TargetChunk) -> StepResult:
        """Send what remains of ``plan``, wait for the end of the step, read and judge.

        Commanded, executed and human targets come back in the units of the policy's action. A fault of the robot, or a
        simulation that diverges, stops it and truncates the episode with ``info["fault"]``. Raises whatever else the
        robot raises, after stopping it. A plan that a held robot finds too far away is not followed, for
        ``info["refused"]``: held it stays, and what is planned next may start nearer.
        """
        before = self._current()
        fresh = plan.first_step == before.step
        plan = plan.remaining(before.step)
        try:
            if self._reflex is not None:
                plan = _with_targets(plan, self._reflex.targets(before))
            refused = self._sent(plan)
            diverged, overrun = None, False
            try:
                overrun = self._grid.wait(before.step)
            except SimulationDivergedError as error:  # the end of this episode, not of the run
                diverged = error
            after = self._seen(_checked(self._robot.read(), before))
            action = self._action(plan, before, after, fresh)
            judging = self.judges and not diverged
            verdict = self._task.judge(before, action.commanded, after) if judging else Judgement(0.0)
        except BaseException:
            self._robot.stop()
            raise
        self._observation = after
        fault = after.mode.startswith("fault")
        info: dict[str, object] = {"overrun": overrun} if overrun else {}
        if refused:
            info["refused"] = refused
        if fault:
            self._robot.stop()
            info["fault"] = str(diverged or after.mode.removeprefix("fault").lstrip(": ") or "unknown")
        truncated = not verdict.terminated and (fault or after.step >= self.max_steps)
        return StepResult(after, action, verdict.reward, verdict.terminated, truncated, verdict.success, info)

    def stop(self) -> None:
        """Controlled stop of the robot; the next reset resumes."""
        self._robot.stop()

    def close(self) -> None:
        """Stop the robot and let go of it; idempotent."""
        self._robot.close()

    def _sent(self, plan: TargetChunk) -> str:
        """Send ``plan``; why a held robot does not follow it."""
        try:
            self._robot.command(plan)
        except FarPlanError as error:
            return str(error)
        return ""

    def _seen(self, observation: Observation) -> Observation:
        """``observation`` with what only the env knows."""
        if not self._observe_set_points:
            return observation
        return replace(observation, state={**observation.state, **self._set_points.observed(observation)})

    def _current(self) -> Observation:
        if self._observation is None:
            raise RobotError("the env has no observation yet", remedy="Call reset(seed) before the first step")
        return self._observation

    def _action(self, plan: TargetChunk, before: Observation, after: Observation, fresh: bool) -> ActionRecord:
        """What was asked, commanded and executed in one step, each relative to what was in force before it.

        Not valid when steps were missed: nobody can tell the one action that led from ``before`` to ``after``.
        """
        report = after.report
        if report is None:
            raise RobotError(f"the robot reports no command for step {before.step}", remedy="Its read() must say")
        spec, last = self._spec.action, self._last
        base = self._set_points.in_force(before, plan.source) if fresh else last.commanded
        self._last = _Targets(_over(last.commanded, report.commanded), _over(last.executed, report.executed))
        commanded = express(spec, self._last.commanded, base)
        same = report.executed is report.commanded and base is last.executed
        return ActionRecord(
            commanded=commanded,
            executed=commanded if same else express(spec, self._last.executed, last.executed),
            policy=commanded if _asked(spec, plan, report.commanded) else express(spec, {**base, **_first(plan)}, base),
            source=report.source,
            human=None if report.human is None else express(spec, {**base, **report.human}, base),
            valid=report.valid and after.step == before.step + 1,
        )


def _over(old: Arrays, new: Arrays) -> Arrays:
    """``new`` where it tells, else ``old``; itself where it tells all, so that equal targets are known by identity."""
    return new if new.keys() >= old.keys() else {**old, **new}


def _first(plan: TargetChunk) -> dict[str, Array]:
    """The first row of a plan, {part: [k]}."""
    return {name: rows[0] for name, rows in plan.targets.items()}


def _asked(spec: ActionSpec, plan: TargetChunk, commanded: Arrays) -> bool:
    """Whether all parts of what was commanded are bit for bit the first row of ``plan``."""
    return all(
        part.name in plan.targets
        and part.name in commanded
        and plan.targets[part.name][0].tobytes() == commanded[part.name].tobytes()
        for part in spec.parts
    )


@dataclass(frozen=True)
class _Targets:
    """Absolute targets {part: [k]} at the end of the last step."""

    commanded: Arrays
    executed: Arrays


def _checked(observation: Observation, before: Observation | None) -> Observation:
    """Refuse values that are not finite and a stream that stands still; encode a simulator's raw frames."""
    state = observation.state
    if state and not all_finite(np.concatenate(tuple(state.values()), axis=None)):  # one sum for all of them
        name, value = next((name, value) for name, value in state.items() if not all_finite(value))
        raise RobotError(f"observation '{name}' at step {observation.step} holds {value}", limit="finite values")
    if before is not None and observation.stamp_ns <= before.stamp_ns:
        raise StaleObservationError(
            f"the observation after step {before.step} has the stamp of an older one",
            limit="a stamp that rises every step",
            remedy="Check that the robot's state stream is alive",
        )
    if any(frame.codec == "raw" for frame in observation.frames.values()):
        return replace(observation, frames={name: compressed(frame) for name, frame in observation.frames.items()})
    return observation


def _check_action(action: ActionSpec, offered: ActionSpec) -> None:
    kinds = {part.name: part.kind for part in offered.parts}
    for part in action.parts:
        if part.name not in kinds:
            raise SpecMismatchError(f"the robot takes no '{part.name}'", remedy=valid_choices(part.name, kinds))
        if target_kind(part.kind) is not target_kind(kinds[part.name]):
            raise SpecMismatchError(
                f"'{part.name}' of kind {part.kind.value} becomes {target_kind(part.kind).value} targets",
                limit=f"the robot takes {kinds[part.name].value}",
                remedy="Choose another action= option",
            )


def _with_targets(plan: TargetChunk, targets: Arrays) -> TargetChunk:
    """``plan`` with the same ``targets`` {part: [k]} in every row."""
    rows = {name: np.tile(value, (plan.length, 1)) for name, value in targets.items()}
    return replace(plan, targets={**plan.targets, **rows})


def _check_rule(whose: str, requires: frozenset[str], spec: EnvSpec) -> None:
    for name in sorted(requires):
        if name not in spec.observation:
            raise SpecMismatchError(
                f"{whose} '{name}', which robot '{spec.robot}' does not measure",
                remedy=valid_choices(name, spec.observation),
            )
        if spec.observation[name].privileged and not spec.simulated:
            raise SpecMismatchError(
                f"{whose} '{name}', which only a simulator knows",
                remedy="On hardware a classifier or a person judges: env.rule=false classifier=<run>",
            )
