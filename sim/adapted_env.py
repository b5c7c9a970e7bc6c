"""A simulator of others behind the Env contract: what all adapters have in common.

An adapter is a ``Simulator``: it names observation and action in an EnvSpec, starts by seed and steps by targets.
Clock, plans, time limit, refusals and what is reported of a command are here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from robot_rl.errors import CommandRefusedError, ConfigError, SimulationDivergedError
from robot_rl.interfaces import Clock
from robot_rl.runtime.action_targets import express, integrate
from robot_rl.runtime.clock import SimulatedClock
from robot_rl.runtime.frame_codec import compressed
from robot_rl.runtime.set_points import targets_in_force
from robot_rl.types import (
    ActionKind,
    ActionRecord,
    Array,
    Arrays,
    CommandReport,
    EnvSpec,
    Frame,
    Observation,
    Phase,
    StepResult,
    TargetChunk,
    check_finite,
)


@dataclass(frozen=True)
class Seen:
    """What a simulator shows: vectors by name and RGB images uint8 [h, w, 3] by camera, as its spec says."""

    state: Arrays
    images: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of one control step. ``truncated`` is an end by anything but the task, such as a limit of its own."""

    seen: Seen
    reward: float
    success: bool = False
    terminated: bool = False
    truncated: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)


class Simulator(Protocol):
    """A simulated task as its authors made it; some are also Drawing, or Restoring."""

    @property
    def spec(self) -> EnvSpec: ...

    def reset(self, seed: int) -> Seen:
        """Start the episode of ``seed``: equal seeds give equal episodes, in any order of resets."""
        ...

    def step(self, targets: Arrays) -> Outcome:
        """One control step towards ``targets`` {part: [k]}, which are finite."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Drawing(Protocol):
    """A simulator that can draw itself."""

    def render(self) -> Array:
        """RGB image [h, w, 3] uint8 of the present."""
        ...


@runtime_checkable
class Restoring(Protocol):
    """A simulator that can start from an observation."""

    def restore(self, state: Arrays) -> Seen:
        """Start where ``state`` {name: [...]} was seen. Raises ResetError when that does not tell the whole start."""
        ...


class AdaptedEnv:
    """Env over a Simulator; ``max_steps`` is the only time limit that it needs.

    Targets pass no safety chain, so what is commanded is what is executed. ``hold`` keeps the target in force (the
    measured state after a reset); a raw action has no such target: holding it means zero, or the limit next to zero.
    ``side_by_side`` is how many of it an evaluation may keep in memory. A step before the first reset, after ``stop``
    or after the end of the episode raises CommandRefusedError, a state that is not finite SimulationDivergedError.
    """

    def __init__(self, simulator: Simulator, max_steps: int, side_by_side: int = 50) -> None:
        if max_steps < 1 or side_by_side < 1:
            simulator.close()
            raise ConfigError(f"max_steps={max_steps}, side_by_side={side_by_side}", limit="at least 1")
        self._simulator, self._max_steps, self.side_by_side = simulator, max_steps, side_by_side
        self._clock = SimulatedClock()
        self._observation: Observation | None = None
        self._refusal = "has not been reset"
        self._frames = 0
        self._closed = False
        # present only where the simulator can, because the loop's listeners and replay ask by looking for the method
        if isinstance(simulator, Drawing):
            self.render = simulator.render
        if isinstance(simulator, Restoring):
            self.restore = self._restore

    @property
    def spec(self) -> EnvSpec:
        return self._simulator.spec

    @property
    def max_steps(self) -> int:
        return self._max_steps

    @property
    def clock(self) -> Clock:
        return self._clock

    @property
    def simulator(self) -> Simulator:
        """The adapted simulator, for tests and drills; the loop does not need it."""
        return self._simulator

    def reset(self, seed: int) -> Observation:
        """Start the episode of ``seed``. Raises what the simulator raises; the env then takes no step."""
        if self._closed:
            raise CommandRefusedError(f"{self.spec.task} is closed", remedy="Make a new one")
        self._refusal = "was not reset to the end"
        return self._start(self._simulator.reset(seed))

    def anchor(self, actions: Array, observation: Observation, source: Phase = Phase.POLICY) -> TargetChunk:
        """A plan [H, A] as absolute targets, clipped to the limits of the spec."""
        targets = integrate(self.spec.action, actions, targets_in_force(self.spec.action, observation, source))
        return TargetChunk(targets, observation.step, observation.stamp_ns, source)

    def hold(self) -> TargetChunk:
        """One step of the targets in force; zero for a raw action."""
        observation = self._current()
        targets = {name: value[None] for name, value in self._held(observation).items()}
        return TargetChunk(targets, observation.step, observation.stamp_ns, source=Phase.HOLD)

    def step(self, plan: TargetChunk) -> StepResult:
        """One control step under the plan's set point of this step; parts that it leaves out are held."""
        before = self._current()
        if self._refusal:
            raise CommandRefusedError(f"{self.spec.task} {self._refusal}", remedy="Reset it first")
        plan = plan.remaining(before.step)
        if plan.length == 0:
            raise CommandRefusedError(f"the plan has no set point for step {before.step}", remedy="Plan further")
        targets = {**self._held(before), **{name: np.asarray(rows[0]) for name, rows in plan.targets.items()}}
        for name, value in targets.items():
            check_finite(name, value)
        action = express(self.spec.action, targets, targets_in_force(self.spec.action, before, plan.source))
        outcome = self._simulator.step(targets)
        self._clock.wait_until(before.stamp_ns + self.spec.step_period_ns)
        after = self._observe(outcome.seen, before.step + 1, CommandReport(before.step, plan.source, targets, targets))
        truncated = not outcome.terminated and (outcome.truncated or after.step >= self._max_steps)
        self._observation = after
        if outcome.terminated or truncated:
            self._refusal = "has ended"
        return StepResult(
            after,
            ActionRecord(action, action, action, plan.source, human=action if plan.source is Phase.HUMAN else None),
            reward=float(outcome.reward),
            terminated=outcome.terminated,
            truncated=truncated,
            success=outcome.success,
            info=outcome.info,
        )

    def stop(self) -> None:
        """No more steps until the next reset."""
        self._refusal = self._refusal or "is stopped"

    def close(self) -> None:
        """Stop and release the simulator; idempotent."""
        self.stop()
        if not self._closed:
            self._closed = True
            self._simulator.close()

    def _restore(self, state: Arrays) -> Observation:
        """Start where the observation ``state`` was made."""
        assert isinstance(self._simulator, Restoring)
        self._refusal = "was not reset to the end"
        return self._start(self._simulator.restore(state))

    def _start(self, seen: Seen) -> Observation:
        self._observation = self._observe(seen, 0, None)
        self._refusal = ""
        return self._observation

    def _current(self) -> Observation:
        if self._observation is None:
            raise CommandRefusedError(f"{self.spec.task} {self._refusal}", remedy="Call reset(seed) first")
        return self._observation

    def _held(self, observation: Observation) -> dict[str, Array]:
        held = dict(targets_in_force(self.spec.action, observation))
        for part in self.spec.action.parts:
            if part.kind is ActionKind.RAW:
                held[part.name] = np.clip(np.zeros(part.size), part.low, part.high)
        return held

    def _observe(self, seen: Seen, step: int, report: CommandReport | None) -> Observation:
        stamp_ns = self._clock.now_ns()
        state = {name: np.array(seen.state[name], dtype=np.float32).reshape(-1) for name in self.spec.observation}
        for name, value in state.items():
            if not np.isfinite(value).all():
                self._refusal = "has diverged"
                raise SimulationDivergedError(f"{self.spec.task}: '{name}' holds {value} at step {step}")
        frames = {name: self._frame(image, stamp_ns) for name, image in seen.images.items()}
        self._frames += bool(frames)
        return Observation(step, stamp_ns, state, frames, report)

    def _frame(self, image: Array, stamp_ns: int) -> Frame:
        height, width, channels = image.shape
        return compressed(Frame(image.tobytes(), stamp_ns, self._frames, height, width, channels, codec="raw"))
