"""The arm tick by tick: who commands, for how long, and what is refused.

No thread, no clock and no ROS: ``tick`` is given the time and what was measured. What the rows in force become is in
``arm_motion``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from controllers.arbiter import Arbiter, Arbitration
from robot_rl.errors import CommandRefusedError, FarPlanError
from robot_rl.robots.target_check import checked_targets
from robot_rl.types import CommandReport, EnvSpec, Phase, TargetChunk
from robot_rl_bridge.arm_description import ArmDescription
from robot_rl_bridge.arm_motion import HOLD, ArmMotion
from robot_rl_bridge.arm_state import Measured, SetPoint, check_place, distance, still
from robot_rl_bridge.human_stream import HumanStream
from robot_rl_bridge.modes import Listener, Mode, Modes

HEARTBEAT_S = 0.25  # a plan runs while its client was heard of within this
OPEN_LOOP_S = 0.5  # and so long past its arrival
HUMAN_S = 0.25
OLDEST_PLAN_S = 1.0  # since the observation it was made from
FROZEN_S = 0.1  # a tick that comes so late finds an arm that others held
GATE = (0.05, 0.3)  # [m, rad] from the arm: a plan that starts further away does not end a hold
KEPT, HANDED_BACK = "the person commands no more and has not handed back", "handed back"


class ArmControl:
    """One arm under the part of commands (TCP or JOINTS) that ``spec`` holds. Not thread-safe: its owner locks."""

    def __init__(self, arm: ArmDescription, spec: EnvSpec, listener: Listener = lambda mode, cause: None) -> None:
        self.arm, self.spec, self.modes = arm, spec, Modes(listener)
        self.motion = ArmMotion(arm, spec)
        self.servo, self.safety, self.gripper = self.motion.servo, self.motion.safety, self.motion.gripper
        self.part, self.period_ns, self.tick_s = self.motion.part, self.motion.period_ns, self.motion.tick_s
        step_s = 1.0 / spec.step_rate_hz
        steps = [max(int(limit_s / step_s + 1e-9), 1) for limit_s in (OPEN_LOOP_S, HUMAN_S)]
        self.arbiter = Arbiter(steps[0], steps[1])
        self.human = HumanStream(spec.action, step_s, HUMAN_S)
        self.counts: Counter[str] = Counter()  # rows and plans not taken, layers of the safety chain, limits reached
        self.halted_ns = (0, 0)  # when the last limit was reached, and when braking began for it
        self._tick_ns = self._seen_ns = self._heard_ns = 0
        self._moved_ns = -1  # when the set point moved last
        self._active, self.settled = False, True  # settled: at rest where it was measured, since that was asked for
        self._begin_at(0)

    # --- modes --------------------------------------------------------------------------------------------------------

    def activate(self, measured: Measured, now_ns: int) -> None:
        """Hold where the arm is measured; commands are refused until a reset or ``enable``. Raises CommandRefusedError
        when it is outside of its limits."""
        check_place(self.arm, self.safety.inside, measured)
        self._begin_at(now_ns)
        self._latch(measured, now_ns)
        self._active = True
        self.modes.enter(Mode.STOPPED, "activated")

    def deactivate(self) -> None:
        """Send nothing any more, in a fault too, which stays one."""
        self._active = False
        self.modes.enter(Mode.IDLE, "not active")

    def enable(self, measured: Measured, now_ns: int, cause: str = "enabled", *, keep: bool = False) -> None:
        """Hold where the arm is measured and take plans that start near it; one that was enabled and moves brakes.
        With ``keep`` it is still held for a person who had left it. Raises CommandRefusedError when idle, in a fault or
        while the arm moves without being enabled."""
        self.require_active()
        check_place(self.arm, self.safety.inside, measured)
        self._kept &= keep
        if self.modes.enabled and not self.stands(measured):
            self.hold(cause, now_ns)
        else:
            self._require_rest(measured)
            self._latch(measured, now_ns)
        self._gated = True
        self.modes.enter(Mode.HOLDING, KEPT if self._kept else cause)

    def begin_reset(self, measured: Measured, now_ns: int, cause: str) -> None:
        """Nobody but the reset routine commands: brake to rest, from where the set point is, and be ``settled`` there.
        Raises CommandRefusedError when idle or in a fault."""
        self.require_active()
        self._begin_at(now_ns)
        self.arbiter.reset(now_ns)
        self.human.let_go()
        self._changed = True
        self.settled = False
        self._settle(measured, now_ns)
        self.modes.enter(Mode.RESETTING, cause)

    def mute(self) -> None:
        """Send nothing until the arm is latched anew: a simulator moves it."""
        self._muted = True

    def end_reset(self, measured: Measured, start_ns: int, now_ns: int) -> None:
        """Step 0 of an episode begins at ``start_ns``; what was observed before counts for nothing."""
        self._begin_at(start_ns)
        self._latch(measured, now_ns)
        self.motion.report_reset()
        self.modes.enter(Mode.TRACKING)

    def stop(self, cause: str = "stopped", *, keep: bool = False) -> None:
        """Brake to hold; commands are refused until the next reset. ``keep`` is for ``enable``."""
        self.arbiter.reset(self.motion.start_ns)
        self.human.let_go()
        self._kept &= keep
        if self.modes.mode is not Mode.IDLE:
            self.modes.enter(Mode.STOPPED, cause)

    def hold(self, cause: str, reached_ns: int) -> None:
        """A limit was reached at a time: brake to hold; a plan that starts near the arm goes on."""
        if not self.modes.enabled or (self.modes.mode is Mode.HOLDING and self._gated):
            return
        self.arbiter.reset(self.motion.start_ns)
        self.counts[f"held: {cause}"] += 1
        self._gated, self.halted_ns = True, (reached_ns, 0)
        self.modes.enter(Mode.HOLDING, cause)

    def fail(self, cause: str) -> None:
        """Brake to hold until the fault is cleared, at rest where the arm is measured: set points that press on
        what stopped it would do so again once the arm recovers."""
        self.arbiter.reset(self.motion.start_ns)
        self.human.let_go()
        self._kept = self.settled = False
        self.counts["faults"] += self.modes.mode is not Mode.FAULT
        self.modes.enter(Mode.FAULT, cause)

    def clear_fault(self, measured: Measured, now_ns: int) -> None:
        """Leave the fault, stopped; the arm is held where it is measured. Raises CommandRefusedError when there is no
        fault, or while the arm moves."""
        if self.modes.mode is not Mode.FAULT:
            raise CommandRefusedError(f"the robot is in mode '{self.modes.text}'", remedy="There is no fault to clear")
        self.rest(measured, now_ns)
        self.modes.clear("fault cleared")
        if not self._active:
            self.modes.enter(Mode.IDLE, "not active")

    def rest(self, measured: Measured, now_ns: int) -> None:
        """Hold the arm where it is measured, while anything is sent. Raises CommandRefusedError while it moves."""
        if self._active:
            self._require_rest(measured)
            self._latch(measured, now_ns)

    def stands(self, measured: Measured) -> bool:
        """Whether the set point and the arm are at rest: what was measured while the set point moved tells nothing of
        where the arm stands now."""
        return self.at_rest and measured.stamp_ns > self._moved_ns and still(self.arm.chain, measured)

    def _require_rest(self, measured: Measured) -> None:
        if not self.stands(measured):
            raise CommandRefusedError("the arm moves", remedy="Stop it, and try again when it is at rest")

    def require_active(self) -> None:
        """Raise CommandRefusedError when idle or in a fault."""
        if self.modes.mode is Mode.FAULT:
            raise CommandRefusedError(f"the robot is in mode '{self.modes.text}'", remedy="Clear it with ~/clear_fault")
        if not self._active:
            raise CommandRefusedError(f"the robot is in mode '{self.modes.text}'", remedy="Activate the bridge first")

    # --- plans --------------------------------------------------------------------------------------------------------

    def step_at(self, now_ns: int) -> int:
        """The control step that runs at a time."""
        return self.motion.step_at(now_ns)

    def left_ns(self, now_ns: int) -> int:
        """Of the control step that runs at a time."""
        return self.motion.left_ns(now_ns)

    def decided(self, step: int) -> bool:
        """Whether ``step`` has begun, so that the report of the one before is there."""
        return self.motion.step >= step or not self._active

    def report(self, step: int) -> CommandReport | None:
        """What became of ``step``, or of the newest before it that has ended."""
        return self.motion.report(step)

    def heartbeat(self, now_ns: int) -> None:
        """The client that commands was heard."""
        self._heard_ns = now_ns

    def submit(self, chunk: TargetChunk, now_ns: int) -> None:
        """Replace the plan of the chunk's source. Rows that are past are dropped and counted. Raises
        CommandRefusedError; the plan in force then runs out."""
        checked = checked_targets(chunk, self.spec.action)
        if checked.source is not Phase.RESET or self.modes.mode is not Mode.RESETTING:
            self.modes.require_enabled()
        left = checked.remaining(self.step_at(now_ns))
        self.counts["late rows"] += checked.length - left.length
        if left.length == 0:
            return
        age_s = (now_ns - checked.stamp_ns) * 1e-9
        if age_s > OLDEST_PLAN_S:
            self.counts["old plans"] += 1
            raise CommandRefusedError(
                f"the plan was made from an observation of {age_s:.2f} s ago", limit=f"{OLDEST_PLAN_S} s"
            )
        passes = self._passes_gate(left)
        step = self.motion.commanded_step(now_ns)
        if step >= left.first_step + left.length:  # a single row comes too late to be compensated
            left = replace(left.remaining(left.first_step + left.length - 1), first_step=step)
        self.arbiter.submit(left, step, now_ns)
        self._changed, self._gated = True, self._gated and not passes

    def hand_back(self) -> None:
        """The person gives the arm back, whose stream may still be heard: a plan that starts near it goes on."""
        if not self._kept:
            return
        self._kept = False
        self.human.let_go()
        self.arbiter.withdraw(Phase.POLICY)  # it was made while others had the arm
        if self.modes.mode is Mode.HOLDING:
            self.modes.enter(Mode.HOLDING, HANDED_BACK)

    def _passes_gate(self, plan: TargetChunk) -> bool:
        """Whether ``plan`` may end a hold. Raises FarPlanError for one that starts too far from the arm, unless a
        person keeps it: then no plan is followed anyway."""
        if not self._gated or self.part not in plan.targets or (self._kept and plan.source is not Phase.HUMAN):
            return not self._gated
        far_m, far_rad = distance(self.part, plan.targets[self.part][0], self.servo.measured)
        if far_m > GATE[0] or far_rad > GATE[1]:
            self.counts["far plans"] += 1
            raise FarPlanError(
                f"the arm is held ({self.modes.cause}) and the plan starts {far_m:.3f} m, {far_rad:.2f} rad from it",
                limit=f"{GATE[0]} m, {GATE[1]} rad",
                remedy="Plan from the newest observation, or reset",
            )
        return True

    # --- ticks --------------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int, measured: Measured, silent: str = "") -> SetPoint | None:
        """The set point of this tick; None while idle, and after a standstill until something new is measured.
        ``silent`` says which streams are."""
        if not self._active or self._muted or not self._awake(now_ns, measured):
            self._tick_ns = now_ns
            return None
        if not silent:
            self._settle(measured, now_ns)
        self._blind = bool(silent)
        self._watch(silent, now_ns)
        step = self.motion.commanded_step(now_ns)
        if step != self.motion.step:
            self.counts.update(self.motion.end_step(step))
        self._hear_human(step, now_ns)
        self._arbitrate(step, now_ns)
        point = self.motion.tick(measured)
        if not self.at_rest:
            self._moved_ns = now_ns
        if self.servo.fault and self.modes.mode is not Mode.FAULT:  # once: a force that lasts is not yielded to anew
            self.fail(self.servo.fault)
        if self.halted_ns[0] and not self.halted_ns[1]:
            self.halted_ns = (self.halted_ns[0], now_ns)
        return point

    @property
    def at_rest(self) -> bool:
        """Whether the set point stands."""
        return self.motion.at_rest

    def _awake(self, now_ns: int, measured: Measured) -> bool:
        """After a standstill the arm is where others held it: it is latched anew, once that was measured."""
        late_ns, self._tick_ns = now_ns - self._tick_ns, now_ns
        if late_ns > FROZEN_S * 1e9:
            self.hold("control stood still", now_ns)
            self.human.let_go()
            self._seen_ns = now_ns
        if self._seen_ns and measured.stamp_ns > self._seen_ns:
            self._latch(measured, now_ns)
        return not self._seen_ns

    def _settle(self, measured: Measured, now_ns: int) -> None:
        """Who is to be latched is so once it is at rest: a moving set point does not jump."""
        if not self.settled and self.stands(measured):
            self._latch(measured, now_ns)

    def _watch(self, silent: str, now_ns: int) -> None:
        """Time limits by receive time."""
        if silent:
            self.hold(f"{silent} silent", now_ns)
        unheard_ns, verdict = now_ns - self._heard_ns - round(HEARTBEAT_S * 1e9), self.motion.verdict
        of_client = verdict.row is not None and verdict.source not in (Phase.HUMAN, Phase.RESET)
        if unheard_ns > 0 and of_client:  # a person's plan runs no longer anyway
            self.hold("client silent", now_ns - unheard_ns)

    def _hear_human(self, step: int, now_ns: int) -> None:
        """The person's stream is a plan from where the set point is, renewed every step as long as it is heard. It may
        have broken when it ends: the policy gets the arm back when that is said."""
        heard = self.modes.enabled and not self._blind and self.human.alive(now_ns)
        if heard and self._human_step != step:
            self._human_step, self._gated, self._changed, self._kept = step, False, True, True
            self.arbiter.submit(self.human.plan(self.servo.pose, step, now_ns), step, now_ns)
        elif not heard and self._human_step >= 0:
            self._human_step, self._changed = -1, True
            self.human.let_go()
            self.arbiter.withdraw(Phase.HUMAN)
            self.hold(KEPT if self._kept else HANDED_BACK, now_ns)

    def _arbitrate(self, step: int, now_ns: int) -> None:
        """Follow the row in force where a step begins, and within it where another came in."""
        begins, self._decided_step = step != self._decided_step, step
        withdrawn = self.motion.verdict.row is not None and self.arbiter.silent
        if not (begins or self._changed or withdrawn):
            return
        self._changed = False
        verdict = self._decide(step, now_ns)
        if not self.arbiter.silent and not self._blind and self.motion.coasts(verdict, step):
            return
        if self.motion.follow(verdict, step, now_ns, begins):
            self._tell_mode(verdict)

    def _decide(self, step: int, now_ns: int) -> Arbitration:
        """Whose row is in force."""
        moving = (self.modes.enabled or self.modes.mode is Mode.RESETTING) and not self._blind
        verdict = self.arbiter.decide(step) if moving else HOLD
        if verdict.source is Phase.HUMAN:
            still_held = self.human.alive(now_ns) and self.human.still(now_ns)
            return Arbitration(Phase.HUMAN, None, None, verdict.human) if still_held else verdict
        return HOLD if self._kept and self._human_step < 0 else verdict

    def _tell_mode(self, verdict: Arbitration) -> None:
        if not self.modes.enabled:
            return
        if verdict.source is Phase.HUMAN:
            self.modes.enter(Mode.TELEOP)
        elif verdict.row is not None:
            self.modes.enter(Mode.TRACKING)
        elif self.modes.mode is not Mode.HOLDING and self.motion.row_step >= 0:
            self.modes.enter(Mode.HOLDING, "nothing in force")

    # --- state --------------------------------------------------------------------------------------------------------

    def _latch(self, measured: Measured, now_ns: int) -> None:
        """Whatever was commanded before, the arm rests where it is measured."""
        self.arbiter.reset(self.motion.start_ns)
        self.human.let_go()
        self.motion.latch(measured)
        self._seen_ns, self._tick_ns, self._heard_ns = 0, now_ns, now_ns
        self.settled, self._changed, self._muted = True, True, False

    def _begin_at(self, start_ns: int) -> None:
        self.motion.begin_at(start_ns)
        self._decided_step = self._human_step = -1
        self._gated = self._blind = self._muted = self._kept = self._changed = False
