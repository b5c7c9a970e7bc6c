"""A gamepad as Linux gives it: /dev/input/js*, its axes and buttons by the codes of the kernel's gamepad rules.

The kernel calibrates, and tells the whole state at opening, so that this needs no library. Which number is which code
is asked of the device (JSIOCGAXMAP, JSIOCGBTNMAP): one layout serves all models.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import time
from collections.abc import Sequence
from pathlib import Path

from robot_rl.errors import DeviceError
from robot_rl.teleop.device import Key
from robot_rl.teleop.pad import Layout, Pad
from robot_rl.types import Array

EVENT = struct.Struct("=IhBB")  # time [ms], value, type, number
BUTTON, AXIS, INITIAL = 0x01, 0x02, 0x80
ABS_X, ABS_Y, ABS_Z, ABS_RX, ABS_RY, ABS_RZ, ABS_HAT0X, ABS_HAT0Y = 0, 1, 2, 3, 4, 5, 16, 17
SOUTH, EAST, NORTH, WEST, LEFT, RIGHT = 0x130, 0x131, 0x133, 0x134, 0x136, 0x137
SELECT, START, MODE, THUMB_LEFT, THUMB_RIGHT = 0x13A, 0x13B, 0x13C, 0x13D, 0x13E
USUAL_AXES = (ABS_X, ABS_Y, ABS_Z, ABS_RX, ABS_RY, ABS_RZ, ABS_HAT0X, ABS_HAT0Y)
USUAL_BUTTONS = (SOUTH, EAST, NORTH, WEST, LEFT, RIGHT, SELECT, START, MODE, THUMB_LEFT, THUMB_RIGHT)
LAYOUT = Layout(
    axes={
        ABS_Y: (0, -1.0), ABS_X: (1, -1.0), ABS_RY: (2, -1.0), ABS_RX: (5, -1.0), ABS_HAT0X: (3, 1.0),
        ABS_HAT0Y: (4, -1.0),
    },
    keys={
        SOUTH: Key.SUCCESS, EAST: Key.FAILURE, NORTH: Key.DISCARD, WEST: Key.RERECORD, START: Key.START,
        SELECT: Key.STOP, MODE: Key.HAND_BACK, RIGHT: Key.GRIPPER, THUMB_LEFT: Key.SLOWER, THUMB_RIGHT: Key.FRAME,
    },
    dead_man=LEFT,
)  # fmt: skip
LEGEND = (
    "hold the left shoulder button to move   left stick: away, back, left, right   right stick: up, down, turn about z",
    "cross: turn about x, y   right shoulder: gripper   right stick pressed: base or tool frame   left: slower",
    "Start: start   A, cross: success   B, circle: failure   X, triangle: discard   Y, square: record again",
    "Back, Share: stop   Mode: the policy goes on",
)
_AXIS_MAP, _BUTTON_MAP = 0x80406A32, 0x84006A34
_FULL = 32767.0
_RETRY_S = 1.0


class Gamepad:
    """A Device. ``path`` is the joystick's; the first there is unless given.

    Motion needs the dead-man, the left shoulder button. One that was unplugged is looked for again.
    """

    dead_man = True
    legend = LEGEND
    offers = frozenset(LAYOUT.keys.values())

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._fd = -1
        self._pad = Pad(LAYOUT)
        self._axes: Sequence[int] = USUAL_AXES
        self._buttons: Sequence[int] = USUAL_BUTTONS
        self._part = b""
        self._lost_s: float | None = None
        self._tried_s = 0.0

    @property
    def age_s(self) -> float:
        return 0.0 if self._lost_s is None else time.monotonic() - self._lost_s

    def poll(self) -> Sequence[Key]:
        """Take in the events since the last call; the keys pressed."""
        if self._fd < 0:
            self._open()
        content = self._part + self._read()
        whole = len(content) - len(content) % EVENT.size
        for _, value, kind, number in EVENT.iter_unpack(content[:whole]):
            self._take(value, kind & ~INITIAL, number, bool(kind & INITIAL))
        self._part = content[whole:]
        return self._pad.keys()

    def motion(self, now_ns: int) -> Array | None:
        """The sticks [6] while the dead-man is pressed."""
        return None if self._lost_s is not None else self._pad.motion()

    def release(self) -> None:
        """The dead-man must be pressed anew."""
        self._pad.release()

    def wait(self, timeout_s: float) -> None:
        """Until something is pressed or turned, at most so long."""
        if self._fd < 0:
            time.sleep(min(timeout_s, _RETRY_S))
        else:
            select.select([self._fd], [], [], max(timeout_s, 0.0))

    def close(self) -> None:
        """Let go of the device."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, value: int, kind: int, number: int, initial: bool) -> None:
        if kind == AXIS and number < len(self._axes):
            self._pad.turn(self._axes[number], max(-1.0, value / _FULL))
        elif kind == BUTTON and number < len(self._buttons) and not initial:  # held at opening: not pressed for us
            self._pad.press(self._buttons[number], value != 0)

    def _open(self) -> None:
        """Raises DeviceError the first time; afterwards tries again once a second."""
        if self._lost_s is not None and time.monotonic() - self._tried_s < _RETRY_S:
            return
        self._tried_s = time.monotonic()
        path = self._path or next((str(path) for path in sorted(Path("/dev/input").glob("js*"))), "/dev/input/js0")
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            if self._lost_s is not None:
                return
            raise DeviceError(f"no gamepad at {path}: {error.strerror}", remedy=_remedy(error)) from error
        self._pad, self._part, self._lost_s = Pad(LAYOUT), b"", None
        self._axes = _codes(self._fd, _AXIS_MAP, "64B", USUAL_AXES)
        self._buttons = _codes(self._fd, _BUTTON_MAP, "512H", USUAL_BUTTONS)

    def _read(self) -> bytes:
        if self._fd < 0:
            return b""
        content = b""
        try:
            while more := os.read(self._fd, 64 * EVENT.size):
                content += more
        except BlockingIOError:
            return content
        except OSError:  # unplugged
            pass
        self.close()
        self._lost_s = time.monotonic()
        self._pad = Pad(LAYOUT)
        return b""


def _codes(descriptor: int, request: int, layout: str, usual: Sequence[int]) -> Sequence[int]:
    """Code by number, as the device tells; ``usual`` where it does not."""
    try:
        return struct.unpack(layout, fcntl.ioctl(descriptor, request, bytes(struct.calcsize(layout))))
    except OSError:
        return usual


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "Add your user to the group input: sudo usermod -aG input $USER, then log in anew"
    return "Connect it; sudo modprobe joydev where no /dev/input/js* appears"
