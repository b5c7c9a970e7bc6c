"""How two streams are shifted in time: the peak of their correlation, and how far it can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_rl.errors import CalibrationError
from robot_rl.types import Array

GRID_S = 0.004
_LEAST = 0.6  # below it the streams do not show the same motion
ALIKE = 0.9  # of the peak: another one as high may be the true one
_FALL = 0.1  # of the peak, which it loses within ``half_width_s``


@dataclass(frozen=True, eq=False)
class CorrelationPeak:
    """The best lag of a stream behind another. ``half_width_s`` tells how sharp the peak is: within it the correlation
    falls by a tenth. ``second`` is the highest other peak, relative to this one."""

    lag_s: float
    value: float
    second: float
    half_width_s: float
    lags_s: Array  # [k]
    correlation: Array  # [k]


def correlation_peak(correlation: Callable[[float], float], range_s: float) -> CorrelationPeak:
    """The peak of ``correlation`` (of a lag [s]) within +- ``range_s``, between grid points by a parabola.

    Raises CalibrationError where the streams do not follow each other, where the best lag lies at the border, or where
    another lag is as good: motion of one frequency looks the same a period later.
    """
    steps = round(range_s / GRID_S)
    lags = np.arange(-steps, steps + 1) * GRID_S
    values = np.array([correlation(lag) for lag in lags])
    top = int(np.argmax(values))
    if values[top] < _LEAST:
        raise CalibrationError(
            f"the streams do not show the same motion: their correlation is {values[top]:.2f} at best",
            limit=f"at least {_LEAST}",
            remedy="Move more and in full view of the camera; check that both streams are of this arm",
        )
    if top in (0, len(lags) - 1):
        raise CalibrationError(
            f"the streams are shifted by {abs(lags[top]):.2f} s or more", limit=f"{range_s} s", remedy="Widen range_s"
        )
    left, right = _lobe(values, top)
    others = values.copy()
    others[left : right + 1] = -1.0
    second = max(float(others.max() / values[top]), 0.0)
    if second > ALIKE:
        at = lags[int(np.argmax(others))]
        raise CalibrationError(
            f"the motion is of one frequency: shifts of {1e3 * lags[top]:.0f} and {1e3 * at:.0f} ms fit alike",
            limit=f"second peak at most {ALIKE} of the first, it is {second:.2f}",
            remedy="Move irregularly, slow and fast, about several axes",
        )
    below = values < (1.0 - _FALL) * values[top]
    after, before = np.flatnonzero(below[top:]), np.flatnonzero(below[top::-1])
    widths = [float(found[0]) for found in (after, before) if len(found)]
    half_width = GRID_S * float(np.mean(widths)) if widths else range_s
    return CorrelationPeak(_between(lags, values, top), float(values[top]), second, half_width, lags, values)


def _lobe(values: Array, top: int) -> tuple[int, int]:
    """First and last index of the hill around ``top``: down to its nearest valleys on both sides."""
    left, right = top, top
    while left > 0 and values[left - 1] <= values[left]:
        left -= 1
    while right < len(values) - 1 and values[right + 1] <= values[right]:
        right += 1
    return left, right


def _between(lags: Array, values: Array, top: int) -> float:
    """The vertex of the parabola through a peak and its neighbours."""
    before, here, after = values[top - 1 : top + 2]
    bend = before - 2.0 * here + after
    return float(lags[top] + (GRID_S * 0.5 * (before - after) / bend if bend < 0.0 else 0.0))
