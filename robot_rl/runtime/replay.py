"""Stored actions as a policy, and how far a replay strays from its recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from robot_rl.errors import InvalidArrayError, ResetError
from robot_rl.interfaces import Env
from robot_rl.types import (
    ActContext,
    ActionChunk,
    Array,
    Arrays,
    Decision,
    EnvSpec,
    EpisodeEnd,
    Observation,
    PolicySpec,
    StepRow,
)


class ReplayPolicy:
    """Plays ``actions`` [N, A] from step 0 on, in plans of ``horizon`` rows that begin at the steps ``starts``.

    Recorded starts and horizon give the robot the same look ahead as it had; without them the whole is one plan. The
    last action is repeated beyond the end.
    """

    def __init__(
        self, actions: Array, spec: EnvSpec, starts: Sequence[int] | Array = (0,), horizon: int | None = None
    ) -> None:
        if actions.ndim != 2 or len(actions) == 0 or actions.shape[1] != spec.action.size:
            raise InvalidArrayError(f"actions have shape {list(actions.shape)}", limit=f"[N, {spec.action.size}]")
        self._horizon = horizon or len(actions)
        tail = np.repeat(actions[-1:], self._horizon, axis=0)
        self._actions, self._length = np.concatenate((actions, tail)), len(actions)
        self._starts = np.unique(np.asarray(starts, dtype=np.int64))
        self.spec = PolicySpec({}, spec.action, horizon=self._horizon, execute=self._horizon)

    def reset(self, rows: Array, seeds: Array) -> None:
        """Nothing is remembered."""

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        """The plan from the step on, to be executed until the next recorded one begins."""
        step = int(context.step[0])
        following = self._starts[self._starts > step]
        execute = int(following[0]) - step if len(following) else self._horizon
        start = min(step, self._length - 1)
        plan = self._actions[start : start + self._horizon]
        return ActionChunk(np.repeat(plan[None], len(context.step), axis=0), min(execute, self._horizon))


@runtime_checkable
class Restoring(Protocol):
    """An env that can start from a recorded observation instead of a seed."""

    def restore(self, state: Arrays) -> Observation:
        """Start where the observation ``state`` {name: [...]} was made."""
        ...


def from_recording(env: Env, seed: int | None, state: Arrays) -> tuple[Env, int]:
    """The env and the seed that start where a recording did: by its seed, or at its first observation ``state``.

    Raises ResetError when the recording has no seed and the env cannot start from an observation.
    """
    if seed is not None:
        return env, int(seed)
    if isinstance(env, Restoring):
        return _Restored(env, state), 0
    raise ResetError("the recording has no reset seed", remedy="Only simulators that can restore a state replay it")


class _Restored:
    """An env whose resets all go to one recorded observation."""

    def __init__(self, env: Any, state: Arrays) -> None:
        self._env, self._state = env, state
        self.spec, self.max_steps, self.clock = env.spec, env.max_steps, env.clock
        self.anchor, self.step, self.hold = env.anchor, env.step, env.hold
        self.stop, self.close = env.stop, env.close

    def reset(self, seed: int) -> Observation:
        """The recorded start, whatever the seed."""
        return self._env.restore(self._state)


class Deviation:
    """Listener: the largest difference per observation between a replay and what was recorded, {name: [N, ...]}."""

    def __init__(self, recorded: Arrays) -> None:
        self._recorded = dict(recorded)
        self.largest: dict[str, float] = {}
        self.at_step: dict[str, int] = {}
        self._sum: dict[str, float] = {}
        self._rows = 0

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self.largest, self.at_step, self._sum, self._rows = {}, {}, {}, 0

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        self._compare(row.observation)

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        self._compare(final.observation)

    def mean(self, name: str) -> float:
        """Mean over the steps of the largest difference within an observation."""
        return self._sum[name] / self._rows

    def _compare(self, observation: Observation) -> None:
        self._rows += 1
        for name, rows in self._recorded.items():
            if name not in observation.state or observation.step >= len(rows):
                continue
            difference = float(np.abs(observation.state[name] - rows[observation.step]).max())
            self._sum[name] = self._sum.get(name, 0.0) + difference
            if difference > self.largest.get(name, -1.0):
                self.largest[name], self.at_step[name] = difference, observation.step
