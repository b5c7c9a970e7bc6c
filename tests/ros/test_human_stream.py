"""What a person's messages may do to the arm: velocity and opening count each for itself, and for one intervention."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError, ResetError
from robot_rl.types import ResetRequest
from robot_rl_bridge.arm_description import GRIPPER, ResetRoutine
from robot_rl_bridge.modes import Mode
from tests.ros.driven_arm import MS, Loop, bridged, wait_for

pytestmark = pytest.mark.robot

ALONG_X = np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0])


@pytest.fixture
def loop() -> Loop:
    loop = Loop()
    loop.begin()
    return loop


def steer(loop: Loop, times: int, opening: float | None = None) -> None:
    for _ in range(times):
        loop.control.human.hear(ALONG_X, "base", loop.now)
        if opening is not None:
            loop.control.human.hear_opening(opening, loop.now)
        loop.tick(2)


@pytest.mark.parametrize("pause_s", [1.0, 30.0])
def test_an_opening_moves_the_gripper_and_revives_no_velocity(loop: Loop, pause_s: float) -> None:
    steer(loop, 20)
    loop.tick(round(pause_s * 100))
    start = loop.control.servo.pose
    loop.control.human.hear_opening(0.0, loop.now)
    loop.tick(60)
    np.testing.assert_allclose(loop.control.servo.pose, start, atol=1e-6)
    assert loop.opening < 0.1


def test_an_opening_does_not_keep_a_velocity_alive(loop: Loop) -> None:
    steer(loop, 10)
    for _ in range(30):
        loop.control.human.hear_opening(0.5, loop.now)
        loop.tick(2)
    assert loop.control.at_rest  # 0.6 s after the last velocity
    assert loop.control.modes.mode is Mode.TELEOP


def test_an_opening_counts_for_one_intervention_only(loop: Loop) -> None:
    steer(loop, 10, opening=1.0)
    loop.tick(100)
    loop.control.hand_back()
    for _ in range(10):
        plan = loop.plan([0.0] * 10)
        plan.targets[GRIPPER][:] = 0.0
        loop.submit(plan)
        loop.tick(5)
    assert loop.opening < 0.1
    steer(loop, 20)
    assert loop.opening < 0.1


def test_a_reset_forgets_what_the_person_asked_for(loop: Loop) -> None:
    steer(loop, 2, opening=0.0)
    loop.control.end_reset(loop.measured, loop.now, loop.now)
    assert not loop.control.human.alive(loop.now)


def test_a_velocity_without_a_frame_is_refused(loop: Loop) -> None:
    with pytest.raises(CommandRefusedError, match="frame ''"):
        loop.control.human.hear(ALONG_X, "", loop.now)


def test_the_dead_man_counts_as_released_a_quarter_of_a_second_after_the_last_velocity(loop: Loop) -> None:
    human = loop.control.human
    assert human.quiet(loop.now)
    human.hear(ALONG_X, "base", loop.now)
    human.let_go()
    assert not human.steers(loop.now)
    assert not human.quiet(loop.now + 250 * MS)  # it may still be held: its next message has not come yet
    assert human.quiet(loop.now + 251 * MS)


@pytest.mark.parametrize("held", ["gripper", "dead-man"])
def test_a_reset_waits_for_a_press_that_came_after_it(held: str) -> None:
    with bridged(reset=ResetRoutine(by="motion", confirm=True, confirm_timeout_s=0.6)) as (robot, port):
        goal = robot.arm.chain.pose(port.joints) + 0.1 * np.eye(7)[0]
        ended = threading.Event()

        def press() -> None:
            while not ended.wait(0.02):
                now_ns = robot.clock.now_ns()
                if held == "gripper":
                    robot.control.human.hear_opening(1.0, now_ns)
                else:
                    robot.control.human.hear(np.zeros(6), "base", now_ns)

        thread = threading.Thread(target=press)
        thread.start()
        wait_for(lambda: robot.control.human.alive(robot.clock.now_ns()))
        try:
            with pytest.raises(ResetError, match="no operator has confirmed"):
                robot.reset(ResetRequest(tcp_pose=goal))
        finally:
            ended.set()
            thread.join()
        np.testing.assert_allclose(port.joints, robot.arm.home, atol=1e-6)
