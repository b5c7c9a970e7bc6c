"""The plan that each batch row is executing, for policies that continue it instead of starting anew."""

from __future__ import annotations

import numpy as np

from robot_rl.types import ActContext, Array


class LastPlans:
    """Remembers the last chunk of every row and from which control step on it holds.

    A plan is void after a reset, at both edges of an intervention, and whenever the loop says that another one is in
    force: who asks then starts anew.
    """

    def __init__(self) -> None:
        self._plans: dict[int, tuple[int, Array]] = {}

    def reset(self, rows: Array) -> None:
        """Rows [R] begin new episodes."""
        for row in np.asarray(rows).tolist():
            self._plans.pop(int(row), None)

    def continued(self, context: ActContext, horizon: int, size: int) -> tuple[Array, Array]:
        """(plans [B, T_p, A] from the current step on, their last action repeated at the end; how many of their rows
        were planned [B], 0 where no plan is in force)."""
        batch = len(context.step)
        plans, left = np.zeros((batch, horizon, size), dtype=np.float32), np.zeros(batch, dtype=np.int64)
        for row in range(batch):
            done = int(context.executed_since_plan[row])
            start, plan = self._plans.get(row, (0, plans[row]))
            known = row in self._plans and start == int(context.step[row]) - done
            if not known or not 0 < done < horizon or bool(context.takeover[row]):
                continue
            left[row] = horizon - done
            plans[row, : horizon - done], plans[row, horizon - done :] = plan[done:], plan[-1]
        return plans, left

    def remember(self, context: ActContext, chunks: Array) -> None:
        """Chunks [B, T_p, A] hold from the current step on."""
        for row, (step, chunk) in enumerate(zip(context.step.tolist(), chunks, strict=True)):
            self._plans[row] = int(step), chunk
