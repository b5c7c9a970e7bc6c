"""What the arm is doing and why: one mode at a time, each with its cause, told to whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from robot_rl.errors import CommandRefusedError


class Mode(StrEnum):
    IDLE = "idle"  # not activated: nothing is sent to the arm
    STOPPED = "stopped"  # held; commands are refused until a reset, or until it is enabled
    HOLDING = "holding"  # held; the next plan that starts near the arm moves it
    TRACKING = "tracking"  # a policy's plan moves it
    TELEOP = "teleop"  # a person's
    RESETTING = "resetting"  # the reset routine's
    FAULT = "fault"  # held until the fault is cleared by name


ENABLED = (Mode.HOLDING, Mode.TRACKING, Mode.TELEOP)
Listener = Callable[[Mode, str], None]


class Modes:
    """The mode and its cause; ``tell`` hears of every change."""

    def __init__(self, tell: Listener = lambda mode, cause: None) -> None:
        self.mode, self.cause, self._tell = Mode.IDLE, "not activated", tell

    def enter(self, mode: Mode, cause: str = "") -> None:
        """Change; a fault stays one until ``clear``."""
        if self.mode is Mode.FAULT or (mode, cause) == (self.mode, self.cause):
            return
        self.mode, self.cause = mode, cause
        self._tell(mode, cause)

    def clear(self, cause: str) -> None:
        """Leave the fault, which never happens by itself."""
        if self.mode is Mode.FAULT:
            self.mode, self.cause = Mode.STOPPED, cause
            self._tell(self.mode, cause)

    @property
    def enabled(self) -> bool:
        """Whether plans are taken."""
        return self.mode in ENABLED

    @property
    def text(self) -> str:
        """As observations tell it: "tracking", "holding: client silent for 0.26 s", "fault: ..."."""
        return f"{self.mode}: {self.cause}" if self.cause else str(self.mode)

    def require_enabled(self) -> None:
        """Raise CommandRefusedError unless plans are taken."""
        if not self.enabled:
            remedy = "Clear it with ~/clear_fault" if self.mode is Mode.FAULT else "Reset it first"
            raise CommandRefusedError(f"the robot is in mode '{self.text}'", remedy=remedy)
