"""When a person lets an arm move by itself, by devices with and without a dead-man, and by a real keyboard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from robot_rl.errors import DeviceError
from robot_rl.teleop.device import Key
from robot_rl.teleop.enabling import Enabling
from robot_rl.teleop.keyboard import Keyboard
from tests.teleop.handheld import Handheld
from tests.teleop.pseudo_terminal import pseudo_terminal


class Waited(Handheld):
    """Each time it is waited for, the person does the next of ``acts``."""

    def __init__(self, *acts: Callable[[Waited], None], dead_man: bool = False) -> None:
        super().__init__(dead_man=dead_man)
        self.acts = list(acts)

    def wait(self, timeout_s: float) -> None:
        self.acts.pop(0)(self)


def start(device: Handheld) -> None:
    device.keys.append(Key.START)


def test_a_dead_man_lets_it_move_while_it_is_held() -> None:
    device, told = Waited(start, lambda device: device.push(0.0), dead_man=True), []
    device.push(0.0)  # held since before: it counts when it is pressed anew
    person = Enabling(device, told.append)
    person.ask("The arm will move")
    assert not device.acts  # a start key is none
    assert "The arm will move" in told[0] and "Hold the dead-man" in told[0]
    assert person.allows(0)
    device.axes = None
    assert not person.allows(1) and not person.allows(2)
    device.keys.append(Key.START)
    assert not person.allows(3)
    device.push(0.0)
    assert person.allows(4)
    assert [line.split(".")[0] for line in told[1:]] == ["it moves", "paused", "it moves on"]


def test_without_a_dead_man_a_key_starts_and_anything_else_pauses() -> None:
    device = Waited(lambda device: device.push(1.0), Handheld.release, start)
    device.keys.append(Key.START)  # pressed before: void
    person = Enabling(device, lambda text: None)
    person.ask("The arm will move")
    assert not device.acts
    assert person.allows(0) and person.allows(1)
    for pause in (lambda: device.push(0.1), lambda: device.keys.append(Key.GRIPPER)):
        pause()
        assert not person.allows(2)
        device.release()
        assert not person.allows(3)
        start(device)
        assert person.allows(4)
    device.keys += [Key.START, Key.GRIPPER]
    assert not person.allows(5)


@pytest.mark.parametrize("dead_man", [True, False])
def test_the_stop_key_ends_it_before_and_after_the_start(dead_man: bool) -> None:
    device = Waited(lambda device: device.keys.append(Key.STOP), dead_man=dead_man)
    person = Enabling(device, lambda text: None)
    with pytest.raises(KeyboardInterrupt):
        person.ask("The arm will move")
    device.keys += [Key.START, Key.STOP]
    device.push(0.0)
    with pytest.raises(KeyboardInterrupt):
        person.allows(0)


@pytest.mark.parametrize("dead_man", [True, False])
def test_a_device_that_is_lost_allows_nothing(dead_man: bool) -> None:
    device = Waited(lambda device: device.push(0.0) if dead_man else start(device), dead_man=dead_man)
    person = Enabling(device, lambda text: None)
    person.ask("The arm will move")
    device.age_s = 0.3
    assert not person.allows(0)
    device.age_s = 0.0
    assert person.allows(1) is dead_man  # what is held still counts; what was started by a key is started anew
    device.age_s = 5.0
    with pytest.raises(DeviceError, match="is gone"):
        person.ask("The arm will move")


def test_by_a_keyboard_in_a_terminal() -> None:
    with pseudo_terminal() as terminal:
        keyboard = Keyboard(terminal=terminal.path)
        person = Enabling(keyboard, lambda text: None)
        keyboard.poll()
        clock_ns = 0

        def typed(keys: bytes) -> bool:
            nonlocal clock_ns
            clock_ns += 1_000_000_000
            terminal.type(keys)
            keyboard.wait(10.0)
            return person.allows(clock_ns)

        assert typed(b"\r")
        assert not typed(b"w")
        assert typed(b"\r")
        with pytest.raises(KeyboardInterrupt):
            typed(b" ")
        person.close()


def test_an_axis_key_before_the_start_key_does_not_keep_it_waiting() -> None:
    with pseudo_terminal() as terminal:
        returned, person_at_it = threading.Event(), list[threading.Thread]()

        def presses_start() -> None:
            until_s = time.monotonic() + 5.0
            while not returned.wait(0.05) and time.monotonic() < until_s:  # counts once the press has ended
                terminal.type(b"\r")
            if not returned.is_set():
                terminal.type(b" ")

        def told(text: str) -> None:
            if not person_at_it:
                terminal.type(b"w")
                person_at_it.append(threading.Thread(target=presses_start))
                person_at_it[0].start()

        person = Enabling(Keyboard(terminal=terminal.path), told)
        try:
            person.ask("The arm will move")
            started = True
        except KeyboardInterrupt:
            started = False
        returned.set()
        person_at_it[0].join(20.0)
        assert started
        person.close()
