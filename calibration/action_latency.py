"""How late the arm does what it is told: a chirp on its target against the motion that was measured.

A swept sine meets every frequency that policies command, and looks like itself at one shift only. The shift is found by
correlation (as in UMI, Chi et al. 2024), then shift and gain are fitted to the measured motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares

from calibration.correlation import CorrelationPeak, correlation_peak
from robot_rl.errors import CalibrationError, InvalidArrayError
from robot_rl.types import Array

_FEWEST = 40


@dataclass(frozen=True, eq=False)
class ActionLatency:
    """``latency_s`` from a target's due time to the arm being there; ``gain`` is 1 where the whole way is made."""

    latency_s: float
    gain: float
    residual: float  # root mean square of what shift and gain do not explain, over that of the motion
    peak: CorrelationPeak


def chirp(times_s: Array, amplitude: float, first_hz: float, last_hz: float, duration_s: float) -> Array:
    """A swept sine of falling amplitude [n], of constant peak speed, zero before 0 and after ``duration_s``; it begins
    and ends smoothly."""
    t = np.clip(np.asarray(times_s, dtype=np.float64), 0.0, duration_s)
    rate = (last_hz - first_hz) / duration_s
    phase = 2.0 * np.pi * (first_hz * t + 0.5 * rate * t**2)
    ends = np.minimum(t, duration_s - t) * first_hz
    window = np.where(ends < 1.0, 0.5 - 0.5 * np.cos(np.pi * np.clip(ends, 0.0, 1.0)), 1.0)
    return amplitude * first_hz / (first_hz + rate * t) * window * np.sin(phase)


def action_latency(
    target_times_s: Array, target: Array, measured_times_s: Array, measured: Array, *, range_s: float = 0.5
) -> ActionLatency:
    """The latency from targets [n] at the times they are due to positions [m] at the times they were measured, along
    one axis, in any unit.

    Raises CalibrationError for motion that is missing, too short, of one frequency or not that of the targets.
    """
    told_at, told = _stream("target", target_times_s, target)
    seen_at, seen = _stream("measured", measured_times_s, measured)
    inside = (seen_at > told_at[0] + range_s) & (seen_at < told_at[-1] - range_s)
    if inside.sum() < _FEWEST:
        raise CalibrationError(
            f"{inside.sum()} measurements during the motion", limit=f"{_FEWEST}, and {range_s:g} s of targets around"
        )
    seen_at, seen = seen_at[inside], seen[inside] - seen[inside].mean()
    follow = CubicSpline(told_at, told)
    if np.ptp(told) <= 0.0 or np.ptp(seen) < 0.05 * np.ptp(told):
        raise CalibrationError(
            f"the arm moved by {np.ptp(seen):.4g} where it was told to by {np.ptp(told):.4g}",
            limit="at least a twentieth",
            remedy="Check that it takes commands, and make the motion larger",
        )

    def correlation(lag_s: float) -> float:
        moved = follow(seen_at - lag_s)
        moved = moved - moved.mean()
        return float(moved @ seen / np.sqrt((moved @ moved) * (seen @ seen)))

    peak = correlation_peak(correlation, range_s)
    fitted = least_squares(
        lambda x: x[1] * follow(seen_at - x[0]) + x[2] - seen, [peak.lag_s, 1.0, 0.0], loss="soft_l1", x_scale="jac",
        f_scale=0.1 * float(seen.std()),
    )  # fmt: skip
    left = fitted.x[1] * follow(seen_at - fitted.x[0]) + fitted.x[2] - seen
    return ActionLatency(float(fitted.x[0]), float(fitted.x[1]), float(left.std() / seen.std()), peak)


def _stream(name: str, times_s: Array, values: Array) -> tuple[Array, Array]:
    times, stream = np.asarray(times_s, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if times.ndim != 1 or times.shape != stream.shape or not np.isfinite(stream).all() or (np.diff(times) <= 0).any():
        raise InvalidArrayError(f"{name}: times {list(times.shape)}, values {list(stream.shape)}", limit="rising, [n]")
    if len(times) < _FEWEST:
        raise CalibrationError(f"{len(times)} samples in '{name}'", limit=f"at least {_FEWEST}")
    return times, stream
