"""The gamepad, fed with the kernel's own event bytes through a pipe in place of /dev/input/js0."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_rl.errors import ConfigError, DeviceError
from robot_rl.teleop.device import Device, Key
from robot_rl.teleop.gamepad import AXIS, BUTTON, EVENT, INITIAL, Gamepad
from robot_rl.teleop.joy import AXES, DEAD_MAN, KEYS, Joy
from robot_rl.teleop.pad import layout_of

LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y, HAT_X = 0, 1, 3, 4, 6  # numbers of an Xbox pad under the driver xpad
A, B, Y, LB, RB, BACK, START = 0, 1, 3, 4, 5, 6, 7


class Driver:
    """The other end of the device file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)
        self._reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # so that the other end opens
        self._fd = os.open(path, os.O_WRONLY)

    def tell(self, kind: int, number: int, value: int) -> None:
        os.write(self._fd, EVENT.pack(12345, value, kind, number))

    def tell_bytes(self, content: bytes) -> None:
        os.write(self._fd, content)

    def unplug(self) -> None:
        os.close(self._reading)
        os.close(self._fd)

    def plug(self) -> None:
        self._reading = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._fd = os.open(self.path, os.O_WRONLY)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "js0")
    yield made
    made.unplug()


@pytest.fixture
def gamepad(driver: Driver) -> Iterator[Gamepad]:
    device = Gamepad(driver.path)
    device.poll()
    yield device
    device.close()


def moved(gamepad: Gamepad) -> list[float] | None:
    gamepad.poll()
    motion = gamepad.motion(0)
    return None if motion is None else np.round(motion, 3).tolist()


def test_sticks_move_while_the_dead_man_is_held(gamepad: Gamepad, driver: Driver) -> None:
    assert isinstance(gamepad, Device)
    driver.tell(AXIS, LEFT_Y, -32767)  # up
    assert moved(gamepad) is None
    driver.tell(BUTTON, LB, 1)
    assert moved(gamepad) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    for number, value in ((LEFT_Y, 0), (LEFT_X, -16384), (RIGHT_Y, -32767), (RIGHT_X, 32767), (HAT_X, -32768)):
        driver.tell(AXIS, number, value)
    assert moved(gamepad) == [0.0, 0.5, 1.0, -1.0, 0.0, -1.0]
    driver.tell(BUTTON, LB, 0)
    assert moved(gamepad) is None


def test_buttons_are_keys_once_a_press(gamepad: Gamepad, driver: Driver) -> None:
    for number in (A, B, Y, RB, BACK, START):
        driver.tell(BUTTON, number, 1)
        driver.tell(BUTTON, number, 1)  # a repeated state is no second press
    assert gamepad.poll() == [Key.SUCCESS, Key.FAILURE, Key.RERECORD, Key.GRIPPER, Key.STOP, Key.START]
    driver.tell(BUTTON, A, 0)
    assert gamepad.poll() == []
    driver.tell(BUTTON, A, 1)
    assert gamepad.poll() == [Key.SUCCESS]


def test_what_is_held_when_it_is_opened_moves_nothing(gamepad: Gamepad, driver: Driver) -> None:
    driver.tell(AXIS | INITIAL, LEFT_Y, -32767)
    driver.tell(BUTTON | INITIAL, LB, 1)
    driver.tell(BUTTON | INITIAL, A, 1)
    assert moved(gamepad) is None
    assert gamepad.poll() == []


def test_events_that_come_in_pieces_and_after_a_release(gamepad: Gamepad, driver: Driver) -> None:
    whole = EVENT.pack(0, 1, BUTTON, LB) + EVENT.pack(0, -32767, AXIS, LEFT_Y)
    driver.tell_bytes(whole[:5])
    assert moved(gamepad) is None
    driver.tell_bytes(whole[5:])
    assert moved(gamepad) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    gamepad.release()
    assert moved(gamepad) is None  # the dead-man must be pressed anew
    driver.tell(BUTTON, LB, 0)
    driver.tell(BUTTON, LB, 1)
    assert moved(gamepad) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_unplugged_it_lets_go_and_plugged_again_it_is_found(gamepad: Gamepad, driver: Driver) -> None:
    driver.tell(BUTTON, LB, 1)
    assert moved(gamepad) is not None
    driver.unplug()
    assert moved(gamepad) is None
    assert gamepad.age_s > 0.0
    driver.plug()
    while gamepad.age_s:  # it is tried once a second
        gamepad.wait(0.1)
        gamepad.poll()
    assert moved(gamepad) is None  # the dead-man is up until it is pressed anew
    driver.tell(BUTTON, LB, 1)
    assert moved(gamepad) is not None


def test_no_gamepad_is_a_clear_error() -> None:
    with pytest.raises(DeviceError, match=r"no gamepad at /nowhere/js0.*joydev"):
        Gamepad("/nowhere/js0").poll()


# --- any sensor_msgs/Joy


def test_joy_messages_by_a_layout_in_words() -> None:
    joy = Joy(layout_of(["x=1", "rz=-0"], ["open=2"], 0))
    assert isinstance(joy, Device)
    joy.tell([0.25, -1.0], [0, 0, 1])
    assert joy.poll() == [Key.OPEN]
    assert joy.motion(0) is None
    joy.tell([0.25, -1.0], [1, 0, 1])
    assert joy.poll() == []
    assert joy.motion(0).tolist() == [-1.0, 0.0, 0.0, 0.0, 0.0, -0.25]  # type: ignore[union-attr]
    joy.tell([], [])  # a message that tells less is no error
    assert joy.dead_man


def test_a_joy_without_dead_man_moves_when_it_is_turned_and_falls_silent() -> None:
    joy = Joy(layout_of(["y=0"], [], -1), silent_s=0.02)
    joy.tell([0.0], [])
    assert joy.motion(0) is None
    joy.tell([-0.5], [])
    assert joy.motion(0) is not None
    joy.poll()
    joy.wait(0.03)
    assert joy.age_s > 0.02
    assert joy.motion(0) is None


def test_a_dead_man_held_through_a_release_is_pressed_anew_however_often_joy_repeats_it() -> None:
    joy = Joy(layout_of(["x=0"], ["stop=1"], 0))
    joy.tell([1.0], [1, 0])
    joy.tell([1.0], [1, 1])
    assert joy.poll() == [Key.STOP]
    joy.release()
    joy.tell([1.0], [1, 1])
    joy.tell([1.0], [1, 0])
    assert joy.motion(0) is None
    joy.release()  # once more while it is held
    joy.tell([1.0], [1, 0])
    assert joy.motion(0) is None
    joy.tell([1.0], [0, 0])
    assert joy.motion(0) is None
    joy.release()  # while it is up: the next press is one
    joy.tell([1.0], [1, 0])
    assert joy.motion(0) is not None


def test_layouts_that_make_no_sense_are_refused() -> None:
    assert layout_of(AXES, KEYS, DEAD_MAN).dead_man == 9
    for axes, keys, said in (
        (["w=1"], [], "'w=1' names no axis"),
        ([], ["jump=1"], "jump"),
        (["x=left"], [], "no number"),
    ):
        with pytest.raises(ConfigError, match=said):
            layout_of(axes, keys, -1)
