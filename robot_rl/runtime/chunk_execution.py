"""Receding-horizon execution of a policy's chunks, for one episode (diffusion policy, section 3.2; Chi et al. 2023)."""

from __future__ import annotations

from dataclasses import replace

from robot_rl.interfaces import Env
from robot_rl.types import ActionChunk, Array, Observation, Phase, TargetChunk


class ChunkExecution:
    """Which row of which chunk is due at which step.

    A chunk starts at the step it was made for, is anchored once, and is replaced after ``execute`` steps; one that has
    ``begun`` goes on from where the one before it was anchored, with what is left of that changed. Both edges
    of a human intervention void the plan. While a human commands, the policy's plan is only followed in shadow and the
    env is told to hold, so that nothing stale is in force when control comes back. A human has the arm when the loop
    knows (``observe``) or when the robot reports one of its own, e.g. at the bridge. A plan that the robot did not
    follow, because it held for reasons of its own, is void as well: what comes next starts where the arm is. That
    nothing was in force while the policy still thought does not count.
    """

    def __init__(self, env: Env, source: Phase = Phase.POLICY) -> None:
        self._env, self._source = env, source
        self._chunk: ActionChunk | None = None
        self._row = 0  # of the batch the chunk came with
        self._start = self._length = self._sent = 0
        self._plan: TargetChunk | None = None
        self._anchor: Observation | None = None
        self._known = False  # the loop gave the last step to a human
        self.human = False
        self.takeover = False  # control just came back from a human, or from a hold of the robot's own

    def observe(self, observation: Observation, human: bool = False) -> bool:
        """Notice who is in command, ``human`` where the loop knows it; True when a new chunk is needed for this
        step."""
        report = observation.report
        reported = report is not None and report.source is Phase.HUMAN and self._source is not Phase.HUMAN
        self._known, human = human, human or (reported and not self._known)
        held = not human and report is not None and report.source is Phase.HOLD and report.step >= self._sent
        self.takeover = held or (self.human and not human)
        if held or human is not self.human:
            self._chunk = None
        self.human = human
        return self._chunk is None or observation.step - self._start >= self._length

    def executed_since_plan(self, step: int) -> int:
        """Steps of the current chunk that lie behind ``step``; 0 without a chunk."""
        return step - self._start if self._chunk is not None else 0

    def accept(self, chunk: ActionChunk, observation: Observation, row: int = 0, late: int = 0) -> None:
        """Take row ``row`` of the batch ``chunk`` as the plan from ``observation`` on; it is sent ``late`` steps after
        that."""
        self._chunk, self._row, self._plan = chunk, row, None
        begun = 0 if chunk.begun is None else int(chunk.begun[row])
        if not begun or self._anchor is None:
            self._anchor = observation
        self._start, self._sent = observation.step - begun, observation.step + late
        self._length = max(1, min(begun + chunk.execute, chunk.actions.shape[1]))

    def plan(self, observation: Observation) -> TargetChunk:
        """The absolute targets to send at this step; the env sends what remains of them."""
        if self.human:
            return self._env.hold()
        if self._plan is None:
            chunk = self._current()
            plan = self._env.anchor(chunk.actions[self._row], self._anchor or observation)
            self._plan = plan if plan.source is self._source else replace(plan, source=self._source)
        return self._plan

    @property
    def start(self) -> int:
        """The control step of the current chunk's first row."""
        return self._start

    def action(self, step: int) -> Array:
        """The policy's own action [A] for ``step``, in physical units."""
        return self._current().actions[self._row, step - self._start]

    def extras(self, step: int) -> dict[str, Array]:
        """The declared per-step extras of ``step``, {name: [...]}."""
        chunk = self._current()
        place = (self._row, step - self._start, ...)  # an array also where an extra is a single number
        return {name: value[place] for name, value in chunk.record.items()}

    @property
    def version(self) -> int:
        """Version of the weights that made the current chunk."""
        return self._current().version

    def _current(self) -> ActionChunk:
        assert self._chunk is not None, "accept a chunk first"
        return self._chunk
