"""Success by a classifier of camera frames instead of the task's rule: around any env, and around its recorder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from robot_rl.interfaces import Clock, Env, Listener
from robot_rl.runtime.frame_scorer import FrameScorer
from robot_rl.runtime.success_rule import SuccessCounter, SuccessJudge
from robot_rl.types import (
    Array,
    Arrays,
    ArraySpec,
    Decision,
    EnvSpec,
    EpisodeEnd,
    Observation,
    Phase,
    StepResult,
    StepRow,
    TargetChunk,
)

EXTRAS: Mapping[str, ArraySpec] = {
    "success_score": ArraySpec(()),  # of the row's frames, in [0, 1]; NOT_SCORED where it came too late
    "success_version": ArraySpec((), "int32"),  # of the classifier
    "rule_success": ArraySpec((), "bool"),  # what the task's rule said of the step, to compare
}
NOT_SCORED = -1.0


class ClassifiedEnv:
    """Success, reward (1 or 0) and the end by success are what ``judge`` says; the rest is the env's.

    In real time frames are scored on another thread, so that a success is noticed once its score is there, a step or
    more later, and no step waits; in simulated time at once. Frames that were skipped or lost are left out of the row
    of frames that a success takes. ``version`` is recorded.
    """

    def __init__(self, env: Env, judge: SuccessJudge, version: int = 0) -> None:
        self._env, self.version, self.judges = env, version, True
        self._scorer, self._counter = FrameScorer(judge), SuccessCounter(judge.rule)
        self._scores: dict[int, float] = {}
        self._by_rule: set[int] = set()  # control steps that the task's rule calls a success

    @property
    def spec(self) -> EnvSpec:
        return self._env.spec

    @property
    def max_steps(self) -> int:
        return self._env.max_steps

    @property
    def clock(self) -> Clock:
        return self._env.clock

    @property
    def inner(self) -> Env:
        """The env whose success is called here."""
        return self._env

    @property
    def by_rule(self) -> Env:
        """The env as its task's own rule judges it; this one where there is no rule."""
        return self._env if getattr(self._env, "judges", True) else self

    @property
    def rule_success(self) -> bool:
        """Whether the task's rule has called the running episode a success."""
        return bool(self._by_rule)

    def reset(self, seed: int) -> Observation:
        """Start the episode of that seed."""
        observation = self._env.reset(seed)
        self._scorer.reset()
        self._counter.reset()
        self._scores, self._by_rule = {}, set()
        self._see(observation)
        return observation

    def anchor(self, actions: Array, observation: Observation, source: Phase = Phase.POLICY) -> TargetChunk:
        """As the env's."""
        return self._env.anchor(actions, observation, source)

    def hold(self) -> TargetChunk:
        """As the env's."""
        return self._env.hold()

    def step(self, plan: TargetChunk) -> StepResult:
        """One control step, judged by the scores that are there. Raises RobotRlError when frames cannot be scored."""
        result = self._env.step(plan)
        if result.success:
            self._by_rule.add(result.observation.step - 1)
        success = self._see(result.observation)
        terminated = success or (result.terminated and not result.success)
        over = result.truncated or result.observation.step >= self.max_steps
        return replace(
            result, reward=float(success), success=success, terminated=terminated, truncated=over and not terminated
        )

    def _see(self, observation: Observation) -> bool:
        """Have it scored; whether the scores that have come in complete a success."""
        self._scorer.submit(observation)
        if self.clock.stepped:
            self._scorer.wait()
        success = False
        for frame in self._scorer.take():
            self._scores[frame.step] = frame.score
            success |= self._counter.add(frame.score, frame.position_m)
        return success

    def extras(self, step: int) -> Arrays:
        """EXTRAS of the row of control step ``step``, as far as they are known now."""
        return {
            "success_score": np.array(self._scores.get(step, NOT_SCORED), dtype=np.float32),
            "success_version": np.array(self.version, dtype=np.int32),
            "rule_success": np.array(step in self._by_rule),
        }

    def stop(self) -> None:
        """As the env's."""
        self._env.stop()

    def close(self) -> None:
        """Close the env and end the scoring."""
        self._scorer.close()
        self._env.close()


class ScoreRecorder:
    """Adds scores to what a recorder hears; the recorder declares EXTRAS. ``verdicts`` counts the episodes by (success
    by the classifier, success by the rule)."""

    def __init__(self, recorder: Listener, env: ClassifiedEnv) -> None:
        self._recorder, self._env = recorder, env
        self.verdicts: Counter[tuple[bool, bool]] = Counter()

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._recorder.on_reset(observation, spec, seed)

    def on_decision(self, decision: Decision) -> None:
        self._recorder.on_decision(decision)

    def on_step(self, row: StepRow) -> None:
        self._recorder.on_step(self._scored(row))

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        self.verdicts[bool(end.success), self._env.rule_success] += 1
        if end.judged_by == "rule":
            end = replace(end, judged_by=f"classifier {self._env.version:07x}")
        self._recorder.on_end(self._scored(final), end)

    def _scored(self, row: StepRow) -> StepRow:
        return replace(row, extras={**row.extras, **self._env.extras(row.observation.step)})
