"""Intervals and paired tests for small numbers of episodes. Exact where an exact test exists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from robot_rl.errors import InvalidArrayError
from robot_rl.types import Array


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a success rate (Clopper and Pearson 1934). Raises InvalidArrayError for impossible counts.

    The rates p for which seeing ``successes`` or more, and ``successes`` or fewer, each have at least the probability
    (1 - confidence) / 2.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InvalidArrayError(f"{successes} successes of {trials} episodes", limit="0 <= successes <= episodes, >= 1")
    tail = (1.0 - confidence) / 2.0
    failures = trials - successes
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, failures + 1))
    high = 1.0 if failures == 0 else float(stats.beta.ppf(1.0 - tail, successes + 1, failures))
    return low, high


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided p of a fair coin between the discordant pairs (McNemar 1947, exact binomial form); 1 without any."""
    discordant = only_first + only_second
    return 1.0 if discordant == 0 else float(stats.binomtest(only_first, discordant, 0.5).pvalue)


def bootstrap_mean(
    values: Sequence[float] | Array, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean (Efron 1979); for a paired difference hand in the differences."""
    data = _sample(values)
    draws = np.random.default_rng(seed).integers(len(data), size=(resamples, len(data)))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(data[draws].mean(axis=1), (tail, 1.0 - tail))
    return float(low), float(high)


def sign_flip_test(differences: Sequence[float] | Array, resamples: int = 10_000, seed: int = 0) -> float:
    """Two-sided p that paired differences have mean zero, by flipping their signs (Fisher 1935).

    Exact when all 2^n flips are at most ``resamples``, else drawn at random with the observed one counted.
    """
    data = _sample(differences)
    data = data[data != 0.0]  # a zero has no sign to flip
    if len(data) == 0:
        return 1.0
    observed = abs(data.sum()) * (1.0 - 1e-12)
    if 2 ** len(data) <= resamples:
        bits = (np.arange(2 ** len(data))[:, None] >> np.arange(len(data))) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ data) >= observed))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(resamples, len(data)))
    return float((1 + np.sum(np.abs(signs @ data) >= observed)) / (1 + resamples))


def _sample(values: Sequence[float] | Array) -> Array:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or len(data) == 0 or not np.isfinite(data).all():
        raise InvalidArrayError(f"sample of shape {list(data.shape)}", limit="at least one finite number, [n]")
    return data
