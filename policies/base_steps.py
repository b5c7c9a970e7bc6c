"""A base's plans one control step at a time, for policies that change them at every step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from robot_rl.interfaces import Policy
from robot_rl.types import ActContext, Array, Arrays


@dataclass
class _Plan:
    start: int  # control step of its first action
    base: Array  # [T_a, A], as the base planned it
    actions: Array  # [T_a, A], as far as it was executed as it was changed
    asked: int  # control step of the last question
    decision: dict[str, Array] = field(default_factory=dict)  # what it was made of, such as noise


class BaseSteps:
    """Asks the base when the loop would ask it alone: once its plan is executed, after a reset, and at both edges of
    an intervention. Asked again about the same step it says the same."""

    def __init__(self, base: Policy) -> None:
        self.base = base
        self._plans: dict[int, _Plan] = {}

    def reset(self, rows: Array, seeds: Array) -> None:
        """Rows [R] begin the episodes ``seeds`` [R]: what was planned before is forgotten."""
        self.base.reset(rows, seeds)
        for row in np.asarray(rows).tolist():
            self._plans.pop(int(row), None)

    def next(self, window: Arrays, context: ActContext) -> Array:
        """Windows {key: [B, T_o, ...]} -> the base's actions [B, A] of the steps in ``context``."""
        steps = [int(step) for step in context.step]
        due = [self._due(row, step, context) for row, step in enumerate(steps)]
        if any(due):
            spec = self.base.spec
            seen = {key: window[key][:, -spec.history :] for key in spec.observation}
            executed = np.array([self._executed(row, step, context) for row, step in enumerate(steps)])
            made = self.base.act(seen, replace(context, executed_since_plan=executed))
            for row in (row for row, wanted in enumerate(due) if wanted):
                decision = {name: np.array(value[row]) for name, value in made.decision.items()}
                plan = np.array(made.actions[row, : spec.execute])
                self._plans[row] = _Plan(steps[row], plan, plan.copy(), steps[row], decision)
        for row, step in enumerate(steps):
            self._plans[row].asked = step
        return np.stack([plan.base[plan.asked - plan.start] for plan in self._rows(len(steps))])

    def changed(self, actions: Array) -> tuple[Array, Array, Array]:
        """The plans in force [B, T_a, A] with ``actions`` [B, A] now, what the base planned, and how many of their
        steps lie behind [B]."""
        plans = self._rows(len(actions))
        for plan, action in zip(plans, actions, strict=True):
            plan.actions[plan.asked - plan.start] = action
        begun = np.array([plan.asked - plan.start for plan in plans])
        return np.stack([plan.actions for plan in plans]), np.stack([plan.base for plan in plans]), begun

    def decision(self, batch: int) -> dict[str, Array]:
        """What the plans in force were made of, {name: [B, ...]}."""
        plans = self._rows(batch)
        return {name: np.stack([plan.decision[name] for plan in plans]) for name in plans[0].decision}

    def _rows(self, batch: int) -> list[_Plan]:
        return [self._plans[row] for row in range(batch)]

    def _due(self, row: int, step: int, context: ActContext) -> bool:
        plan = self._plans.get(row)
        if plan is None or bool(context.takeover[row]):
            return True
        if step == plan.asked:
            return False
        executed = self._executed(row, step, context)
        return not executed or executed >= len(plan.base)

    def _executed(self, row: int, step: int, context: ActContext) -> int:
        """Steps of the plan in force that lie behind ``step``; 0 where none is."""
        plan, done = self._plans.get(row), int(context.executed_since_plan[row])
        follows = plan is not None and plan.start == step - done and not bool(context.takeover[row])
        return done if follows else 0
