"""Sticks and buttons as axes and keys: which is what is data, for a gamepad and for any ``sensor_msgs/Joy`` alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.teleop.device import Key
from robot_rl.types import Array

AXES = ("x", "y", "z", "rx", "ry", "rz")


@dataclass(frozen=True)
class Layout:
    """What the axes and buttons of a device mean, by their numbers there. Without ``dead_man`` none is needed."""

    axes: Mapping[int, tuple[int, float]]  # -> axis of ours, sign
    keys: Mapping[int, Key]
    dead_man: int | None


class Pad:
    """The state of such a device, put together from its events."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._values = dict.fromkeys(layout.axes, 0.0)
        self._down: set[int] = set()
        self._void = False  # the dead-man is held since before the last release
        self._pressed: list[Key] = []

    def turn(self, axis: int, value: float) -> None:
        """An axis is at ``value``, -1..1."""
        if axis in self._values:
            self._values[axis] = value

    def press(self, button: int, down: bool) -> None:
        """A button is down or up; one that has just gone down is a key pressed."""
        if down and button not in self._down and button in self.layout.keys:
            self._pressed.append(self.layout.keys[button])
        (self._down.add if down else self._down.discard)(button)
        if button == self.layout.dead_man and not down:
            self._void = False

    def keys(self) -> list[Key]:
        """Pressed since the last call, in order."""
        pressed, self._pressed = self._pressed, []
        return pressed

    def motion(self) -> Array | None:
        """The axes [6]; None while the dead-man is up, or where there is none and nothing is turned."""
        axes = np.zeros(6)
        for source, value in self._values.items():
            axis, sign = self.layout.axes[source]
            axes[axis] += sign * value
        if self.layout.dead_man is None:
            return axes if axes.any() else None
        return axes if self.layout.dead_man in self._down and not self._void else None

    def release(self) -> None:
        """The dead-man counts as up until it is let go and pressed anew; without one every axis rests until turned."""
        if self.layout.dead_man is None:
            self._values = dict.fromkeys(self._values, 0.0)
        self._void = self.layout.dead_man in self._down


def layout_of(axes: Sequence[str], keys: Sequence[str], dead_man: int) -> Layout:
    """A Layout in words, as configurations have it: axes ``x=1``, ``rz=-2`` (axis 2 reversed, ``-0`` too), keys
    ``gripper=5``; ``dead_man`` -1 is none. Raises ConfigError for words that are none."""
    found: dict[int, tuple[int, float]] = {}
    for word in axes:
        name, number = _split(word, AXES)
        found[abs(int(number))] = (AXES.index(name), -1.0 if number.startswith("-") else 1.0)
    named = {}
    for word in keys:
        name, number = _split(word, list(Key))
        named[int(number)] = Key(name)
    return Layout(found, named, None if dead_man < 0 else dead_man)


def _split(word: str, names: Sequence[str]) -> tuple[str, str]:
    name, _, number = word.partition("=")
    if name not in names:
        raise ConfigError(f"'{word}' names no axis or key", remedy=valid_choices(name, names))
    if not number.removeprefix("-").isdigit():
        raise ConfigError(f"'{word}' gives no number", remedy=f"Write it like '{name}=3'")
    return name, number
