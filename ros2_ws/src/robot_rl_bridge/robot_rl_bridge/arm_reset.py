"""A reset of the arm: the operator's word, the way to the start or the simulator's word, rest, a look where it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from robot_rl.errors import ResetError, StaleObservationError
from robot_rl.types import Array, Phase, ResetRequest, TargetChunk
from robot_rl_bridge.arm_description import GRIPPER, JOINTS
from robot_rl_bridge.modes import Mode
from robot_rl_bridge.reset_routine import goal, joint_way, tcp_way, verify

if TYPE_CHECKING:
    from robot_rl_bridge.bridged_arm import BridgedArm

_POLL_S = 0.002
_STILL = (0.02, 0.05)  # m/s, rad/s of an arm at rest


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
            arm.control.begin_reset(arm.measured(), arm.clock.now_ns(), cause)
        dead_man = self._confirm()
        until_s = time.monotonic() + request.timeout_s
        with arm.lock:
            arm.check_resetting()
            arm.control.modes.enter(Mode.RESETTING, "to the start")
        if self._routine.by == "simulator":
            self._simulate(until_s)
        else:
            self._travel(pose, joints, until_s, dead_man)
        self._await(self._at_rest, until_s, "did not come to rest")
        verify(arm.arm, arm.arm.chain, arm.measured(), pose, joints)

    def _confirm(self) -> bool:
        """Wait for the operator's word or dead-man; whether it was the dead-man. Raises ResetError."""
        if not self._arm.confirm:
            return False
        self._arm.operator.clear()
        until_s = time.monotonic() + self._routine.confirm_timeout_s
        while not self._arm.operator.wait(_POLL_S):
            self._arm.check_resetting()
            if self._pressed():
                return True
            if time.monotonic() > until_s:
                raise ResetError(
                    "no operator has confirmed the reset",
                    limit=f"{self._routine.confirm_timeout_s} s",
                    remedy="Call ~/confirm_reset or hold the dead-man when the way is clear",
                )
        return False

    def _pressed(self) -> bool:
        return self._arm.control.human.alive(self._arm.clock.now_ns())

    def _simulate(self, until_s: float) -> None:
        with self._arm.lock:
            self._arm.control.mute()
        self._arm.port.reset_simulator(self._request, max(until_s - time.monotonic(), 0.1))
        self._arm.sensors.restart()
        self._await(
            lambda: not self._arm.sensors.silent(self._arm.clock.now_ns()) and self._known(),
            until_s,
            "was not measured",
        )

    def _known(self) -> bool:
        """Whether every stream is alive and has something."""
        if self._arm.sensors.silent(self._arm.clock.now_ns()):
            return False
        try:
            self._arm.sensors.now()
        except StaleObservationError:
            return False
        return True

    def _travel(self, pose: Array, joints: Array | None, until_s: float, dead_man: bool) -> None:
        """Feed the arbiter's reset channel with the way, step by step."""
        arm, control, clock = self._arm, self._arm.control, self._arm.clock
        rows = self._way(pose, joints)
        targets = {control.part: rows, GRIPPER: np.full((len(rows), 1), self._request.gripper_opening)}
        first = control.step_at(clock.now_ns()) + 1
        chunk = TargetChunk(targets, first, clock.now_ns(), Phase.RESET)
        while (step := control.step_at(clock.now_ns())) < first + chunk.length:
            arm.sensors.require(clock.now_ns())
            if dead_man and not self._pressed():
                raise ResetError("the dead-man was let go", remedy="Reset again and hold it until the arm is there")
            if time.monotonic() > until_s:
                raise ResetError("the way to the start takes too long", remedy="Allow a longer timeout_s")
            with arm.lock:
                arm.check_resetting()
                left = chunk.remaining(max(step, first))
                control.submit(replace(left, stamp_ns=clock.now_ns()), clock.now_ns())
            clock.wait_until(clock.now_ns() + control.period_ns // 2)

    def _way(self, pose: Array, joints: Array | None) -> Array:
        control, step_s = self._arm.control, self._arm.control.period_ns * 1e-9
        if control.part == JOINTS and joints is None:
            raise ResetError("the arm is commanded by joints", remedy="Give joint_position in the reset request")
        if control.part == JOINTS and joints is not None:
            return joint_way(control.servo.reference, joints, self._routine, step_s)
        ceiling_m = self._arm.arm.safety_limits.box_upper_m[2]
        return tcp_way(control.servo.reference, pose, self._routine, step_s, ceiling_m)

    def _at_rest(self) -> bool:
        measured, control = self._arm.measured(), self._arm.control
        speed = np.abs(self._arm.arm.chain.jacobian(measured.position) @ measured.velocity)
        still = bool(speed[:3].max() < _STILL[0] and speed[3:].max() < _STILL[1])
        return still and (self._routine.by == "simulator" or control.at_rest)

    def _await(self, condition: Callable[[], bool], until_s: float, what: str) -> None:
        while not condition():
            self._arm.check_resetting()
            if time.monotonic() > until_s:
                raise ResetError(f"the arm {what} at the start of the episode", remedy="See its topics and its state")
            time.sleep(_POLL_S)
