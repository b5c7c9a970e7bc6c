"""A device that is held by the test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.teleop.device import Key
from robot_rl.types import Array


class Handheld:
    """``axes`` are pushed until they are changed; ``keys`` are pressed once."""

    legend = ("held by a test",)
    offers = frozenset(Key)

    def __init__(self, *, dead_man: bool = False) -> None:
        self.dead_man, self.age_s = dead_man, 0.0
        self.axes: Array | None = None
        self.keys: list[Key] = []
        self.closed = False

    def push(self, *axes: float) -> None:
        self.axes = np.array([*axes, *[0.0] * (6 - len(axes))])

    def poll(self) -> Sequence[Key]:
        pressed, self.keys = self.keys, []
        return pressed

    def motion(self, now_ns: int) -> Array | None:
        return self.axes

    def release(self) -> None:
        self.axes = None

    def wait(self, timeout_s: float) -> None: ...

    def close(self) -> None:
        self.closed = True
