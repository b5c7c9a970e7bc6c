"""Who commands: a person before the policy before the reset, by control step; pure, fed with plans and step numbers.

Plans wait here, one per channel, and give one row per control step. Nothing in force means: hold. Within a channel
plans are ordered by their stamp, the time of the observation they were made from: an older one never replaces a newer
one, and none made before the reset counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from robot_rl.errors import CommandRefusedError, ConfigError
from robot_rl.types import Arrays, Phase, TargetChunk

PRIORITY = (Phase.HUMAN, Phase.POLICY, Phase.RESET)
_CHANNEL = {Phase.SCRIPTED: Phase.POLICY, Phase.HOLD: Phase.POLICY}
_AHEAD_NS = 50_000_000  # a plan from further in the future has a stamp of another clock


@dataclass(frozen=True)
class Arbitration:
    """The verdict for one control step."""

    source: Phase
    row: Arrays | None  # absolute targets {part: [k]}; None: nothing in force
    following: Arrays | None  # the row after it, where the same plan holds one
    human: Arrays | None  # what the person asked for, also when nobody else was there


@dataclass
class Arbiter:
    """``max_open_loop_steps`` bounds how far past its arrival a plan runs, ``max_human_steps`` that of a person. Who
    falls silent keeps the arm for ``hand_back_steps`` more, held: a gap in the stream is no hand-over to the policy."""

    max_open_loop_steps: int
    max_human_steps: int
    hand_back_steps: int = 2
    refused: Counter[str] = field(default_factory=Counter)  # plans that were not taken, by reason
    _plans: dict[Phase, tuple[TargetChunk, int]] = field(default_factory=dict)  # and the step it ends with
    _newest: dict[Phase, int] = field(default_factory=dict)  # stamp [ns] by channel
    _since_ns: int = -1  # of the reset
    _human_until: int = -1  # step

    def __post_init__(self) -> None:
        if min(self.max_open_loop_steps, self.max_human_steps) < 1 or self.hand_back_steps < 0:
            raise ConfigError(
                f"plans run for {self.max_open_loop_steps} steps, a person's for {self.max_human_steps}, "
                f"hand-back takes {self.hand_back_steps}",
                limit="at least 1, at least 1, at least 0",
            )

    def reset(self, stamp_ns: int = -1) -> None:
        """Forget every plan; those made from an observation before ``stamp_ns`` are refused from now on."""
        self._plans.clear()
        self._newest.clear()
        self._since_ns, self._human_until = stamp_ns, -1

    def submit(self, chunk: TargetChunk, step: int, now_ns: int | None = None) -> None:
        """Replace the plan of the chunk's channel; ``step`` is the control step it arrived in, ``now_ns`` the time.

        Raises CommandRefusedError for a plan older than the one in force, or than the reset, or from the future; the
        plan in force then runs on.
        """
        channel = _CHANNEL.get(chunk.source, chunk.source)
        if chunk.stamp_ns < self._since_ns:
            self._refuse(chunk, "before_reset", f"the reset at {self._since_ns / 1e9:.3f} s")
        newest = self._newest.get(channel)
        if newest is not None and chunk.stamp_ns < newest:
            self._refuse(chunk, "older", f"the newest plan's {newest / 1e9:.3f} s")
        if now_ns is not None and chunk.stamp_ns > now_ns + _AHEAD_NS:
            self._refuse(chunk, "future", f"now, {now_ns / 1e9:.3f} s, and {_AHEAD_NS / 1e9} s")
        if chunk.source is not Phase.HOLD:  # holding is no plan: one from an older observation may end it
            self._newest[channel] = chunk.stamp_ns
        longest = self.max_human_steps if channel is Phase.HUMAN else self.max_open_loop_steps
        self._plans[channel] = (chunk, min(chunk.first_step + chunk.length, step + longest))

    def _refuse(self, chunk: TargetChunk, reason: str, limit: str) -> None:
        self.refused[reason] += 1
        raise CommandRefusedError(
            f"a plan of {chunk.source.name.lower()} was made from an observation of {chunk.stamp_ns / 1e9:.3f} s",
            limit=limit,
            remedy="Send plans in the order of their observations, with the stamp of the robot's clock",
        )

    def withdraw(self, source: Phase) -> None:
        """Give up a channel at once, e.g. when the person lets go."""
        self._plans.pop(_CHANNEL.get(source, source), None)
        if source is Phase.HUMAN:
            self._human_until = -1

    @property
    def silent(self) -> bool:
        """Whether no channel holds a plan, as after a reset."""
        return not self._plans

    def decide(self, step: int) -> Arbitration:
        """The row in force during ``step``; steps only go forward between resets."""
        plans = dict(self._plans)  # one view of them, whatever another thread submits or forgets
        human = self._row(plans.get(Phase.HUMAN), step)
        if human is not None:
            self._human_until = step + self.hand_back_steps
        elif step <= self._human_until:
            return Arbitration(Phase.HUMAN, None, None, None)
        for plan in map(plans.get, PRIORITY):
            row = self._row(plan, step)
            if plan is not None and row is not None:
                return Arbitration(plan[0].source, row, self._row(plan, step + 1), human)
        return Arbitration(Phase.HOLD, None, None, human)

    def _row(self, plan: tuple[TargetChunk, int] | None, step: int) -> Arrays | None:
        if plan is None:
            return None
        chunk, end = plan
        index = step - chunk.first_step
        if index < 0 or step >= end:
            return None
        return {name: value[index] for name, value in chunk.targets.items()}
