"""The one loop: recording, replay, acting, evaluation and deployment all run ``run_episode``."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from robot_rl.interfaces import Env, Listener, Policy
from robot_rl.runtime.chunk_execution import ChunkExecution
from robot_rl.runtime.handover import Command, Handover
from robot_rl.runtime.tally import NOBODY, EpisodeTally
from robot_rl.runtime.window import ObservationWindow, check_inputs
from robot_rl.types import (
    ActContext,
    ActionRecord,
    Array,
    Arrays,
    Decision,
    EpisodeEnd,
    Observation,
    Phase,
    StepResult,
    StepRow,
    TargetChunk,
)

_POLICY = Command(Phase.POLICY)
_DELAYS = 10  # decisions whose delay counts: one hiccup is not remembered for good


def run_episode(
    env: Env,
    policy: Policy,
    listeners: Sequence[Listener] = (),
    *,
    seed: int,
    explore: bool = False,
    source: Phase = Phase.POLICY,
    human: Handover | None = None,
) -> EpisodeEnd:
    """Run the episode of ``seed`` and tell the listeners; ``source`` says who the policy is (a scripted expert, ...).

    A ``human`` is asked at every tick; while one has the arm the policy runs on in shadow, and the keys judge.

    The robot is stopped at the end, and before anything else by whatever is raised in here; listeners whose
    ``on_reset`` returned hear ``on_end`` once.
    Raises SpecMismatchError when policy and env do not fit, and what env, policy and listeners raise.
    """
    check_inputs(policy.spec, env.spec)
    planner = _Planner(env, policy, source, explore)
    audience = _Audience(listeners)
    tally = EpisodeTally(judged_by="rule" if getattr(env, "judges", True) else NOBODY)
    observation: Observation | None = None
    try:
        policy.reset(np.array([0]), np.array([seed]))
        observation = env.reset(seed)
        if human is not None:
            human.reset(seed)
        ready_ns = env.clock.now_ns()
        audience.reset(observation, env, seed)
        while not tally.reason:
            command = _POLICY if human is None else human.command(observation, env.spec.action)
            decision = planner.advance(observation, command.source is not Phase.POLICY)
            if decision is not None:
                audience.decision(decision)
            sent_ns = env.clock.now_ns()
            result = env.step(planner.plan(observation, command))
            result = tally.judged(result, human and human.outcome())
            row = planner.row(observation, result, ready_ns, sent_ns)
            observation, ready_ns = result.observation, env.clock.now_ns()
            tally.add(result)
            audience.step(row)
        env.stop()  # what is left of the plan is of an episode that is over
        final = planner.final_row(observation, ready_ns)
    except BaseException as error:
        _stop(env, error)
        if observation is not None:
            nothing = planner.no_extras()  # neither robot nor policy may be asked any more
            lost = _final_row(observation, observation.stamp_ns, nothing, env.spec.action.size, killed=True)
            audience.end_after(error, lost, tally.broken_off(error))
        raise
    end = tally.end()
    try:
        audience.end(final, end)
    except BaseException as error:
        _stop(env, error)
        raise
    return end


class _Planner:
    """The policy's side of the loop: window, chunks, decisions."""

    def __init__(self, env: Env, policy: Policy, source: Phase, explore: bool) -> None:
        self._env, self._policy, self._explore = env, policy, explore
        self._window = ObservationWindow(policy.spec)
        self._action_size = env.spec.action.size
        self._records = bool(policy.spec.record)
        self._decisions = 0
        self._delays = deque([0], maxlen=_DELAYS)
        self.execution = ChunkExecution(env, source)

    def advance(self, observation: Observation, human: bool = False) -> Decision | None:
        """See ``observation``, from which on a ``human`` may have the arm; ask the policy when a new chunk is due."""
        self._window.push(observation)
        execution = self.execution
        if not execution.observe(observation, human):
            return None
        context = ActContext(
            step=np.array([observation.step]),
            executed_since_plan=np.array([execution.executed_since_plan(observation.step)]),
            delay_steps=np.array([max(self._delays)]),
            takeover=np.array([execution.takeover]),
            explore=self._explore,
        )
        began = time.perf_counter()
        chunk = self._policy.act(self._window.arrays(), context)
        latency_s = time.perf_counter() - began
        late = self._behind(observation)
        if self._decisions:  # no plan was in force before the first one, which also takes longest
            self._delays.append(late)
        execution.accept(chunk, observation, late=late)
        self._decisions += 1
        extras = {name: value[0] for name, value in chunk.decision.items()}
        planned = np.asarray(chunk.actions[0], dtype=np.float32)
        return Decision(self._decisions - 1, execution.start, planned, extras, latency_s)

    def _behind(self, observation: Observation) -> int:
        """Whole control steps since ``observation`` by the robot's clock; 0 where a simulator waits."""
        passed_ns = self._env.clock.now_ns() - observation.stamp_ns
        return max(passed_ns // self._env.spec.step_period_ns, 0)

    def plan(self, observation: Observation, command: Command) -> TargetChunk:
        """What to send at this step: the person's action, else what the policy's plan says."""
        if command.action is None:
            return self.execution.plan(observation)
        return self._env.anchor(command.action[None], observation, Phase.HUMAN)

    def row(self, observation: Observation, result: StepResult, ready_ns: int, sent_ns: int) -> StepRow:
        """Row t: what was seen and done in the step that ``result`` tells of."""
        step, execution = observation.step, self.execution
        return StepRow(
            observation=observation,
            action=replace(result.action, policy=execution.action(step).astype(np.float32)),
            reward=result.reward,
            terminated=result.terminated,
            truncated=result.truncated,
            success=result.success,
            decision=self._decisions - 1,
            policy_version=execution.version,
            overrun=bool(result.info.get("overrun", False)),
            obs_ready_ns=ready_ns,
            action_sent_ns=sent_ns,
            extras=execution.extras(step) if self._records else {},
        )

    def final_row(self, observation: Observation, ready_ns: int) -> StepRow:
        """The final observation with the extras a bootstrap needs: what the policy would do next, in shadow."""
        extras: Arrays = {}
        if self._records:
            self.advance(observation)
            extras = self.execution.extras(observation.step)
        return _final_row(observation, ready_ns, extras, self._action_size)

    def no_extras(self) -> Arrays:
        """Zeros in place of extras, where the policy may not be asked any more."""
        record = self._policy.spec.record
        return {name: np.zeros(spec.shape, dtype=spec.dtype) for name, spec in record.items()}


def _final_row(
    observation: Observation, ready_ns: int, extras: Arrays, action_size: int, *, killed: bool = False
) -> StepRow:
    nothing: Array = np.zeros(action_size, dtype=np.float32)
    action = ActionRecord(nothing, nothing, nothing, source=Phase.HOLD, valid=False)
    return StepRow(observation, action, 0.0, terminated=False, truncated=killed, obs_ready_ns=ready_ns, extras=extras)


@dataclass
class _Audience:
    """The listeners, and which of them have heard of this episode's start."""

    listeners: Sequence[Listener]
    started: list[Listener] = field(default_factory=list)

    def reset(self, observation: Observation, env: Env, seed: int) -> None:
        for listener in self.listeners:
            listener.on_reset(observation, env.spec, seed)
            self.started.append(listener)

    def decision(self, decision: Decision) -> None:
        for listener in self.started:
            listener.on_decision(decision)

    def step(self, row: StepRow) -> None:
        for listener in self.started:
            listener.on_step(row)

    def end(self, final: StepRow, end: EpisodeEnd) -> None:
        """Tell all of them, then raise what the first failing one raised."""
        failures: list[BaseException] = []
        for listener in self.started:
            try:
                listener.on_end(final, end)
            except BaseException as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def end_after(self, error: BaseException, final: StepRow, end: EpisodeEnd) -> None:
        """Tell all of them of an end by ``error``, which stays the error that is raised."""
        try:
            self.end(final, end)
        except Exception as failure:
            error.add_note(f"closing the episode failed as well: {failure}")


def _stop(env: Env, error: BaseException) -> None:
    try:
        env.stop()
    except Exception as failure:
        error.add_note(f"stopping the robot failed as well: {failure}")
