from itertools import pairwise

import numpy as np
import pytest

from controllers.interpolation import (
    advance_segment,
    append_row,
    begin_segment,
    end_rate,
    late,
    new_segment,
    rest_segment,
    sample_segment,
    settle_segment,
    splice_segment,
)
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_rotvec, quat_xyzw_multiply, rotvec_from_quat_xyzw, slerp

pytestmark = pytest.mark.robot
DT, TICKS = 0.05, 25
FAST = np.full(6, 1e4)  # an acceleration that no row here needs


def pose(x: float, turn: float = 0.0) -> np.ndarray:
    return np.array([x, 0.0, 0.0, *quat_xyzw_from_rotvec([0.0, 0.0, turn])])


def rested(at: np.ndarray | None = None):
    segment = new_segment()
    rest_segment(segment, pose(0.0) if at is None else at)
    return segment


def run(segment, ticks: int = TICKS, acceleration: np.ndarray = FAST) -> tuple[np.ndarray, np.ndarray]:
    """Poses and twists of the next ticks, the present included."""
    poses, twists, here, twist = [], [], np.empty(7), np.empty(6)
    for tick in range(ticks + 1):
        if tick:
            advance_segment(segment, acceleration, DT / TICKS)
        sample_segment(segment, here, twist)
        poses.append(here.copy())
        twists.append(twist.copy())
    return np.array(poses), np.array(twists)


def test_a_plan_of_even_steps_is_a_straight_line_at_constant_speed():
    segment = rested()
    begin_segment(segment, pose(0.01, 0.1), pose(0.02, 0.2), True, FAST, DT)
    run(segment)
    begin_segment(segment, pose(0.02, 0.2), pose(0.03, 0.3), True, FAST, DT)
    poses, twists = run(segment)
    np.testing.assert_allclose(poses[:, 0], np.linspace(0.01, 0.02, TICKS + 1), atol=1e-12)
    np.testing.assert_allclose(twists[:, 0], 0.2, atol=1e-12)
    expected = slerp(pose(0, 0.1)[3:], pose(0, 0.2)[3:], np.linspace(0, 1, TICKS + 1))
    np.testing.assert_allclose(geodesic_angle(poses[:, 3:], expected), 0.0, atol=1e-7)
    np.testing.assert_allclose(twists[:, 5], 2.0, atol=1e-12)


def test_each_step_ends_at_its_set_point_and_speed_has_no_jump():
    """Rotations about ever other axes: the rate is the angular velocity, on both sides of a set point."""
    segment, rng, last = rested(), np.random.default_rng(0), np.zeros(6)
    for _ in range(20):
        target, following = (
            np.array([*rng.uniform(-0.02, 0.02, size=3), *quat_xyzw_from_rotvec(rng.uniform(-0.5, 0.5, size=3))])
            for _ in range(2)
        )
        begin_segment(segment, target, following, bool(rng.integers(2)), FAST, DT)
        poses, twists = run(segment)
        np.testing.assert_allclose(twists[0], last, atol=1e-9)
        np.testing.assert_allclose(poses[-1, :3], target[:3], atol=1e-9)
        assert geodesic_angle(poses[-1, 3:], target[3:]) < 1e-7
        middle = 0.5 * (twists[1:] + twists[:-1])
        np.testing.assert_allclose(np.diff(poses[:, :3], axis=0) / (DT / TICKS), middle[:, :3], atol=0.02)
        back = poses[:-1, 3:] * [-1, -1, -1, 1]
        turns = rotvec_from_quat_xyzw(quat_xyzw_multiply(poses[1:, 3:], back)) / (DT / TICKS)
        np.testing.assert_allclose(turns, middle[:, 3:], atol=0.25)
        last = twists[-1]


def test_rows_announced_as_a_plan_follow_each_other_without_being_begun():
    """A third of the pace: after three steps the path has come to the first row and goes on to those that wait."""
    segment = rested()
    begin_segment(segment, pose(0.01), pose(0.02), True, FAST, DT)
    run(segment)
    segment.pace[0] = 1.0 / 3.0
    for row in (2, 3, 4):
        append_row(segment, pose(0.01 * row), pose(0.01 * (row + 1)), True, FAST, DT)
        assert late(segment)
        poses, _ = run(segment)
    assert poses[-1, 0] == pytest.approx(0.02, abs=1e-6)
    assert segment.waiting[0] in (1, 2)
    segment.pace[0] = 1.0
    poses, twists = run(segment, 2 * TICKS)
    assert poses[-1, 0] == pytest.approx(0.04, abs=1e-6)
    np.testing.assert_allclose(twists[1:-1, 0], 0.2, atol=1e-9)


def test_of_a_plan_that_is_far_too_late_the_oldest_rows_are_lost():
    segment = rested()
    begin_segment(segment, pose(0.01), pose(0.02), True, FAST, DT)
    for row in range(2, 20):
        append_row(segment, pose(0.01 * row), pose(0.01 * (row + 1)), True, FAST, DT)
    assert segment.waiting[0] == len(segment.rows)
    assert segment.rows[-1, 0] == pytest.approx(0.19)
    assert segment.rows[0, 0] == pytest.approx(0.01 * (20 - len(segment.rows)))


def test_a_row_takes_as_long_as_its_acceleration_needs():
    """5 cm from rest, with half the mean as rate at the end: 5 d / T^2 at first, which is 4 m/s^2 for T = 0.25 s."""
    segment = rested()
    begin_segment(segment, pose(0.05), pose(0.05), False, np.full(6, 4.0), DT)
    assert 0.25 <= segment.time[1] <= 0.25 * 1.05
    poses, _ = run(segment, int(segment.time[1] / DT * TICKS))
    accelerations = np.diff(poses[:, 0], 2) / (DT / TICKS) ** 2
    assert 3.5 < np.abs(accelerations).max() <= 4.0
    assert late(segment) or poses[-1, 0] == pytest.approx(0.05)


def test_a_plan_that_ends_comes_to_rest_at_its_last_row():
    segment = rested()
    begin_segment(segment, pose(0.02), pose(0.02), False, FAST, DT)
    _, moving = run(segment)
    assert moving[-1, 0] == pytest.approx(0.2)
    poses, stopping = run(segment, 2 * TICKS, np.full(6, 16.0))
    assert stopping[-1, 0] == 0.0
    assert poses[-1, 0] == pytest.approx(0.02)
    assert poses[:, 0].max() < 0.02 + 0.15 * 0.2 * DT  # 4/27 of the way that the speed would have led


@pytest.mark.parametrize(("ahead", "rests_at"), [(0.0, 0.2 * 0.2 / 3), (-0.05, 0.2 * 0.2 / 3), (0.03, 0.03)])
def test_holding_never_turns_back(ahead, rests_at):
    """At 0.2 m/s and 4 m/s^2 it takes 0.2 s, and leads a third of the way that the speed would."""
    segment = rested()
    begin_segment(segment, pose(0.02), pose(0.02), False, FAST, DT)
    run(segment)
    settle_segment(segment, pose(0.02 + ahead), np.full(6, 4.0), False, DT)
    poses, twists = run(segment, 5 * TICKS)
    assert poses[-1, 0] == pytest.approx(0.02 + rests_at)
    assert twists[-1, 0] == 0.0
    assert (np.diff(poses[:, 0]) >= -1e-12).all()
    assert np.abs(np.diff(twists[:, 0])).max() <= 4.0 * DT / TICKS


def test_a_stream_of_single_rows_gets_up_to_its_pace():
    segment = rested()
    rates = []
    for row in range(1, 9):
        begin_segment(segment, pose(0.01 * row), pose(0.01 * row), False, FAST, DT)
        rates.append(run(segment)[1][-1, 0])
    np.testing.assert_allclose(rates, [0.1] + [0.2] * 7)


def test_a_stream_that_slows_down_and_turns_is_led_as_evenly_as_its_rows_tell():
    """Single rows of x = a t^2 / 2 at 1 m/s^2, from -0.2 m/s to 0.2 m/s: at most three times that."""
    times = np.arange(-0.2, 0.2001, DT)
    segment, speeds = rested(pose(0.5 * times[0] ** 2)), []
    splice_segment(segment, pose(0.5 * times[0] ** 2), np.array([times[0], 0, 0, 0, 0, 0]))
    for t in times[1:]:
        begin_segment(segment, pose(0.5 * t * t), pose(0.5 * t * t), False, FAST, DT)
        speeds += list(run(segment)[1][:-1, 0])
    accelerations = np.diff(speeds) / (DT / TICKS)
    assert accelerations.max() < 3.1
    assert accelerations.min() > -1.5
    assert speeds[-1] == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize("before", [0.3, -0.3])
def test_a_row_that_turns_hard_is_left_hardly_faster_than_it_was_begun(before):
    assert abs(end_rate(before, -0.01 * np.sign(before), 0.0, False, DT)) <= abs(before) + 0.1
    assert end_rate(0.0, 0.01, 0.0, False, DT) == pytest.approx(0.1)  # a single jump: half its pace
    assert end_rate(before, np.sign(before) * 0.001, 0.0, False, DT) == 0.0  # too near to go on


def test_no_set_point_is_passed_where_the_plan_turns_back():
    segment = rested()
    begin_segment(segment, pose(0.01), pose(0.0), True, FAST, DT)
    poses, twists = run(segment)
    assert twists[-1, 0] == 0.0
    assert poses[:, 0].max() <= 0.01 + 1e-12


def test_a_plan_that_turns_back_unevenly_passes_a_set_point_by_less_than_half_a_millimetre_and_one_that_rests_none():
    """0.05 m/s are left at most: 4/27 of the 2.5 mm that they lead in a row, where the next one were no way at all."""
    segment = rested()
    begin_segment(segment, pose(0.01), pose(0.0099), True, FAST, DT)
    _, twists = run(segment)
    assert twists[-1, 0] == pytest.approx(0.05)
    begin_segment(segment, pose(0.0099), pose(0.0099), True, FAST, DT)
    poses, twists = run(segment)
    assert 0.01 < poses[:, 0].max() < 0.0105
    assert twists[-1, 0] == 0.0


def test_a_circle_turns_evenly():
    """8 cm at 0.25 m/s: the acceleration towards the middle is v^2 / r everywhere, also where an axis turns back."""
    radius, speed = 0.08, 0.25
    angles = speed / radius * DT * (np.arange(60) + 0.37)
    rows = np.zeros((60, 7))
    rows[:, 0], rows[:, 1], rows[:, 6] = radius * np.cos(angles), radius * np.sin(angles), 1.0
    segment, path = rested(rows[0]), []
    splice_segment(segment, rows[0], speed * np.array([-np.sin(angles[0]), np.cos(angles[0]), 0.0, 0.0, 0.0, 0.0]))
    for row, following in pairwise(rows[1:]):
        begin_segment(segment, row, following, True, FAST, DT)
        path.append(run(segment)[0][:-1, :2])
    across = np.concatenate(path)
    acceleration = np.diff(across, 2, axis=0) * (TICKS / DT) ** 2
    inward = -np.sum(acceleration * across[1:-1], axis=1) / radius
    np.testing.assert_allclose(inward, speed**2 / radius, rtol=0.05)


def test_the_rate_of_rotation_is_that_of_the_path():
    segment = rested()
    begin_segment(segment, pose(0.0, 0.12), pose(0.0, 0.12), False, FAST, DT)
    poses, twists = run(segment)
    angle = rotvec_from_quat_xyzw(poses[:, 3:])[:, 2]
    np.testing.assert_allclose(np.gradient(angle, DT / TICKS)[1:-1], twists[1:-1, 5], atol=0.05)
