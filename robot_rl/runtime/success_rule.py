"""When scored frames amount to a success: several in a row above a threshold, with the TCP where successes have been.

One rule for the running episode, for stored ones that are judged again and for the choice of the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array, Arrays, PolicySpec


@dataclass(frozen=True)
class SuccessRule:
    """``consecutive`` scores in a row of at least ``threshold``, each with the TCP between ``lower_m`` and ``upper_m``
    [3] (base frame); without bounds it may be anywhere."""

    threshold: float
    consecutive: int = 3
    lower_m: Sequence[float] | None = None
    upper_m: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0 or self.consecutive < 1:
            raise ConfigError(
                f"threshold={self.threshold}, consecutive={self.consecutive}", limit="above 0 up to 1, at least 1"
            )

    def inside(self, positions_m: Array) -> Array:
        """The pose test, bool [...], of TCP positions [..., 3]."""
        if self.lower_m is None or self.upper_m is None:
            return np.ones(positions_m.shape[:-1], dtype=bool)
        within = (positions_m >= np.asarray(self.lower_m)) & (positions_m <= np.asarray(self.upper_m))
        return np.asarray(within.all(axis=-1))

    def levels(self, scores: Array, positions_m: Array) -> Array:
        """For each row [N] the threshold up to which the rule would call it a success; 0 before ``consecutive`` rows
        and outside the bounds. ``scores`` [N], ``positions_m`` [N, 3] in order of time."""
        counted = np.where(self.inside(positions_m), scores, 0.0)
        padded = np.concatenate([np.zeros(self.consecutive - 1), counted])
        return np.lib.stride_tricks.sliding_window_view(padded, self.consecutive).min(axis=1)

    def first(self, scores: Array, positions_m: Array) -> int | None:
        """The first row that is a success, None without one; arguments as of ``levels``."""
        fired = self.levels(scores, positions_m) >= self.threshold
        return int(fired.argmax()) if fired.any() else None


class SuccessCounter:
    """The rule over frames as they are scored."""

    def __init__(self, rule: SuccessRule) -> None:
        self._rule, self._passed = rule, 0

    def reset(self) -> None:
        """An episode begins."""
        self._passed = 0

    def add(self, score: float, position_m: Array) -> bool:
        """Whether the frame with this score, the TCP at ``position_m`` [3], completes a success."""
        passes = score >= self._rule.threshold and bool(self._rule.inside(position_m))
        self._passed = self._passed + 1 if passes else 0
        return self._passed >= self._rule.consecutive


class SuccessJudge(Protocol):
    """What scores frames, e.g. policies.success_classifier from a checkpoint."""

    @property
    def spec(self) -> PolicySpec:
        """The cameras and states it looks at; one observation at a time."""
        ...

    @property
    def rule(self) -> SuccessRule: ...

    @property
    def cameras(self) -> tuple[str, ...]: ...

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) of its images."""
        ...

    def probability(self, window: Arrays) -> Array:
        """Scores [B] in [0, 1] of frames {images/<camera>: uint8 [B, 1, h, w, 3]}."""
        ...

    def position_m(self, state: Arrays) -> Array:
        """TCP positions [..., 3] for the rule, from states {name: [..., D]}."""
        ...
