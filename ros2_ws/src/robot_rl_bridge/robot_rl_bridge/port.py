"""The way to an arm, whatever it is: ROS topics, or a test's own."""

from __future__ import annotations

from typing import Protocol

from robot_rl.types import ResetRequest
from robot_rl_bridge.arm_state import SetPoint


class Port(Protocol):
    """The way to the arm."""

    def send(self, point: SetPoint) -> None:
        """Hand a set point to the arm; must not wait."""
        ...

    def fault(self) -> str:
        """What the arm itself says is wrong; empty where nothing is."""
        ...

    def missing(self) -> list[str]:
        """What must be there before the arm is activated, and is not."""
        ...

    def recover(self) -> None:
        """Clear the fault of the arm itself, where it knows how. Raises RobotError."""
        ...

    def reset_simulator(self, request: ResetRequest, timeout_s: float) -> None:
        """Put a simulated arm and its objects where they shall be. Raises ResetError."""
        ...
