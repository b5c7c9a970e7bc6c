"""Manual resets: nothing moves before the person says so."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.confirmation import OnKey, on_terminal
from robot_rl.runtime.env import RobotEnv
from robot_rl.types import EpisodeEvent, ResetRequest
from tests.runtime.counting import DELTA, ReachTask
from tests.runtime.pressed import Pressed

REQUEST = ResetRequest(operator_text="Put the cube on the mark")


@dataclass
class Keys(Pressed):
    """Gives one list of keys per call."""

    pressed: list[Sequence[EpisodeEvent]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)

    def events(self) -> Sequence[EpisodeEvent]:
        if not self.pressed:
            self.asked.set()
            return ()
        return self.pressed.pop(0)


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
    start, other = (EpisodeEvent.START,), (EpisodeEvent.DISCARD,)
    keys = Keys(pressed=[start, other])
    waiting = threading.Thread(target=OnKey(keys, lambda text: None), args=(REQUEST,))
    waiting.start()
    assert keys.asked.wait(10.0)  # the first START was pressed before it was asked for
    assert waiting.is_alive()
    keys.pressed.append(start)
    waiting.join(10.0)
    assert not waiting.is_alive()
