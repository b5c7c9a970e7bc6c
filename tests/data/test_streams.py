"""Stamps at receipt, interpolation and alignment, with numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from robot_rl.data.alignment import Alignment
from robot_rl.data.streams import Arrivals, Frames, Samples
from robot_rl.errors import ConfigError, StaleObservationError
from robot_rl.types import Frame

pytestmark = pytest.mark.robot

MS = 1_000_000
HOUR = 3600 * 1000 * MS


def frame(stamp_ms: float, sequence: int = 0) -> Frame:
    return Frame(b"jpeg", round(stamp_ms * MS), sequence, 4, 4)


def test_a_stamp_is_the_time_of_arrival_less_the_headers_age() -> None:
    arrivals = Arrivals()
    assert arrivals.stamp(header_ns=1000 * MS, now_ns=1020 * MS, received_ns=77 * MS) == 57 * MS
    assert arrivals.age_s(87 * MS) == pytest.approx(0.010)


@pytest.mark.parametrize(("age_ms", "believed"), [(-5.0, True), (-5.1, False), (500.0, True), (500.1, False)])
def test_ages_outside_of_5_ms_ahead_to_500_ms_are_rejected_and_counted(age_ms: float, believed: bool) -> None:
    arrivals = Arrivals()
    now = 10 * HOUR
    stamp = arrivals.stamp(now - round(age_ms * MS), now, received_ns=HOUR)
    assert (stamp is not None) is believed
    assert arrivals.rejected["age"] == (not believed)


def test_a_message_not_newer_than_the_last_is_rejected() -> None:
    arrivals = Arrivals()
    assert arrivals.stamp(1000 * MS, 1001 * MS, 1 * MS) is not None
    assert arrivals.stamp(1000 * MS, 1002 * MS, 2 * MS) is None
    assert arrivals.rejected["order"] == 1
    assert arrivals.age_s(101 * MS) == pytest.approx(0.1)  # what repeats itself does not count as alive


def test_a_clock_that_is_stepped_silences_the_stream_until_both_sides_agree() -> None:
    arrivals = Arrivals()
    assert arrivals.stamp(HOUR, HOUR, 0) is not None
    assert arrivals.stamp(HOUR + 5 * MS, 2 * HOUR + 5 * MS, 5 * MS) is None  # the reader's clock was stepped
    assert arrivals.stamp(2 * HOUR + 10 * MS, 2 * HOUR + 10 * MS, 10 * MS) == 10 * MS


def test_clocks_set_back_together_silence_nothing() -> None:
    arrivals = Arrivals()
    assert arrivals.stamp(2 * HOUR, 2 * HOUR, 0) == 0
    assert arrivals.stamp(HOUR + 5 * MS, HOUR + 6 * MS, 6 * MS) == 5 * MS
    assert arrivals.stamp(HOUR + 4 * MS, HOUR + 7 * MS, 7 * MS) is None  # measured before the last
    assert arrivals.rejected["order"] == 1


def test_statistics_tell_rate_and_transport() -> None:
    arrivals = Arrivals()
    for i in range(11):
        arrivals.stamp((1000 + 10 * i) * MS, (1003 + 10 * i) * MS, 10 * i * MS)
    told = arrivals.statistics()
    assert told["rate_hz"] == pytest.approx(100.0)
    assert told["transport_p99_ms"] == pytest.approx(3.0)


def test_vectors_are_interpolated_linearly_and_never_extrapolated() -> None:
    samples = Samples()
    samples.append(10 * MS, [0.0, 4.0])
    samples.append(20 * MS, [1.0, 8.0])
    middle = samples.at(15 * MS)
    assert middle is not None
    np.testing.assert_allclose(middle.value, [0.5, 6.0])
    assert middle.skew_ns == 0
    late, early = samples.at(26 * MS), samples.at(7 * MS)
    assert late is not None and early is not None
    assert (late.value[0], late.skew_ns) == (1.0, 6 * MS)
    assert (early.value[0], early.skew_ns) == (0.0, -3 * MS)


def test_a_hole_is_not_bridged_by_a_line() -> None:
    samples = Samples()
    samples.append(0, [0.0])
    samples.append(400 * MS, [4.0])
    near = samples.at(100 * MS)
    assert near is not None
    assert (near.value[0], near.skew_ns) == (0.0, 100 * MS)


def test_rotations_are_interpolated_on_the_sphere() -> None:
    poses = Samples(poses=True)
    poses.append(0, [0, 0, 0, 0, 0, 0, 1])
    half = math.radians(45)
    poses.append(90 * MS, [0.9, 0, 0, 0, 0, math.sin(half), math.cos(half)])  # 90 degrees about z
    third = poses.at(30 * MS)
    assert third is not None
    fifteen = math.radians(15)  # 30 degrees
    np.testing.assert_allclose(third.value, [0.3, 0, 0, 0, 0, math.sin(fifteen), math.cos(fifteen)], atol=1e-12)


def test_only_so_many_samples_are_kept() -> None:
    samples = Samples(kept=4)
    for i in range(20):
        samples.append(i * MS, [i])
    oldest = samples.at(0)
    assert oldest is not None and oldest.value[0] >= 12


def aligned_pair() -> Alignment:
    """Joints every 10 ms; a reference camera at 0, 50, 100 ms, another at 12, 62, 112 ms."""
    joints, front, side = Samples(), Frames(20.0), Frames(20.0)
    for i in range(12):
        joints.append(10 * i * MS, [i])
    for i in range(3):
        front.append(frame(50 * i, i))
        side.append(frame(12 + 50 * i, i))
    return Alignment({"joints": joints}, {"front": front, "side": side}, "front")


def test_the_newest_reference_frame_is_the_anchor_and_others_are_nearest() -> None:
    alignment = aligned_pair()
    anchor = alignment.newest()
    assert anchor == 100 * MS
    seen = alignment.at(anchor)
    assert seen.frames["front"].sequence == 2
    assert seen.frames["side"].stamp_ns == 112 * MS
    assert seen.values["joints"][0] == 10.0
    assert seen.skew_ns == {"joints": 0, "front": 0, "side": 12 * MS}
    assert seen.largest_skew_ns == 12 * MS


def test_a_camera_more_than_half_a_frame_away_is_refused_by_name() -> None:
    alignment = aligned_pair()
    for i in range(3, 5):
        alignment.cameras["front"].append(frame(50 * i, i))
    with pytest.raises(StaleObservationError, match=r"side \(-38 ms\).*half a frame"):
        alignment.at(150 * MS)
    assert alignment.at(150 * MS, strict=False).skew_ns["side"] == -38 * MS


def test_streams_without_anything_are_named() -> None:
    alignment = Alignment({"joints": Samples(), "gripper": Samples()}, {})
    assert alignment.newest() is None
    with pytest.raises(StaleObservationError, match="joints, gripper"):
        alignment.at(0)


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(ConfigError, match="wrist"):
        Alignment({"joints": Samples()}, {"wrist": Frames(30.0)}, "wirst")
