"""A gripper's opening, 0 closed to 1 open, on its way to the driver: bounded speed, no small and no brief changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array, Arrays


@dataclass
class Gripper:
    """A Controller. ``max_speed_1_s`` bounds the rate of the opening; a target that differs by less than ``deadband``
    from the last accepted one is noise of the policy and does not move the fingers, nor does one the other way before
    it has lasted for ``debounce_s``."""

    max_speed_1_s: float = 4.0
    deadband: float = 0.01
    debounce_s: float = 0.05

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_speed_1_s) and self.max_speed_1_s > 0.0):
            raise ConfigError(f"gripper speed is {self.max_speed_1_s}", limit="> 0")
        if not 0.0 <= self.deadband < 0.5:
            raise ConfigError(f"gripper deadband is {self.deadband}", limit="0 to 0.5")
        if not 0.0 <= self.debounce_s <= 1.0:
            raise ConfigError(f"gripper debounce is {self.debounce_s}", limit="0 to 1 s")
        self._latch(1.0)

    def _latch(self, opening: float) -> None:
        self._opening = self._accepted = opening
        self._direction, self._reversed_s = 0.0, -1.0  # of the last change; how long the other way has been asked for

    @property
    def opening(self) -> float:
        return self._opening

    def reset(self, state: Arrays) -> None:
        """Latch onto ``gripper_opening`` [1]."""
        self._latch(float(np.clip(state["gripper_opening"][0], 0.0, 1.0)))

    def compute(self, state: Arrays, target: Arrays, dt: float) -> Array:
        """Opening [1] after ``dt`` seconds towards ``gripper_opening`` [1]; a target not finite is ignored."""
        return np.array([self.move(float(target["gripper_opening"][0]), dt)])

    def move(self, wanted: float, dt: float) -> float:
        """The same in plain numbers."""
        if math.isfinite(wanted):
            self._accept(min(max(wanted, 0.0), 1.0), dt)
        reach = self.max_speed_1_s * dt
        self._opening += min(max(self._accepted - self._opening, -reach), reach)
        return self._opening

    def _accept(self, wanted: float, dt: float) -> None:
        change = wanted - self._accepted
        if change == 0.0 or (abs(change) <= self.deadband and wanted not in (0.0, 1.0)):
            self._reversed_s = -1.0
        elif change * self._direction >= 0.0 or self._lasted(dt):
            self._accepted, self._direction, self._reversed_s = wanted, math.copysign(1.0, change), -1.0

    def _lasted(self, dt: float) -> bool:
        """Whether the other direction, asked for once more, has been asked for long enough."""
        self._reversed_s = 0.0 if self._reversed_s < 0.0 else self._reversed_s + dt
        return self._reversed_s >= self.debounce_s * (1.0 - 1e-9)
