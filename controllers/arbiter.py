"""Who commands: a person before the policy before the reset, by control step; pure, fed with plans and step numbers.

Plans wait here, one per channel, and give one row per control step. Nothing in force means: hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from robot_rl.types import Arrays, Phase, TargetChunk

PRIORITY = (Phase.HUMAN, Phase.POLICY, Phase.RESET)
_CHANNEL = {Phase.SCRIPTED: Phase.POLICY, Phase.HOLD: Phase.POLICY}


@dataclass(frozen=True)
class Arbitration:
    """The verdict for one control step."""

    source: Phase
    row: Arrays | None  # absolute targets {part: [k]}; None: nothing in force
    following: Arrays | None  # the row after it, where the same plan holds one
    human: Arrays | None  # what the person asked for, also when nobody else was there


@dataclass
class Arbiter:
    """``max_open_loop_steps`` bounds how far past its arrival a plan runs."""

    max_open_loop_steps: int
    _plans: dict[Phase, tuple[TargetChunk, int]] = field(default_factory=dict)

    def reset(self) -> None:
        """Forget every plan."""
        self._plans.clear()

    def submit(self, chunk: TargetChunk, step: int) -> None:
        """Replace the plan of the chunk's channel; ``step`` is the control step it arrived in."""
        self._plans[_CHANNEL.get(chunk.source, chunk.source)] = (chunk, step)

    def withdraw(self, source: Phase) -> None:
        """Give up a channel at once, e.g. when the person lets go."""
        self._plans.pop(_CHANNEL.get(source, source), None)

    def decide(self, step: int) -> Arbitration:
        """The row in force during ``step``."""
        plans = dict(self._plans)  # one view of them, whatever another thread submits or forgets
        human = self._row(plans.get(Phase.HUMAN), step)
        for plan in map(plans.get, PRIORITY):
            row = self._row(plan, step)
            if plan is not None and row is not None:
                return Arbitration(plan[0].source, row, self._row(plan, step + 1), human)
        return Arbitration(Phase.HOLD, None, None, human)

    def _row(self, plan: tuple[TargetChunk, int] | None, step: int) -> Arrays | None:
        if plan is None:
            return None
        chunk, arrived = plan
        index = step - chunk.first_step
        if not 0 <= index < chunk.length or step >= arrived + self.max_open_loop_steps:
            return None
        return {name: value[index] for name, value in chunk.targets.items()}
