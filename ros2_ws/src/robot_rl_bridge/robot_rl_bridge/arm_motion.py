"""From the rows in force to set points: what the arm heads for within a step, and what became of each step.

Control step k of an episode lasts from start + k T to start + (k + 1) T; row k of a plan is due at its end. Ticks
divide the step. A plan that comes within a step is joined there, so that its rows are reached when they are due: the
next row where less than half a step is left.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from controllers.arbiter import Arbitration
from controllers.gripper import Gripper
from controllers.joint_safety import JointSafetyChain
from controllers.safety import LAYERS, SafetyChain
from robot_rl.types import Array, CommandReport, EnvSpec, Phase
from robot_rl_bridge.arm_description import GRIPPER, JOINTS, TCP, ArmDescription
from robot_rl_bridge.arm_state import Measured, SetPoint
from robot_rl_bridge.position_servo import JointPositionServo, PoseServo

HOLD = Arbitration(Phase.HOLD, None, None, None)
AFTER_END_S = 0.1  # so long past its end a plan's last row is still headed for, coming to rest
_MOST_REPORTS = 64
_AT_REST = 1e-4  # m/s, rad/s of the set point


class ArmMotion:
    """Safety chain, servo and gripper of one arm under the part of commands (TCP or JOINTS) that ``spec`` holds."""

    def __init__(self, arm: ArmDescription, spec: EnvSpec) -> None:
        self.part = TCP if TCP in spec.action.by_name else JOINTS
        self.period_ns, self.tick_s = spec.step_period_ns, 1.0 / arm.control_rate_hz
        step_s, limits = 1.0 / spec.step_rate_hz, arm.safety_limits
        if self.part == JOINTS:
            self.safety: SafetyChain | JointSafetyChain = JointSafetyChain(limits, arm.chain, step_s)
            self.servo: PoseServo | JointPositionServo = JointPositionServo(arm.chain, limits, arm.home, step_s)
        else:
            self.safety, self.servo = SafetyChain(limits, step_s), PoseServo(arm.chain, limits, arm.home, step_s)
        self.gripper = Gripper()
        self._latency_ns = round(arm.command.latency_s * 1e9)
        self._reports: dict[int, CommandReport] = {}
        self.begin_at(0)

    # --- steps --------------------------------------------------------------------------------------------------------

    def begin_at(self, start_ns: int) -> None:
        """Step 0 begins at a time; what was before is forgotten."""
        self.start_ns = start_ns
        self.step = self.row_step = -1  # that runs; of the newest row in force
        self._reports.clear()

    def step_at(self, now_ns: int) -> int:
        """The control step that runs at a time."""
        return (now_ns - self.start_ns) // self.period_ns

    def commanded_step(self, now_ns: int) -> int:
        """The step whose set point is sent now: what takes ``latency_s`` to be seen is sent so much earlier."""
        return self.step_at(now_ns + self._latency_ns)

    def left_ns(self, now_ns: int) -> int:
        """Of the control step that runs at a time."""
        return self.period_ns - (now_ns - self.start_ns) % self.period_ns

    def end_step(self, step: int) -> Counter[str]:
        """Report the step that ended, ``step`` begins; what the layers changed in it. Jumps are measured from where the
        set point came to."""
        reached, counts = self.servo.reference, self.safety.counts + self.servo.arm.counts
        layers = {name: count for name, count in zip(LAYERS, counts.tolist(), strict=True) if count}
        self.safety.counts[:] = 0
        self.servo.arm.counts[:] = 0
        if self.step >= 0:
            executed = {self.part: reached, GRIPPER: np.array([self.gripper.opening])}
            self._reports[self.step] = CommandReport(
                self.step, self._source, self._wish, executed, self._human, self._fresh, layers
            )
            self._reports.pop(self.step - _MOST_REPORTS, None)
        self.safety.latch(reached)
        self.step, self._fresh, self._source, self._human = step, False, Phase.HOLD, None
        return Counter(layers)

    def report(self, step: int) -> CommandReport | None:
        """What became of ``step``, or of the newest before it that has ended."""
        ended = [known for known in self._reports if known <= step]
        return self._reports[max(ended)] if ended else None

    def report_reset(self) -> None:
        """The episode begins with what a reset has commanded."""
        self._reports[-1] = CommandReport(-1, Phase.RESET, self._wish, self._wish)

    # --- set points ---------------------------------------------------------------------------------------------------

    def latch(self, measured: Measured) -> None:
        """Whatever was commanded before, the arm rests where it is measured."""
        self.servo.reset(measured.position)
        self.safety.reset(self.servo.reference, measured.opening)
        self.gripper.reset({"gripper_opening": np.array([measured.opening])})
        self._opening = measured.opening
        self.verdict, self._wish = HOLD, self._in_force()
        self._fresh, self._source, self._human = False, Phase.HOLD, None

    @property
    def at_rest(self) -> bool:
        """Whether the set point stands."""
        return bool(np.abs(self.servo.speed).max() < _AT_REST)

    def coasts(self, verdict: Arbitration, step: int) -> bool:
        """Whether a plan has just ended: it comes to rest along its own path, and a stream of single rows has no
        gaps."""
        ended = verdict.source is Phase.HOLD and self.verdict.row is not None
        return ended and (step - self.row_step) * self.period_ns <= AFTER_END_S * 1e9

    def follow(self, verdict: Arbitration, step: int, now_ns: int, begins: bool) -> bool:
        """Head for the row in force where a step ``begins``, and within it where another came in; whether one did."""
        if not begins and _same(verdict, self.verdict):
            return False
        if verdict.source is not self.verdict.source:
            self.safety.join()
        self.verdict = verdict
        row, self._wish = verdict.row or {}, {**self._in_force(), **(verdict.row or {})}
        if verdict.human and not row:  # who holds the arm still may move its gripper
            self._wish[GRIPPER] = verdict.human.get(GRIPPER, self._wish[GRIPPER])
        if verdict.source is not Phase.HOLD:
            self._source, self._human = verdict.source, verdict.human
        wish, following, within_ns = self._wish[self.part], None, self.period_ns
        if row:
            self._fresh, self.row_step = True, step
            wish, following, within_ns = self._joined(verdict, step, now_ns, begins)
        opening = float(self._wish[GRIPPER][0])
        target, self._opening = self.safety.set_point(wish, opening, np.array(self.servo.measured))
        if following is not None and not np.allclose(target, wish, rtol=0.0, atol=1e-9):
            following = None  # what comes after a set point that was cut short is not where that one leads
        if row:
            self.servo.begin(target, following, within_ns * 1e-9)
        else:
            self.servo.begin(self.servo.reference, None, within_ns * 1e-9, moving=False)
        return True

    def _joined(self, verdict: Arbitration, step: int, now_ns: int, begins: bool) -> tuple[Array, Array | None, int]:
        """What to head for, what comes after it, and within which time it is reached when it is due."""
        wish, following = self._wish[self.part], (verdict.following or {}).get(self.part)
        left_ns = self.start_ns + (step + 1) * self.period_ns - now_ns - self._latency_ns
        if begins:
            return wish, following, self.period_ns
        if 2 * left_ns >= self.period_ns:
            return wish, following, left_ns
        if following is not None:
            return following, None, left_ns + self.period_ns
        return wish, None, self.period_ns

    def tick(self, measured: Measured) -> SetPoint:
        """The set point of this tick."""
        if measured.external is not None:
            self.servo.arm.external[:] = measured.external
        self.servo.tick(measured.position, self.tick_s)
        return SetPoint(self.servo.pose, self.servo.joints, self.gripper.move(self._opening, self.tick_s))

    def _in_force(self) -> dict[str, Array]:
        target, opening = self.safety.last
        return {self.part: target, GRIPPER: np.array([opening])}


def _same(new: Arbitration, old: Arbitration) -> bool:
    """Whether the row in force is what it was."""
    if new.source is not old.source or new.row is None or old.row is None:
        return new.source is old.source and new.row is old.row
    return new.row.keys() == old.row.keys() and all(np.array_equal(new.row[n], old.row[n]) for n in new.row)
