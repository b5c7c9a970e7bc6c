"""From progress to reward: 1 at success and nothing else, or also what each step has gained."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.types import Array, Arrays, Judgement, Observation

Progress = Callable[[Arrays], float]  # observation.state -> 0 far from done to 1 done


class Reward(StrEnum):
    SPARSE = "sparse"
    DENSE = "dense"


class RewardRule:
    """Judges a transition whose success is known; success ends the episode.

    Dense adds the gain in progress, a potential difference (Ng, Harada and Russell 1999): unlike a reward for every
    step spent near the goal it pays nobody for waiting there, and going to and fro sums to nothing.
    """

    def __init__(self, reward: str, progress: Progress) -> None:
        if reward not in list(Reward):
            raise ConfigError(f"no reward '{reward}'", remedy=valid_choices(reward, list(Reward)))
        self._dense, self._progress = Reward(reward) is Reward.DENSE, progress

    def judge(self, success: bool, before: Arrays, after: Arrays) -> Judgement:
        """1 at success; dense: plus progress after minus progress before."""
        gained = self._progress(after) - self._progress(before) if self._dense else 0.0
        return Judgement(float(success) + gained, success, success)


def nearness(distance_m: float, scale_m: float = 0.1) -> float:
    """1 at no distance, falling to 0 far away: 0.24 at ``scale_m``, steepest near the goal."""
    return 1.0 - math.tanh(distance_m / scale_m)


def seconds(before: Observation, after: Observation) -> float:
    """Time [s] from one observation to the next."""
    return 1e-9 * (after.stamp_ns - before.stamp_ns)


def distance(a: Array, b: Array) -> float:
    """Distance [m] of two positions, or of the positions of two poses."""
    return math.dist(a[:3], b[:3])
