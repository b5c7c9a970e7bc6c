"""A keyboard in a terminal, over ssh too. Terminals tell no release: a press moves for a while and ends by itself.

However often a key is in the terminal's queue, it counts once a tick: the repeats that a slow line delivers in one go
move nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from robot_rl.errors import ConfigError, DeviceError
from robot_rl.teleop.device import Key
from robot_rl.teleop.terminal import TERMINAL, Terminal
from robot_rl.types import Array

AXES: dict[bytes, tuple[int, float]] = {
    b"w": (0, 1.0), b"s": (0, -1.0), b"a": (1, 1.0), b"d": (1, -1.0), b"r": (2, 1.0), b"f": (2, -1.0),
    b"\x1b[A": (0, 1.0), b"\x1b[B": (0, -1.0), b"\x1b[D": (1, 1.0), b"\x1b[C": (1, -1.0),
    b"u": (3, -1.0), b"o": (3, 1.0), b"i": (4, 1.0), b"k": (4, -1.0), b"j": (5, 1.0), b"l": (5, -1.0),
}  # fmt: skip
KEYS: dict[bytes, Key] = {
    b" ": Key.STOP, b"\r": Key.START, b"\n": Key.START, b"y": Key.SUCCESS, b"n": Key.FAILURE, b"x": Key.DISCARD,
    b"b": Key.RERECORD, b"h": Key.HAND_BACK, b"g": Key.GRIPPER, b"t": Key.FRAME, b"+": Key.FASTER, b"=": Key.FASTER,
    b"-": Key.SLOWER,
}  # fmt: skip
LEGEND = (
    "w s a d or arrows: away, back, left, right   r f: up, down   u o, i k, j l: turn about x, y, z",
    "g: gripper   t: base or tool frame   + -: faster, slower   space: stop",
    "Enter: start   y: success   n: failure   x: discard   b: record again   h: the policy goes on",
)


class Keyboard:
    """A Device. One press is a full axis for ``press_s`` of the robot's time; a key held repeats and goes on.

    ``terminal`` is the path of the terminal; that of the process by default.
    """

    dead_man = False
    legend = LEGEND
    offers = frozenset(KEYS.values())

    def __init__(self, press_s: float = 0.1, terminal: str = TERMINAL) -> None:
        if not 0.0 < press_s < math.inf:
            raise ConfigError(f"press_s={press_s}", limit="above 0")
        self._press_ns, self.terminal = round(press_s * 1e9), terminal
        self._terminal: Terminal | None = None
        self._lost_s: float | None = None
        self._rest = b""  # the beginning of a sequence whose end has not come
        self._pressed: dict[int, float] = {}  # axis -> sign, since the last motion
        self._moving: dict[int, tuple[float, int]] = {}  # axis -> sign, and the time [ns] at which it ends

    @property
    def age_s(self) -> float:
        return 0.0 if self._lost_s is None else time.monotonic() - self._lost_s

    def poll(self) -> Sequence[Key]:
        """Keys typed since the last call."""
        keys = []
        for typed in self._split(self._rest + self._read()):
            if typed in AXES:
                axis, sign = AXES[typed]
                self._pressed[axis] = sign
            elif typed in KEYS:
                keys.append(KEYS[typed])
        return list(dict.fromkeys(keys))

    def motion(self, now_ns: int) -> Array | None:
        """The axes [6] whose press is under way."""
        until = now_ns + self._press_ns
        self._moving |= {axis: (sign, until) for axis, sign in self._pressed.items()}
        self._pressed.clear()
        self._moving = {axis: (sign, end) for axis, (sign, end) in self._moving.items() if now_ns < end}
        if not self._moving:
            return None
        axes = np.zeros(6)
        for axis, (sign, _) in self._moving.items():
            axes[axis] = sign
        return axes

    def release(self) -> None:
        """Every press has ended."""
        self._pressed.clear()
        self._moving.clear()

    def wait(self, timeout_s: float) -> None:
        """Until a key is pressed, at most so long. Raises DeviceError when the terminal is gone."""
        if self._lost_s is not None:
            raise DeviceError("the terminal is gone", remedy="Start again in a terminal")
        self._opened().wait(timeout_s)

    def close(self) -> None:
        """Restore the terminal."""
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None

    def _opened(self) -> Terminal:
        if self._terminal is None:
            self._terminal = Terminal(self.terminal)
        return self._terminal

    def _read(self) -> bytes:
        terminal = self._opened()
        if self._lost_s is not None:
            return b""
        try:
            return terminal.read()
        except DeviceError:  # its window was closed, its line broke: nobody can type any more
            self._lost_s = time.monotonic()
            self.release()
            return b""

    def _split(self, typed: bytes) -> list[bytes]:
        """Single keys and whole sequences; what is not complete waits for the rest."""
        keys, self._rest = [], b""
        while typed:
            size = _sequence(typed)
            if size == 0:
                self._rest = typed
                break
            keys.append(typed[:size].lower() if size == 1 else typed[:size].replace(b"\x1bO", b"\x1b["))
            typed = typed[size:]
        return keys


def _sequence(typed: bytes) -> int:
    """Length of the first key; 0 while a sequence is not complete."""
    if not typed.startswith(b"\x1b"):
        return 1
    if len(typed) == 1:
        return 0
    if typed[1:2] not in (b"[", b"O"):
        return 1
    end = next((i for i in range(2, len(typed)) if 0x40 <= typed[i] <= 0x7E), None)
    return 0 if end is None else end + 1
