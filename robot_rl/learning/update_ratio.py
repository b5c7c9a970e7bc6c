"""How many updates a received step is worth: the update-to-data ratio, kept between two bounds.

An update is one critic gradient step of all heads on one batch; a step is one received control step. Updates before
online learning (offline phases, a critic's warm-up) are not counted and leave no debt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class Verdict:
    """What the learner may do now."""

    updates: int  # allowed at once; 0: wait for data
    pause_actor: bool  # the learner is so far behind that the actor should wait at its next reset


class UpdateRatio:
    """Governor of one learner.

    Args:
        minimum, maximum: updates per step; equal bounds make runs repeatable (lockstep).
        start: steps that must have been received before the first update.
        slack: steps whose updates may be missing before the actor is asked to pause: an episode's worth.
    """

    def __init__(self, minimum: float, maximum: float, *, start: int = 0, slack: int = 200) -> None:
        if not (0.0 <= minimum <= maximum and math.isfinite(maximum) and maximum > 0.0) or start < 0 or slack < 0:
            raise ConfigError(
                f"updates per step between {minimum} and {maximum}, start={start}, slack={slack}",
                limit="0 <= minimum <= maximum, maximum > 0, start and slack not negative",
            )
        self.minimum, self.maximum, self.start, self.slack = minimum, maximum, start, slack
        self.updates = 0

    def verdict(self, steps: int) -> Verdict:
        """What may be done after ``steps`` received control steps in all, those before ``start`` included."""
        if steps < self.start:
            return Verdict(0, pause_actor=False)
        allowed = math.floor(self.maximum * steps + 1e-9) - self.updates
        owed = self.minimum * (steps - self.slack) - self.updates
        return Verdict(max(allowed, 0), pause_actor=owed > 0)

    def add(self, updates: int) -> None:
        """Count updates that were made."""
        self.updates += updates

    def ratio(self, steps: int) -> float:
        """Updates per received step so far."""
        return self.updates / steps if steps else 0.0
