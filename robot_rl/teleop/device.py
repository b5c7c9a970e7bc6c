"""What every teleoperation device gives: six normalised axes, and keys by what they mean.

Axes are translation x y z and rotation about x y z, -1..1, as a person sees them who stands behind the arm's base: x
away, y to the left, z up. What a unit moves, and in which frame, is decided in ``steering``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable

from robot_rl.types import Array, EpisodeEvent


class Key(StrEnum):
    """What can be pressed beside the axes."""

    START = "start"
    SUCCESS = "success"
    FAILURE = "failure"
    DISCARD = "discard"
    RERECORD = "rerecord"
    STOP = "stop"
    HAND_BACK = "hand_back"
    GRIPPER = "gripper"  # closes what is open, opens what is closed
    OPEN = "open"
    CLOSE = "close"
    FRAME = "frame"  # base or tool
    FASTER = "faster"
    SLOWER = "slower"


EVENTS = {Key(event.value): event for event in EpisodeEvent}
"""The keys that say something about the episode."""


@runtime_checkable
class Device(Protocol):
    """Opened when it is first asked; nothing but ``wait`` may wait."""

    @property
    def dead_man(self) -> bool:
        """Whether ``motion`` is None unless a dead-man switch is pressed: zero motion then commands to stay."""
        ...

    @property
    def offers(self) -> Collection[Key]:
        """The keys that it has, known once it is opened."""
        ...

    @property
    def age_s(self) -> float:
        """Time since the device was lost; 0 while it answers."""
        ...

    @property
    def legend(self) -> Sequence[str]:
        """Lines that tell a person what is where."""
        ...

    def poll(self) -> Sequence[Key]:
        """Take in what has happened since the last call; the keys pressed, in order. Raises DeviceError when the
        device cannot be opened the first time."""
        ...

    def motion(self, now_ns: int) -> Array | None:
        """The axes [6] at ``now_ns`` of the robot's clock; None while the person commands nothing."""
        ...

    def release(self) -> None:
        """Forget what is pressed: it moves nothing until it is pressed anew."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Until something happens, at most so long; may return early."""
        ...

    def close(self) -> None:
        """Let go of the device; idempotent."""
        ...
