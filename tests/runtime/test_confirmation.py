"""Manual resets: nothing moves before the person says so."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.confirmation import OnKey, on_terminal
from robot_rl.runtime.env import RobotEnv
from robot_rl.teleop.keyboard import Keyboard
from robot_rl.teleop.steering import Speed, Steering
from robot_rl.types import ResetRequest
from tests.runtime.counting import DELTA, POSITION, ReachTask
from tests.teleop.pseudo_terminal import pseudo_terminal

REQUEST = ResetRequest(operator_text="Put the cube on the mark")


def test_the_arm_moves_after_the_person_has_agreed_and_not_when_refused() -> None:
    robot, answers = FakeRobot(), ["", "q"]
    asked: list[Sequence[float]] = []

    def confirm(request: ResetRequest) -> None:
        asked.append(robot.read().state["arm0/tcp_pose"][:3].tolist())
        on_terminal(request, lambda text: answers.pop(0))

    env = RobotEnv(robot, ReachTask(), DELTA, 5, confirm=confirm)
    before = robot.read().state["arm0/tcp_pose"][:3]
    started = env.reset(0).state["arm0/tcp_pose"][:3]
    assert not np.allclose(before, started)
    with pytest.raises(KeyboardInterrupt):
        env.reset(1)
    assert robot.mode == "stopped"
    np.testing.assert_allclose(asked, [before, started])


def test_the_terminal_says_what_to_arrange() -> None:
    said: list[str] = []
    on_terminal(REQUEST, lambda text: said.append(text) or "")
    assert said[0].startswith("Put the cube on the mark. Enter")


def test_a_start_key_is_waited_for_and_older_ones_are_void() -> None:
    """On a real terminal: Enter before the question counts for nothing, nor does another key after it."""
    with pseudo_terminal() as terminal:
        device = Steering(Keyboard(terminal=terminal.path), POSITION, 20.0, Speed())
        device.events()
        terminal.type(b"\r")
        device.wait(10.0)
        asked: list[str] = []

        def ask(text: str) -> None:
            asked.append(text)
            terminal.type(b"x")

        waiting = threading.Thread(target=OnKey(device, ask), args=(REQUEST,))
        waiting.start()
        waiting.join(0.3)  # Enter of before and x of after: neither lets the arm go
        assert waiting.is_alive()
        terminal.type(b"\r")
        waiting.join(10.0)
        assert not waiting.is_alive()
        assert "Put the cube on the mark" in asked[0]
        device.close()
