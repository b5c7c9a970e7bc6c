"""The set point of a moving arm never jumps to where it is measured: it brakes, and is latched at rest.

The arm of these tests follows its set points 60 ms late, as real ones do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError, ResetError
from robot_rl.types import Phase, ResetRequest, TargetChunk
from robot_rl_bridge.arm_description import GRIPPER, TCP, ResetRoutine
from robot_rl_bridge.arm_state import Measured
from robot_rl_bridge.modes import Mode
from tests.ros.driven_arm import TICK, Loop, bridged, speeds

pytestmark = pytest.mark.robot

LAG = 6  # ticks


class LateLoop(Loop):
    """An arm that is where it was sent LAG ticks ago, and moves accordingly."""

    @property
    def measured(self) -> Measured:
        if not hasattr(self, "_way"):
            self._way = deque([self.joints] * (LAG + 2), maxlen=LAG + 2)
        velocity = (self._way[1] - self._way[0]) / (TICK * 1e-9)
        return Measured(self._way[1].copy(), velocity, self.opening, self.now)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            super().tick(1)
            self._way.append(self.joints)


@pytest.fixture
def loop() -> LateLoop:
    """It moves at 0.2 m/s."""
    loop = LateLoop()
    loop.begin()
    loop.tick(5)
    for _ in range(12):
        loop.submit(loop.plan([0.01 * (k + 1) for k in range(10)]))
        loop.tick(5)
    assert speeds(loop.sent)[-1] > 0.15
    return loop


def test_a_reset_of_a_moving_arm_brakes_it_within_its_limits_before_it_is_latched(loop: LateLoop) -> None:
    start = loop.control.servo.pose[0]
    loop.control.begin_reset(loop.measured, loop.now, "to the start")
    assert not loop.control.settled
    ticks = 0
    while not loop.control.settled:
        loop.tick()
        ticks += 1
        assert ticks < 100
    speed = speeds(loop.sent)
    assert np.abs(np.diff(speed[-ticks - 2 :])).max() / 0.01 < loop.arm.safety_limits.max_acceleration_m_s2
    assert loop.control.servo.pose[0] > start  # it came to rest along its way
    loop.tick(5)
    np.testing.assert_allclose(loop.control.servo.pose, loop.arm.chain.pose(loop.measured.position), atol=1e-3)
    assert loop.control.modes.text == "resetting: to the start"


def test_a_moving_arm_is_neither_enabled_nor_is_its_fault_cleared(loop: LateLoop) -> None:
    loop.control.stop("paused")
    loop.tick(2)
    with pytest.raises(CommandRefusedError, match="the arm moves"):
        loop.control.enable(loop.measured, loop.now)
    loop.control.fail("reflex")
    with pytest.raises(CommandRefusedError, match="the arm moves"):
        loop.control.clear_fault(loop.measured, loop.now)
    assert loop.control.modes.text == "fault: reflex"
    loop.tick(60)
    loop.control.clear_fault(loop.measured, loop.now)
    loop.control.enable(loop.measured, loop.now)
    speed = speeds(loop.sent)
    assert np.abs(np.diff(speed[65:])).max() / 0.01 < loop.arm.safety_limits.max_acceleration_m_s2


def test_enabling_an_arm_that_is_enabled_and_moves_brakes_it(loop: LateLoop) -> None:
    loop.control.enable(loop.measured, loop.now)
    assert loop.control.modes.text == "holding: enabled"
    loop.tick(60)
    assert loop.control.at_rest
    assert np.abs(np.diff(speeds(loop.sent)[60:])).max() / 0.01 < loop.arm.safety_limits.max_acceleration_m_s2


def test_where_there_is_no_fault_none_is_cleared(loop: LateLoop) -> None:
    with pytest.raises(CommandRefusedError, match="tracking"):
        loop.control.clear_fault(loop.measured, loop.now)
    loop.tick(60)
    loop.control.stop()
    with pytest.raises(CommandRefusedError, match="stopped"):
        loop.control.clear_fault(loop.measured, loop.now)


def test_a_contact_is_cleared_once_the_arm_stands() -> None:
    loop = Loop(robot="fr3")
    loop.begin()
    pushed = np.full(7, 60.0)
    for _ in range(30):
        loop.control.tick(loop.now, replace(loop.measured, external=pushed))
        loop.now += TICK
    assert loop.control.modes.mode is Mode.FAULT
    for _ in range(100):
        loop.control.tick(loop.now, replace(loop.measured, external=np.zeros(7)))
        loop.now += TICK
    loop.control.clear_fault(loop.measured, loop.now)
    loop.control.tick(loop.now, loop.measured)
    assert loop.control.modes.text == "stopped: fault cleared"


def test_an_arm_that_is_pressed_on_for_seconds_is_held_and_does_not_creep() -> None:
    loop = Loop(robot="fr3")
    loop.begin()
    chain, wrench, faults = loop.arm.chain, np.array([0.0, 60.0, 0.0, 0.0, 0.0, 0.0]), list[str]()
    start, fail = loop.control.servo.pose, loop.control.fail
    loop.control.fail = lambda cause: (faults.append(cause), fail(cause))[1]  # type: ignore[method-assign]
    for _ in range(200):
        jacobian = chain.jacobian(loop.joints)
        bent = loop.joints + np.linalg.pinv(jacobian) @ (wrench / 60e3)  # it gives way by 1 mm
        loop.tick_at(replace(loop.measured, position=bent, external=jacobian.T @ wrench))
    assert np.linalg.norm([point.pose[:3] - start[:3] for point in loop.sent], axis=1).max() < 0.003
    assert len(faults) == 1


@pytest.mark.parametrize("fault_at", [2, 11, 30])
def test_a_fault_of_an_arm_whose_stream_has_frozen_does_not_make_it_jump(fault_at: int) -> None:
    loop = Loop()
    loop.begin()
    loop.tick(5)
    frozen = loop.measured
    loop.submit(loop.plan([0.01 * (k + 1) for k in range(20)]))
    for tick in range(100):
        silent = "joint_states" if tick > 25 else ""
        if tick == fault_at:
            loop.control.fail("reflex")
        loop.tick_at(frozen, silent)
    assert loop.control.at_rest and not loop.control.settled
    assert speeds(loop.sent).max() < 0.25  # as planned: 10 mm per 50 ms
    loop.tick(2)  # it is heard again, and latched
    assert loop.control.settled


def test_nothing_is_sent_once_deactivated_in_a_fault_nor_when_that_is_cleared() -> None:
    loop = Loop()
    loop.begin()
    loop.tick(5)
    loop.control.fail("reflex")
    loop.control.deactivate()
    sent = len(loop.sent)
    loop.tick(3)
    assert loop.control.modes.text == "fault: reflex"
    loop.control.clear_fault(loop.measured, loop.now)
    assert loop.control.modes.mode is Mode.IDLE
    with pytest.raises(CommandRefusedError, match="idle"):
        loop.control.enable(loop.measured, loop.now)
    with pytest.raises(CommandRefusedError, match="idle"):
        loop.control.begin_reset(loop.measured, loop.now, "")
    loop.tick(3)
    assert len(loop.sent) == sent
    loop.control.activate(loop.measured, loop.now)
    loop.tick(3)
    assert len(loop.sent) == sent + 3


@pytest.mark.parametrize("source", [Phase.POLICY, Phase.SCRIPTED, Phase.HOLD])
def test_every_source_of_a_client_needs_its_heartbeat(source: Phase) -> None:
    loop = Loop()
    loop.begin()
    loop.tick(5)
    loop.submit(replace(loop.plan([0.005 * (k + 1) for k in range(20)]), source=source))
    loop.tick(5)
    loop.alive = False
    loop.tick(27)
    assert loop.control.modes.text == "holding: client silent"


def test_a_client_may_not_pass_for_the_reset_routine() -> None:
    routine = ResetRoutine(by="motion", confirm=True, confirm_timeout_s=0.3)
    with bridged(reset=routine) as (robot, port):
        rows = np.tile(robot.arm.chain.pose(port.joints) + 0.05 * np.eye(7)[0], (4, 1))
        step, now_ns = robot.control.step_at(robot.clock.now_ns()), robot.clock.now_ns()
        chunk = TargetChunk({TCP: rows, GRIPPER: np.ones((4, 1))}, step, now_ns, Phase.RESET)
        with pytest.raises(CommandRefusedError, match="source RESET"):
            robot.command(chunk)
        with pytest.raises(ResetError, match="no operator"):
            robot.reset(ResetRequest())
