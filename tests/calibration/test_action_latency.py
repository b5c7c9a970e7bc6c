"""An arm that follows a chirp with a known lag."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.action_latency import action_latency, chirp
from robot_rl.errors import CalibrationError, InvalidArrayError
from robot_rl.types import Array

TIMES = np.arange(-1.0, 9.0, 0.05)  # a step rate of 20 Hz


def swept(times_s: Array) -> Array:
    return chirp(times_s, 0.05, 0.3, 1.5, 8.0)


def test_a_pure_delay_is_found_between_samples() -> None:
    rng = np.random.default_rng(0)
    moved = 0.9 * swept(TIMES - 0.0837) + 0.2 + rng.normal(0.0, 2e-4, len(TIMES))
    found = action_latency(TIMES, swept(TIMES), TIMES, moved)
    assert found.latency_s == pytest.approx(0.0837, abs=0.002)
    assert found.gain == pytest.approx(0.9, abs=0.01)
    assert found.peak.second < 0.9


def test_a_first_order_lag_is_its_time_constant() -> None:
    """Below its corner frequency, y' = (x - y) / T is x late by T."""
    fine = np.arange(-1.0, 9.0, 0.001)
    told, moved = swept(fine), np.zeros(len(fine))
    for i in range(1, len(fine)):
        moved[i] = moved[i - 1] + 0.001 / 0.06 * (told[i - 1] - moved[i - 1])
    found = action_latency(TIMES, swept(TIMES), fine[::50], moved[::50])
    assert found.latency_s == pytest.approx(0.06, abs=0.008)


def test_a_chirp_keeps_its_peak_speed_and_ends_at_rest() -> None:
    fine = np.linspace(-1.0, 9.0, 100_001)
    speed = np.abs(np.gradient(swept(fine), fine))
    early, late = speed[(fine > 3.0) & (fine < 4.0)].max(), speed[(fine > 5.0) & (fine < 6.0)].max()
    assert early == pytest.approx(2.0 * np.pi * 0.3 * 0.05, rel=0.1)
    assert late == pytest.approx(early, rel=0.1)
    assert not swept(np.array([-0.5, 0.0, 8.0, 8.5])).any()


def test_what_does_not_tell_is_refused_by_cause() -> None:
    told = swept(TIMES)
    with pytest.raises(CalibrationError, match="the arm moved by 0 where it was told to by"):
        action_latency(TIMES, told, TIMES, np.zeros(len(TIMES)))
    with pytest.raises(CalibrationError, match="one frequency"):
        action_latency(TIMES, np.sin(18.0 * TIMES), TIMES, np.sin(18.0 * (TIMES - 0.05)))
    with pytest.raises(CalibrationError, match="do not show the same motion"):
        action_latency(TIMES, told, TIMES, np.random.default_rng(0).normal(0.0, 0.03, len(TIMES)))
    with pytest.raises(InvalidArrayError, match="target"):
        action_latency(TIMES[::-1], told, TIMES, told)
