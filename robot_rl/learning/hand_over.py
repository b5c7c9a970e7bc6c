"""Handing episodes over from a base to what is learnt around it, by what both earned (learning.md, section 6).

Training episodes go by chance to the base or to reinforcement learning. The latter's share rises while it is, by the
posterior of recent episodes, not worse than the base, and falls otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.special import betainc, betaincinv
from torch import Tensor

from robot_rl.data.replay_index import HUMAN
from robot_rl.data.tables import EpisodeTable
from robot_rl.errors import ConfigError

BASE, CLOSED, OPEN = 0, 1, 2  # policy/arm: the base has the episode; RL has it, its gate closed or open at this step
SHARE, HANDED = "arms.share", "arms.handed"  # in what acts (policies.arms)
_POINTS = 501  # of the quadrature over the base's posterior


class HandOver:
    """A pure function of the episodes' outcomes, oldest first, so that relabelling and resuming change nothing else.

    Args:
        lowest, highest: bounds of the share of episodes that reinforcement learning has; it begins at the lowest, and
            at least 0.1 stays with the base.
        margin, confidence: its success may be so much lower than the base's, with at least so much probability.
        window: its newest episodes that count; of the base, which does not change, all do.
        rise: of the share after one of its episodes; it falls as fast.
    """

    def __init__(
        self,
        lowest: float = 0.5,
        highest: float = 0.9,
        margin: float = 0.05,
        confidence: float = 0.8,
        window: int = 50,
        rise: float = 0.05,
    ) -> None:
        if not 0.0 < lowest < highest <= 0.9 or window < 1 or rise <= 0.0:
            given = f"lowest={lowest}, highest={highest}, window={window}, rise={rise}"
            raise ConfigError(given, limit="0 < lowest < highest <= 0.9, at least 1, above 0")
        self.lowest, self.highest, self.margin, self.confidence = lowest, highest, margin, confidence
        self.window, self.rise = window, rise
        self.share, self.figures = lowest, dict[str, float]()

    @property
    def handed(self) -> bool:
        """Whether what is learnt is trusted to be deployed: the share is past the middle of its bounds."""
        return self.share - (self.lowest + self.highest) / 2 > 1e-6  # which sums of ``rise`` may miss

    def heard(self, outcomes: Sequence[tuple[bool, bool]]) -> None:
        """Take note of all episodes so far, oldest first: (reinforcement learning had it, success)."""
        base, learnt, probability = _Tally(), _Tally(self.window), 0.0
        self.share = self.lowest
        for reinforced, success in outcomes:
            (learnt if reinforced else base).add(success)
            if reinforced:
                probability = not_worse(learnt.posterior, base.posterior, self.margin)
                change = self.rise if probability > self.confidence else -self.rise
                self.share = min(max(self.share + change, self.lowest), self.highest)
        self.figures = {
            "rl_share": self.share,
            "rl_not_worse": probability,
            "rl_success": learnt.rate,
            "base_success": base.rate,
            "rl_episodes": float(sum(reinforced for reinforced, _ in outcomes)),
            "base_episodes": float(base.many),
        }

    def state(self) -> dict[str, Tensor]:
        """What acting needs of it."""
        return {SHARE: torch.tensor(self.share), HANDED: torch.tensor(float(self.handed))}

    def state_dict(self) -> dict[str, Tensor]:
        """The share in force; the outcomes themselves are in the session's store."""
        return {"hand_over.share": torch.tensor(self.share, dtype=torch.float64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``, whatever else the state holds."""
        self.share = float(state["hand_over.share"])


@lru_cache(maxsize=10_000)
def not_worse(learnt: tuple[float, float], base: tuple[float, float], margin: float) -> float:
    """P(p >= q - margin) of independent p ~ Beta(*learnt) and q ~ Beta(*base).

    The integral over q's distribution of P(p >= q - margin), by the midpoint rule on q's quantiles.
    """
    level = (np.arange(_POINTS) + 0.5) / _POINTS
    quantile = betaincinv(*base, level)
    return float(1.0 - betainc(*learnt, np.clip(quantile - margin, 0.0, 1.0)).mean())


def outcomes_of(table: EpisodeTable) -> tuple[list[tuple[bool, bool]], dict[str, float]]:
    """Of the judged episodes of ``table``, oldest first: (reinforcement learning had it, success); and the share of
    steps in which its gate was open, in its newest ten. What a person had to help with is no success."""
    first, arm, human = table.first, table["policy/arm"], table["flags/intervention"] == HUMAN
    found, opened = list[tuple[bool, bool]](), list[float]()
    for e, summary in enumerate(table.summaries):
        if summary is None or summary.success is None:
            continue
        rows = slice(first[e], first[e + 1] - 1)
        reinforced = bool(arm[rows].any())
        found.append((reinforced, bool(summary.success) and not human[rows].any()))
        opened += [float((arm[rows] == OPEN).mean())] * reinforced
    return found, {"gate_open": float(np.mean(opened[-10:]))} if opened else {}


class _Tally:
    """Successes and failures, all or those of the newest ``window`` episodes, under a uniform prior."""

    def __init__(self, window: int | None = None) -> None:
        self._window, self._successes = window, list[bool]()

    def add(self, success: bool) -> None:
        self._successes.append(success)
        if self._window is not None:
            del self._successes[: -self._window]

    @property
    def many(self) -> int:
        return len(self._successes)

    @property
    def posterior(self) -> tuple[float, float]:
        won = sum(self._successes)
        return 1.0 + won, 1.0 + self.many - won

    @property
    def rate(self) -> float:
        return sum(self._successes) / max(self.many, 1)
