"""Whatever path comes in, what goes out respects every limit; a path within them is followed exactly."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.motion import braking_speed, keep_inside, motion_layer, stop, stop_bound, stop_travel
from controllers.safety_limits import SafetyLimits
from controllers.workspace import sphere_room
from robot_rl.geometry import geodesic_angle, pose_interpolate, quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.differences import DT, assert_within, differences
from tests.controllers.panda import panda_limits

pytestmark = pytest.mark.robot
START = np.array([0.48, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
HAND = {
    "walls_lower_m": (-1.0, -1.0, 0.0),
    "spheres": {"tip": (0.0, 0.0, 0.01, 0.012), "camera": (-0.08, 0, -0.05, 0.04)},
}

ratios = st.floats(-1, 1)
loosely = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-2, 2)
turned = st.lists(ratios, min_size=6, max_size=6)
tightness = st.fixed_dictionaries(
    {
        "max_jerk_m_s3": st.floats(1.5, 3.7).map(lambda power: 10**power),
        "max_jerk_rad_s3": st.floats(2, 4).map(lambda power: 10**power),
        "max_acceleration_m_s2": st.floats(1, 12),
        "max_rotation_rad": st.floats(0.2, 1.57),
    }
)


def moved(offset: list[float]) -> np.ndarray:
    """START moved by up to 0.5 m and 1.7 rad."""
    shift = np.array(offset)
    return np.array([*START[:3] + 0.5 * shift[:3], *quat_xyzw_multiply(quat_xyzw_from_rotvec(shift[3:]), START[3:])])


def walk(limits: SafetyLimits, path: list[np.ndarray], pace: float = 1.0) -> np.ndarray:
    """Poses of the reference behind a path, START included."""
    arrays, pose, point = limits.arrays(), START.copy(), START.copy()
    twist, acceleration, point_twist = np.zeros(6), np.zeros(6), np.zeros(6)
    poses = [pose.copy()]
    for after in path:
        motion_layer(arrays, point, point_twist, np.array(after), pace, pose, twist, acceleration, DT)
        poses.append(pose.copy())
    return np.array(poses)


def test_braking_by_hand():
    """At 1 m/s^2 in steps of 1 s: speed 3 leads 3 + 2 + 1 m far, speed 2.5 leads 2.5 + 1.5 + 0.5 m."""
    assert braking_speed(6.0, 1.0, 1.0) == 3.0
    assert braking_speed(4.5, 1.0, 1.0) == 2.5
    assert braking_speed(0.0, 1.0, 1.0) == 0.0
    assert braking_speed(-1.0, 1.0, 1.0) == 0.0


def test_a_stop_by_hand():
    """In steps of 1 s with 1 m/s^3 and at most 2 m/s^2 from 4 m/s: -1, -2, -1 m/s^2 leave 3 + 1 + 0 m."""
    speed, acceleration, accelerations = 4.0, 0.0, []
    while speed > 0.0:
        acceleration = stop(speed, acceleration, 2.0, 1.0, 1.0)
        speed += acceleration
        accelerations.append(acceleration)
    assert accelerations == [-1.0, -2.0, -1.0]
    assert stop_travel(4.0, 0.0, 2.0, 1.0, 1.0) == (4.0, 0.0)
    # decelerating too hard already, it turns back before it rests
    assert stop_travel(0.0, -2.0, 2.0, 1.0, 1.0)[1] > 0.0


@settings(max_examples=200, deadline=None)
@given(ratios, ratios, st.floats(-1, 1.3), st.floats(1, 4))
def test_the_way_of_a_stop_is_foreseen_exactly(speed, acceleration, most_power, jerk_power):
    most, jerk = 10**most_power, 10**jerk_power
    acceleration *= most
    foreseen, bound = stop_travel(speed, acceleration, most, jerk, DT), stop_bound(speed, acceleration, most, jerk, DT)
    at, ends = 0.0, [0.0]
    while abs(speed) > 1e-12 or abs(acceleration) > 1e-9:
        following = stop(speed, acceleration, most, jerk, DT)
        assert abs(following - acceleration) <= jerk * DT * (1 + 1e-9)
        assert abs(following) <= most * (1 + 1e-9)
        acceleration = following
        speed += acceleration * DT
        at += speed * DT
        ends.append(at)
    np.testing.assert_allclose(foreseen, (max(ends), -min(ends)), atol=1e-9)
    assert max(foreseen) <= bound + 1e-12


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(turned, st.integers(1, 60)), min_size=1, max_size=6), tightness, st.booleans())
def test_every_limit_holds_on_a_path_that_jumps_and_rests(stretches, tighter, hand):
    limits = panda_limits(**tighter, **(HAND if hand else {}))
    assert_within(limits, walk(limits, [moved(offset) for offset, ticks in stretches for _ in range(ticks)]))


@settings(max_examples=40, deadline=None)
@given(turned, turned, st.integers(1, 40), tightness, st.booleans())
def test_every_limit_holds_on_a_path_that_flips_between_two_poses(one, other, period, tighter, hand):
    limits = panda_limits(**tighter, **(HAND if hand else {}))
    path = [moved(one if tick // period % 2 else other) for tick in range(400)]
    assert_within(limits, walk(limits, path))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(loosely, min_size=7, max_size=7), min_size=1, max_size=8))
def test_every_limit_holds_on_a_path_of_anything(path):
    walked = walk(panda_limits(**HAND), [np.array(row) for row in path for _ in range(20)])
    assert_within(panda_limits(**HAND), walked)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [-1.0, 1.0])
@pytest.mark.parametrize("jerk", [6000.0, 60.0])
def test_the_reference_comes_to_each_wall_as_fast_as_it_may(axis, end, jerk):
    limits = panda_limits(max_jerk_m_s3=jerk)
    walked = walk(limits, [START + np.eye(7)[axis] * end] * 1500)
    assert_within(limits, walked)
    wall = (limits.box_lower_m if end < 0 else limits.box_upper_m)[axis]
    assert walked[-1, axis] == pytest.approx(wall, abs=1e-7)
    rates, _, jerks = differences(walked)
    assert np.abs(jerks[:, axis]).max() == pytest.approx(jerk / math.sqrt(3), rel=1e-6)
    if jerk > 1000.0 and abs(wall - START[axis]) > 0.25:
        assert np.abs(rates[:, axis]).max() == pytest.approx(limits.max_speed_m_s / math.sqrt(3), rel=1e-6)


@pytest.mark.parametrize("rad_per_tick", [0.001, 3.0])
def test_the_reference_comes_to_the_edge_of_the_ball_of_rotations(rad_per_tick):
    """Along a path slow enough to be followed exactly, and behind one that jumps."""
    limits, path = panda_limits(), []
    for tick in range(2000):
        turn = min(rad_per_tick * (tick + 1) * min(1.0, tick / 400), 2.0)
        path.append(np.array([*START[:3], *quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, turn, 0.0]), START[3:])]))
    walked = walk(limits, path)
    assert_within(limits, walked)
    assert geodesic_angle(walked[-1, 3:], limits.upright_quat_xyzw) == pytest.approx(limits.max_rotation_rad, abs=1e-5)


def test_spheres_stop_in_front_of_their_walls_also_when_they_are_turned_there():
    limits = panda_limits(**HAND)
    arrays = limits.arrays()
    down = walk(limits, [START - [0, 0, 1.0, 0, 0, 0, 0]] * 600)
    assert down[-1, 2] == pytest.approx(0.022, abs=1e-6)  # the tip reaches 22 mm below the TCP
    low = down[-1]
    tilted = np.array([*low[:3], *quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, -1.2, 0.0]), START[3:])])
    turned_there = walk(limits, [low] * 600 + [tilted] * 900)
    assert_within(limits, turned_there)
    assert sphere_room(arrays, turned_there[-1]) == pytest.approx(0.0, abs=1e-6)
    assert geodesic_angle(turned_there[-1, 3:], tilted[3:]) < 1e-6
    assert turned_there[-1, 2] > 0.03  # it made room for the camera


@pytest.mark.parametrize("jerk", [6000.0, 300.0, 30.0])
@pytest.mark.parametrize("distance", [0.0001, 0.02, 0.14])
def test_the_reference_catches_up_without_passing_or_swinging(distance, jerk):
    limits, goal = panda_limits(max_jerk_m_s3=jerk), START + np.array([0, distance, 0, 0, 0, 0, 0])
    walked = walk(limits, [goal] * 1000)
    assert walked[:, 1].max() <= goal[1] + 1e-12
    np.testing.assert_array_equal(walked[-1], goal)
    rates, _, jerks = differences(walked)
    assert rates[:, 1].min() >= -1e-12
    strong = jerks[np.abs(jerks[:, 1]) > 0.01 * jerk, 1]
    assert np.count_nonzero(np.diff(np.sign(strong))) <= 4
    # no longer than twice as long as with acceleration and jerk all used, and 0.1 s for the last millionths
    a, j = limits.max_acceleration_m_s2 / math.sqrt(3), jerk / math.sqrt(3)
    least = max(2 * math.sqrt(distance / a), (32 * distance / j) ** (1 / 3))
    assert np.argmax(walked[:, 1] == goal[1]) * DT < 2.0 * least + 0.1


def test_a_path_within_limits_is_followed_bit_for_bit():
    """Smooth in position and rotation; its jerk comes to half of what is allowed."""
    path = []
    for tick in range(1500):
        s = (tick + 1) * DT / 1.5
        way = s**3 * (10 - 15 * s + 6 * s * s) if s < 1 else 1.0
        path.append(pose_interpolate(START, moved([0.4, 0.3, 0.2, 0.5, -0.4, 0.8]), way))
    walked = walk(panda_limits(), path)
    np.testing.assert_array_equal(walked[1:], path)


@pytest.mark.parametrize("jerk", [6000.0, 300.0])
def test_after_a_kink_the_path_is_found_again_exactly(jerk):
    """The path sets off at 0.3 m/s at once."""
    limits = panda_limits(max_jerk_m_s3=jerk)
    path = [START + np.array([0, 0.3 * DT * (tick + 1), 0, 0, 0, 0, 0]) for tick in range(500)]
    walked = walk(limits, path)
    assert_within(limits, walked)
    off = np.abs(walked[1:, 1] - np.array(path)[:, 1])
    assert 0.001 < off.max() < 0.04
    np.testing.assert_array_equal(walked[-200:], path[-200:])


def test_at_rest_outside_it_only_moves_inwards():
    limits = panda_limits(max_rotation_rad=0.3)
    arrays, twist, acceleration, rate = limits.arrays(), np.zeros(6), np.zeros(6), np.zeros(6)
    pose = np.array([0.48, 0.0, 0.001, *quat_xyzw_multiply(quat_xyzw_from_rotvec([0.35, 0, 0]), START[3:])])
    point, walked = pose.copy(), [pose.copy()]
    for _ in range(500):
        motion_layer(arrays, point, rate, START.copy(), 1.0, pose, twist, acceleration, DT)
        walked.append(pose.copy())
    assert (np.diff(np.array(walked)[:, 2]) >= -1e-12).all()
    assert (np.diff(geodesic_angle(np.array(walked)[:, 3:], START[3:])) <= 1e-7).all()
    np.testing.assert_allclose(pose, START, atol=1e-9)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_a_path_into_a_wall_is_left_in_time(axis, end):
    """Followed exactly at 0.6 m/s until the wall is so near that it takes braking."""
    limits, path, speed = panda_limits(), [], 0.0
    at = START.copy()
    for tick in range(600):
        speed += min(200.0 * tick * DT, 3.0, (0.6 - speed) / 0.02) * DT
        at[axis] += end * speed * DT
        path.append(at.copy())
    walked = walk(limits, path)
    assert_within(limits, walked)
    assert walked[-1, axis] == pytest.approx((limits.box_lower_m if end < 0 else limits.box_upper_m)[axis], abs=1e-7)


@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_whoever_asks_for_all_there_is_stops_at_the_wall(end):
    at, speed, acceleration, most, jerk = 0.0, 0.0, 0.0, 5.0, 500.0
    for _ in range(800):
        acceleration = keep_inside(0.2 + at, 0.3 - at, end * most, speed, acceleration, most, jerk, DT)
        speed += acceleration * DT
        at += speed * DT
        assert -0.2 - 1e-9 <= at <= 0.3 + 1e-9
    assert at == pytest.approx(0.3 if end > 0 else -0.2, abs=1e-3)


@pytest.mark.parametrize("direction", [-1.0, 1.0])
def test_a_path_that_gets_too_fast_gently_is_left_at_the_limit(direction):
    """The path is followed exactly up to 0.69 m/s, and then goes on at 2 m/s^2 as smoothly as before."""
    limits, speed, at, path = panda_limits(), 0.0, START.copy(), []
    for tick in range(560):
        speed += min(40.0 * tick * DT, 2.0) * DT
        at[1] += direction * speed * DT
        path.append(at.copy())
    walked = walk(limits, path)
    assert_within(limits, walked)
    assert np.abs(differences(walked)[0][:, 1]).max() == pytest.approx(limits.max_speed_m_s / math.sqrt(3), rel=1e-6)
