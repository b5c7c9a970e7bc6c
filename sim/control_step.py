"""One control step of an arm: who commands, what the safety chain makes of it, and the report of what was done."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from controllers.arbiter import Arbiter, Arbitration
from controllers.safety import WORKSPACE
from robot_rl.types import Array, CommandReport, Phase
from sim.world import World

GRIPPER = "arm0/gripper"
_CHANGED = 1e-9  # [m, half a rad]
_HOLD = Arbitration(Phase.HOLD, None, None, None)


class ControlStep:
    """Begun and ended at step rate; in between physics runs under the servo."""

    def __init__(self, world: World, arbiter: Arbiter) -> None:
        self._world, self._arbiter = world, arbiter
        self.reset()

    def reset(self) -> CommandReport:
        """An episode starts; returns the report of what the arm is latched onto."""
        self._verdict = _HOLD
        self._wish = self._last_set_point()
        return CommandReport(-1, Phase.RESET, self._wish, self._wish)

    def begin(self, step: int) -> Array:
        """Arbitrate and hand the checked set point to servo and gripper; returns that of the arm."""
        world = self._world
        verdict, before = self._arbiter.decide(step), self._verdict
        if verdict.source is not before.source:
            world.safety.join()
        self._verdict = verdict
        self._wish = {**self._last_set_point(), **(verdict.row or {})}
        wished = self._wish[world.part]
        wish = world.possible(wished)
        if wish is not wished:
            world.safety.counts[WORKSPACE] += _differ(wish, wished)
        target, opening = world.safety.set_point(wish, float(self._wish[GRIPPER][0]), world.measured)
        following = None if verdict.following is None else verdict.following.get(world.part)
        if following is not None:
            following = world.possible(following)
        if following is not None and _differ(target, wish):
            following = None  # what comes after a set point that was cut short is not where that one leads
        world.servo.begin(target, following, moving=verdict.row is not None)
        world.drive_gripper(opening)
        return target

    def go_on(self) -> None:
        """Within a step: an arm that was stopped since the step began brakes at once."""
        if self._verdict.row is not None and self._arbiter.silent:
            self._verdict = replace(_HOLD, human=self._verdict.human)
            self._world.servo.begin(self._world.servo.arrays.reference.copy(), moving=False)

    def end(self, step: int) -> CommandReport:
        """What became of the commands of this step."""
        verdict, world = self._verdict, self._world
        reached = world.servo.arrays.reference.copy()
        world.safety.latch(reached)
        return CommandReport(
            step, verdict.source, self._wish, {world.part: reached, GRIPPER: np.array([world.gripper.opening])},
            human=verdict.human, valid=verdict.row is not None, interventions=world.take_interventions(),
        )  # fmt: skip

    def lost(self, step: int) -> CommandReport:
        """The report of a step that physics did not survive."""
        held = self._last_set_point()
        return CommandReport(step, self._verdict.source, self._wish, held, human=self._verdict.human, valid=False)

    def _last_set_point(self) -> dict[str, Array]:
        target, opening = self._world.safety.last
        return {self._world.part: target, GRIPPER: np.array([opening])}


def _differ(a: Array, b: Array) -> bool:
    return a.tobytes() != b.tobytes() and not math.dist(a, b) <= _CHANGED
