"""How much demonstrations are imitated beside what critics say: they lead first, and then let go."""

from __future__ import annotations

from robot_rl.errors import ConfigError


class Imitation:
    """A weight that falls like a bell; false where nothing is imitated.

    Args:
        weight: at the start; 0 imitates nothing.
        steps: critic steps that leave half of it; n times as many leave 0.5^(n^2).
        demonstrations: whether the learner draws any; raises ConfigError for a weight without.
    """

    def __init__(self, weight: float, steps: float, demonstrations: bool) -> None:
        if weight and not demonstrations:
            raise ConfigError(f"imitation={weight} needs demonstrations", remedy="Set demonstrations=true")
        self._weight, self._steps = weight, steps

    def __bool__(self) -> bool:
        return self._weight != 0.0

    def at(self, step: int) -> float:
        """The weight after ``step`` critic steps."""
        return self._weight * 0.5 ** (step / self._steps) ** 2
