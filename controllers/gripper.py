"""A gripper's opening, 0 closed to 1 open, on its way to the driver: bounded speed, small changes held back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array, Arrays


@dataclass
class Gripper:
    """A Controller. ``max_speed_1_s`` bounds the rate of the opening; a target that differs by less than ``deadband``
    from the last accepted one is noise of the policy and does not move the fingers."""

    max_speed_1_s: float = 4.0
    deadband: float = 0.01

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_speed_1_s) and self.max_speed_1_s > 0.0):
            raise ConfigError(f"gripper speed is {self.max_speed_1_s}", limit="> 0")
        if not 0.0 <= self.deadband < 0.5:
            raise ConfigError(f"gripper deadband is {self.deadband}", limit="0 to 0.5")
        self._opening = self._accepted = 1.0

    @property
    def opening(self) -> float:
        return self._opening

    def reset(self, state: Arrays) -> None:
        """Latch onto ``gripper_opening`` [1]."""
        self._opening = self._accepted = float(np.clip(state["gripper_opening"][0], 0.0, 1.0))

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Opening [1] after ``dt`` seconds towards ``gripper_opening`` [1]; a target not finite is ignored."""
        wanted = float(target["gripper_opening"][0])
        if math.isfinite(wanted):
            wanted = min(max(wanted, 0.0), 1.0)
            if abs(wanted - self._accepted) > self.deadband or wanted in (0.0, 1.0):
                self._accepted = wanted
        reach = self.max_speed_1_s * dt
        self._opening += min(max(self._accepted - self._opening, -reach), reach)
        return np.array([self._opening])
