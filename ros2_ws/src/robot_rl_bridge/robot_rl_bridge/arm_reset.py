"""A reset of the arm: the operator's word, the way to the start or the simulator's word, rest, a look where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from robot_rl.errors import ResetError
from robot_rl.types import Array, Phase, ResetRequest, TargetChunk
from robot_rl_bridge.arm_description import GRIPPER, JOINTS
from robot_rl_bridge.arm_state import distance, still
from robot_rl_bridge.modes import Mode
from robot_rl_bridge.reset_routine import goal, lifted_joint_way, tcp_way, verify

if TYPE_CHECKING:
    from robot_rl_bridge.bridged_arm import BridgedArm

_POLL_S = 0.002
_THERE = 1e-3  # m, rad of the set point from the end of its way


class ArmReset:
    """One reset of ``arm`` to the start that ``request`` names; ended by whatever ends the mode RESETTING."""

    def __init__(self, arm: BridgedArm, request: ResetRequest) -> None:
        self._arm, self._request, self._routine = arm, request, arm.arm.reset

    def run(self) -> None:
        """Returns with the arm at rest at the start. Raises ResetError, StaleObservationError."""
        arm, request = self._arm, self._request
        if request.simulator_state and self._routine.by != "simulator":
            raise ResetError(
                f"'{next(iter(request.simulator_state))}' is placed by a simulator only",
                remedy="On hardware a person arranges the objects: operator_text",
            )
        pose, joints = goal(arm.arm, request)
        arm.sensors.require(arm.clock.now_ns())
        with arm.lock:
            cause = "waiting for the operator" if arm.confirm else "to the start"
            released = arm.control.human.quiet(arm.clock.now_ns())
            arm.control.begin_reset(arm.measured(), arm.clock.now_ns(), cause)
        until_s = time.monotonic() + request.timeout_s
        self._await(lambda: arm.control.settled, until_s, "did not come to rest")
        dead_man = self._confirm(released)
        until_s = time.monotonic() + request.timeout_s
        with arm.lock:
            arm.check_resetting()
            arm.control.modes.enter(Mode.RESETTING, "to the start")
        if self._routine.by == "simulator":
            self._simulate(until_s)
        else:
            self._travel(pose, joints, until_s, dead_man)
        self._await(self._at_rest, until_s, "did not come to rest at the start")
        verify(arm.arm, arm.arm.chain, arm.measured(), pose, joints)

    def _confirm(self, released: bool) -> bool:
        """Wait for the operator's word or dead-man, which counts once it was ``released``; whether it was the dead-man.
        Raises ResetError."""
        if not self._arm.confirm:
            return False
        self._arm.operator.clear()
        until_s = time.monotonic() + self._routine.confirm_timeout_s
        while not self._arm.operator.wait(_POLL_S):
            self._arm.check_resetting()
            released = released or self._arm.control.human.quiet(self._arm.clock.now_ns())
            if released and self._pressed():  # held all along, it is not an answer to this reset
                return True
            if time.monotonic() > until_s:
                raise ResetError(
                    "no operator has confirmed the reset",
                    limit=f"{self._routine.confirm_timeout_s} s",
                    remedy="Call ~/confirm_reset or hold the dead-man when the way is clear",
                )
        return False

    def _pressed(self) -> bool:
        return self._arm.control.human.steers(self._arm.clock.now_ns())

    def _simulate(self, until_s: float) -> None:
        arm = self._arm
        with arm.lock:
            arm.control.mute()
        time.sleep(arm.arm.command.timeout_s)  # what was sent before must not be followed afterwards
        arm.port.reset_simulator(self._request, max(until_s - time.monotonic(), 0.1))
        answered_ns = arm.clock.now_ns()
        arm.sensors.restart()  # what is still on its way was measured before
        self._await(lambda: arm.sensors.all_after(answered_ns), until_s, "was not measured at the start")

    def _travel(self, pose: Array, joints: Array | None, until_s: float, dead_man: bool) -> None:
        """Feed the arbiter's reset channel with the way, step by step."""
        arm, control, clock = self._arm, self._arm.control, self._arm.clock
        rows = self._way(pose, joints)
        targets = {control.part: rows, GRIPPER: np.full((len(rows), 1), self._request.gripper_opening)}
        chunk = TargetChunk(targets, control.step_at(clock.now_ns()) + 1, clock.now_ns(), Phase.RESET)
        end, there = chunk.first_step + chunk.length, False
        while not there:
            arm.sensors.require(clock.now_ns())
            if dead_man and not self._pressed():
                raise ResetError("the dead-man was let go", remedy="Reset again and hold it until the arm is there")
            if time.monotonic() > until_s:
                raise ResetError("the way to the start takes too long", remedy="Allow a longer timeout_s")
            with arm.lock:
                arm.check_resetting()
                now_ns = clock.now_ns()
                step = max(control.step_at(now_ns), chunk.first_step)
                left = chunk.remaining(min(step, end - 1))  # its last row until it is reached
                control.submit(replace(left, first_step=step, stamp_ns=now_ns), now_ns)
                there = step >= end and max(distance(control.part, rows[-1], control.servo.reference)) < _THERE
            clock.wait_until(clock.now_ns() + control.period_ns // 2)

    def _way(self, pose: Array, joints: Array | None) -> Array:
        control, step_s = self._arm.control, self._arm.control.period_ns * 1e-9
        if control.part == JOINTS and joints is None:
            raise ResetError("the arm is commanded by joints", remedy="Give joint_position in the reset request")
        ceiling_m = self._arm.arm.safety_limits.box_upper_m[2]
        if control.part == JOINTS and joints is not None:
            chain = self._arm.arm.chain
            return lifted_joint_way(chain, control.servo.reference, joints, self._routine, step_s, ceiling_m)
        return tcp_way(control.servo.reference, pose, self._routine, step_s, ceiling_m)

    def _at_rest(self) -> bool:
        measured = self._arm.measured()
        is_still = still(self._arm.arm.chain, measured)
        return is_still and (self._routine.by == "simulator" or self._arm.control.at_rest)

    def _await(self, condition: Callable[[], bool], until_s: float, what: str) -> None:
        while not condition():
            self._arm.check_resetting()
            if time.monotonic() > until_s:
                raise ResetError(f"the arm {what}", remedy="See its topics and its state")
            time.sleep(_POLL_S)
