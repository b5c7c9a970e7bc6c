"""Pairs by stamp: the nearest sample, never one that is too far away or from a moving arm."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.samples import ArmSample, BoardPose, BoardView, pair
from robot_rl.errors import CalibrationError, InvalidArrayError
from tests.calibration.truth import pose

MS = 1_000_000


def arm_stream(speed_rad_s: float = 0.0, rate_hz: float = 100.0, seconds: float = 2.0) -> list[ArmSample]:
    """A single joint that turns from 1 s on."""
    times = np.arange(0.0, seconds, 1.0 / rate_hz)
    return [ArmSample(round(t * 1e9), np.array([max(t - 1.0, 0.0) * speed_rad_s]), pose(t, 0.0, 0.0)) for t in times]


def seen_at(stamp_ns: int) -> BoardPose:
    return BoardPose("wrist", stamp_ns, pose(0.0, 0.0, 0.5), image="a.png")


def test_each_view_gets_the_nearest_sample() -> None:
    captures = pair([seen_at(504 * MS), seen_at(506 * MS)], arm_stream())
    assert [capture.arm.stamp_ns for capture in captures] == [500 * MS, 510 * MS]


def test_a_gap_in_the_stream_is_refused_with_its_length() -> None:
    with pytest.raises(CalibrationError, match=r"a\.png.*30 ms away.*20 ms"):
        pair([seen_at(2020 * MS)], arm_stream())


def test_a_moving_robot_is_refused_and_one_at_rest_is_not() -> None:
    stream = arm_stream(speed_rad_s=0.1)
    assert len(pair([seen_at(500 * MS)], stream)) == 1
    with pytest.raises(CalibrationError, match=r"the robot was moving, a joint by 0\.0300 rad within 300 ms"):
        pair([seen_at(1500 * MS)], stream)


def test_stamps_that_go_backwards_are_refused() -> None:
    stream = arm_stream()
    with pytest.raises(CalibrationError, match="backwards"):
        pair([seen_at(500 * MS)], [*stream[50:], *stream[:50]])


def test_what_is_no_rigid_transform_is_refused() -> None:
    mirrored = np.diag([1.0, 1.0, -1.0, 1.0])
    for wrong in (mirrored, np.eye(3), np.full((4, 4), np.nan), 2.0 * np.eye(4)):
        with pytest.raises(InvalidArrayError, match="T_base_tcp"):
            ArmSample(0, np.zeros(7), wrong)


def test_views_with_corners_twice_or_outside_are_refused() -> None:
    with pytest.raises(InvalidArrayError, match="twice"):
        BoardView("wrist", 0, (64, 48), np.array([3, 3]), np.array([[1.0, 1.0], [2.0, 2.0]]))
    with pytest.raises(InvalidArrayError, match="outside"):
        BoardView("wrist", 0, (64, 48), np.array([3]), np.array([[70.0, 1.0]]))
