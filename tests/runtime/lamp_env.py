"""An env whose lamp is lit in given control steps, and a judge that sees it: for success by camera."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from robot_rl.interfaces import Clock
from robot_rl.runtime.clock import SimulatedClock
from robot_rl.runtime.success_rule import SuccessRule
from robot_rl.types import (
    ActionRecord,
    Array,
    Arrays,
    ArraySpec,
    EnvSpec,
    Observation,
    Phase,
    PolicySpec,
    StepResult,
    TargetChunk,
)
from tests.learning.judged_episodes import SIDE, SPEC, lamp_observation

PERIOD_NS = 1_000_000


class LampEnv:
    """Lit in the observations ``lit``; the rule calls step ``rule_step`` a success, ``failed_step`` a failure end."""

    def __init__(
        self,
        lit: Sequence[int] = (),
        *,
        max_steps: int = 10,
        clock: Clock | None = None,
        rule_step: int = -1,
        failed_step: int = -1,
        lost: Sequence[int] = (),
    ) -> None:
        self.lit, self.lost, self.max_steps = lit, lost, max_steps
        self.rule_step, self.failed_step = rule_step, failed_step
        self.clock: Clock = clock or SimulatedClock()
        self.closed = self.stopped = False
        self._now = 0

    @property
    def spec(self) -> EnvSpec:
        return SPEC

    def _observe(self) -> Observation:
        seen = lamp_observation(self._now in self.lit, self._now)
        frames = {} if self._now in self.lost else seen.frames
        return Observation(seen.step, seen.stamp_ns, seen.state, frames)

    def reset(self, seed: int) -> Observation:
        self._now = 0
        return self._observe()

    def anchor(self, actions: Array, observation: Observation, source: Phase = Phase.POLICY) -> TargetChunk:
        return TargetChunk({"arm0/tcp": actions}, observation.step, observation.stamp_ns, source)

    def hold(self) -> TargetChunk:
        return TargetChunk({"arm0/tcp": np.zeros((1, 3))}, self._now, 0, Phase.HOLD)

    def step(self, plan: TargetChunk) -> StepResult:
        step, self._now = self._now, self._now + 1
        self.clock.wait_until(self.clock.now_ns() + PERIOD_NS)
        nothing = np.zeros(3, np.float32)
        success, failed = step == self.rule_step, step == self.failed_step
        over = self._now >= self.max_steps and not (success or failed)
        action = ActionRecord(nothing, nothing, nothing)
        return StepResult(self._observe(), action, float(success), success or failed, over, success)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self.closed = True


class LampJudge:
    """Scores 0.9 where the lamp is lit, else 0.1; waits for ``may_go`` before every score."""

    cameras = ("front",)
    image_size = (SIDE, SIDE)

    def __init__(self) -> None:
        self.spec = PolicySpec({"images/front": ArraySpec((SIDE, SIDE, 3), "uint8")}, SPEC.action)
        self.rule = SuccessRule(0.5, 3)
        self.may_go = threading.Event()
        self.may_go.set()

    def probability(self, window: Arrays) -> Array:
        assert self.may_go.wait(10.0)
        return np.where(window["images/front"][:, 0, 8, 8, 0] > 100, 0.9, 0.1)

    def position_m(self, state: Arrays) -> Array:
        return np.asarray(state["arm0/tcp_pose"])[..., :3]
