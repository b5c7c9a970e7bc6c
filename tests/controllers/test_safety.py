"""Whatever comes in, what goes out respects the limits; and what is within them passes untouched."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controllers.safety import (
    SafetyChain,
    braking_speed,
    joint_layer,
    motion_layer,
    slow_down_layer,
    torque_layer,
)
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.panda import panda_chain, panda_limits

pytestmark = pytest.mark.robot
LIMITS = panda_limits()
START = np.array([0.48, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
DT = 0.002

anything = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.floats(-2, 2)
poses = st.lists(anything, min_size=7, max_size=7).map(np.array)
sensible = st.lists(st.floats(-1, 1), min_size=7, max_size=7).map(np.array)


def chain() -> SafetyChain:
    safety = SafetyChain(LIMITS)
    safety.reset(START, 1.0)
    return safety


def assert_within(pose: np.ndarray, slack: float = 1e-9) -> None:
    assert np.isfinite(pose).all()
    assert (pose[:3] >= np.array(LIMITS.box_lower_m) - slack).all()
    assert (pose[:3] <= np.array(LIMITS.box_upper_m) + slack).all()
    assert abs(np.linalg.norm(pose[3:]) - 1.0) < 1e-9
    assert geodesic_angle(pose[3:], LIMITS.upright_quat_xyzw) <= LIMITS.max_rotation_rad + 1e-6


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(poses, anything), min_size=1, max_size=5), st.booleans())
@example([(np.array([0.5, 0, 0.2, np.cos(a), np.sin(a), 0, 0]), 1.0) for a in (-0.25, -0.5, -0.75, -0.95, 0.95)], False)
def test_every_set_point_is_finite_in_the_workspace_and_near_the_last(wishes, ramped):
    safety, last = chain(), START
    if not ramped:
        safety.set_point(START, 1.0)
    for wish, opening in wishes:
        pose, opened = safety.set_point(wish, opening)
        assert_within(pose)
        assert 0.0 <= opened <= 1.0
        assert np.linalg.norm(pose[:3] - last[:3]) <= LIMITS.max_jump_m + 1e-9
        assert geodesic_angle(pose[3:], last[3:]) <= LIMITS.max_jump_rad + 1e-6
        last = pose


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_the_workspace_ends_at_its_walls(axis, end):
    safety, beyond = chain(), START + np.eye(7)[axis] * end
    for _ in range(40):
        pose, _ = safety.set_point(beyond, 1.0)
    wall = (LIMITS.box_lower_m if end < 0 else LIMITS.box_upper_m)[axis]
    np.testing.assert_allclose(pose, np.where(np.arange(7) == axis, wall, START), atol=1e-9)


def test_a_set_point_within_limits_passes_bit_for_bit():
    safety = chain()
    wish = np.array([0.5, 0.02, 0.21, 1.0, 0.0, 0.0, 0.0])
    pose, opening = safety.set_point(wish, 0.5)
    np.testing.assert_array_equal(pose, wish)
    assert opening == 0.5
    assert not safety.counts.any()


@pytest.mark.parametrize(
    ("wish", "opening", "layer"),
    [
        (np.array([np.nan, 0, 0.2, 1, 0, 0, 0]), 1.0, "finite"),
        (np.array([0.48, 0, 0.2, 0, 0, 0, 0]), 1.0, "finite"),
        (START, np.inf, "finite"),
        (START, np.nan, "finite"),
        (START, 1.5, "finite"),
        (np.array([0.48, 0.0, -0.05, 1, 0, 0, 0]), 1.0, "workspace"),
        (np.array([0.48, 0.3, 0.2, 1, 0, 0, 0]), 1.0, "jump"),
        (np.array([0.48, 0.0, 0.2, *quat_xyzw_multiply(quat_xyzw_from_rotvec([0, 0, 1]), START[3:])]), 1.0, "jump"),
    ],
)
def test_each_change_is_counted_by_its_layer(wish, opening, layer):
    safety = chain()
    pose, opened = safety.set_point(wish, opening)
    assert_within(pose)
    assert 0.0 <= opened <= 1.0
    assert safety.counts[["finite", "workspace", "jump"].index(layer)] == 1


def test_what_starts_far_away_is_ramped_until_it_is_near():
    safety, goal = chain(), START + np.array([0.0, 0.1, 0.0, 0, 0, 0, 0])
    for step in range(1, 5):  # 12.5 mm each
        assert safety.set_point(goal, 1.0)[0][1] == pytest.approx(0.0125 * step)
    np.testing.assert_array_equal(safety.set_point(goal, 1.0)[0], goal)  # 50 mm are left
    back, _ = safety.set_point(START, 1.0)
    assert back[1] == pytest.approx(0.0, abs=1e-12)  # one jump, as it goes on
    safety.join()
    assert safety.set_point(goal, 1.0)[0][1] == pytest.approx(0.0125)
    assert safety.counts[2] == 5


def test_rotation_is_clipped_on_the_geodesic():
    limits = panda_limits(max_rotation_rad=0.3)
    tilted = quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, 0.4, 0.0]), START[3:])
    pose = SafetyChain(limits).inside(np.array([*START[:3], *tilted]))
    expected = quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, 0.3, 0.0]), START[3:])
    assert geodesic_angle(pose[3:], expected) < 1e-7


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sensible, st.integers(1, 60)), min_size=1, max_size=6))
def test_the_reference_keeps_box_speed_and_acceleration_on_any_path(stretches):
    """The path jumps to a random pose and rests there, over and over: the worst a set point can do."""
    arrays = LIMITS.arrays()
    pose, twist, path = START.copy(), np.zeros(6), START.copy()
    walked, twists = [pose.copy()], [twist.copy()]
    for wish, ticks in stretches:
        after = np.array([*(0.5 + wish[:3]), *quat_xyzw_multiply(quat_xyzw_from_rotvec(wish[3:6]), START[3:])])
        for _ in range(ticks):
            motion_layer(arrays, path, after, pose, twist, DT)
            path = after
            walked.append(pose.copy())
            twists.append(twist.copy())
    assert_motion_within(np.array(walked), np.array(twists))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_the_reference_brakes_in_front_of_each_wall(axis, end):
    arrays, beyond = LIMITS.arrays(), START + np.eye(7)[axis] * end
    pose, twist, path = START.copy(), np.zeros(6), START.copy()
    walked, twists = [pose.copy()], [twist.copy()]
    for _ in range(500):
        motion_layer(arrays, path, beyond, pose, twist, DT)
        path = beyond
        walked.append(pose.copy())
        twists.append(twist.copy())
    assert_motion_within(np.array(walked), np.array(twists))
    wall = (LIMITS.box_lower_m if end < 0 else LIMITS.box_upper_m)[axis]
    assert pose[axis] == pytest.approx(wall, abs=1e-6)
    assert np.abs(np.array(twists)[:, axis]).max() == pytest.approx(LIMITS.max_speed_m_s / math.sqrt(3), rel=1e-9)


@pytest.mark.parametrize("rad_per_tick", [0.001, 3.0])
def test_the_reference_stays_in_the_ball_of_rotations(rad_per_tick):
    """Along a path slow enough to be followed exactly, and behind one that jumps."""
    arrays = LIMITS.arrays()
    pose, twist, path = START.copy(), np.zeros(6), START.copy()
    for tick in range(2000):
        turn = min(rad_per_tick * (tick + 1) * min(1.0, tick / 400), 2.0)
        after = np.array([*START[:3], *quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, turn, 0.0]), START[3:])])
        motion_layer(arrays, path, after, pose, twist, DT)
        path = after
        assert geodesic_angle(pose[3:], LIMITS.upright_quat_xyzw) <= LIMITS.max_rotation_rad + 1e-6
    assert geodesic_angle(pose[3:], LIMITS.upright_quat_xyzw) == pytest.approx(LIMITS.max_rotation_rad, abs=1e-5)


def joint_speeds(q: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Damped least squares [7] rad/s."""
    jacobian = panda_chain().jacobian(q)
    return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 0.03**2 * np.eye(6), twist)


@pytest.mark.parametrize(
    ("q", "axis"),
    [
        ([0.0, 0.3, 0.0, -0.4, 0.0, 2.2, 0.785], 0),  # the elbow is nearly straight
        ([2.77, 0.0, 0.0, -2.4, 0.0, 2.4, 0.785], 0),  # 0.03 rad from where the margin of joint 1 begins
    ],
)
def test_the_reference_slows_down_where_joints_cannot_follow(q, axis):
    arrays, q, twist = LIMITS.arrays(), np.array(q), np.zeros(6)
    direction = 1.0 if joint_speeds(q, np.eye(6)[axis])[0] >= 0.0 else -1.0
    twist[axis] = 0.69 * direction
    before = panda_chain().pose(q)
    pose, slowed = before + np.array([*twist[:3] * DT, 0, 0, 0, 0]), twist.copy()
    assert slow_down_layer(arrays, panda_chain().jacobian(q), q, before, np.zeros(6), pose, slowed, DT)
    speeds = joint_speeds(q, slowed)
    room = np.where(speeds > 0, arrays.joint[1] - q, q - arrays.joint[0])
    assert (np.abs(speeds) <= np.minimum(arrays.joint_speed, 6.0 * room) + 1e-9).all()
    np.testing.assert_allclose(pose[:3] - before[:3], slowed[:3] * DT, atol=1e-12)
    # moving already, it brakes no harder than it may
    pose, slowed = before + np.array([*twist[:3] * DT, 0, 0, 0, 0]), twist.copy()
    slow_down_layer(arrays, panda_chain().jacobian(q), q, before, twist, pose, slowed, DT)
    assert np.abs(slowed - twist).max() == pytest.approx(arrays.acceleration[axis] * DT)


def assert_motion_within(steps: np.ndarray, speeds: np.ndarray) -> None:
    """Poses [T, 7] and twists [T, 6] of a reference, tick by tick."""
    assert (steps[:, :3] >= np.array(LIMITS.box_lower_m) - 1e-9).all()
    assert (steps[:, :3] <= np.array(LIMITS.box_upper_m) + 1e-9).all()
    assert geodesic_angle(steps[:, 3:], LIMITS.upright_quat_xyzw).max() <= LIMITS.max_rotation_rad + 1e-6
    np.testing.assert_allclose(np.diff(steps[:, :3], axis=0), speeds[1:, :3] * DT, atol=1e-8)
    changes = np.diff(speeds, axis=0) / DT
    for part, speed, acceleration in (
        (slice(0, 3), LIMITS.max_speed_m_s, LIMITS.max_acceleration_m_s2),
        (slice(3, 6), LIMITS.max_speed_rad_s, LIMITS.max_acceleration_rad_s2),
    ):
        assert np.linalg.norm(speeds[:, part], axis=1).max() <= speed + 1e-9
        assert np.linalg.norm(changes[:, part], axis=1).max() <= acceleration + 1e-6


def test_braking_by_hand():
    """At 1 m/s^2 in steps of 1 s: speed 3 leads 3 + 2 + 1 m far, speed 2.5 leads 2.5 + 1.5 + 0.5 m."""
    assert braking_speed(6.0, 1.0, 1.0) == 3.0
    assert braking_speed(4.5, 1.0, 1.0) == 2.5
    assert braking_speed(0.0, 1.0, 1.0) == 0.0
    assert braking_speed(-1.0, 1.0, 1.0) == 0.0


def test_the_reference_catches_up_without_passing_the_target():
    arrays = LIMITS.arrays()
    pose, twist, goal = START.copy(), np.zeros(6), START.copy()
    goal[0] += 0.1
    xs = []
    for tick in range(250):
        motion_layer(arrays, START if tick == 0 else goal, goal, pose, twist, DT)
        xs.append(pose[0])
    assert max(xs) <= goal[0] + 1e-4
    np.testing.assert_allclose(pose, goal, atol=1e-9)


def test_a_path_within_limits_is_followed_exactly():
    arrays = LIMITS.arrays()
    pose, twist, path = START.copy(), np.zeros(6), START.copy()
    for tick in range(200):
        after = START.copy()
        after[1] += 0.05 * (1 - math.cos(4.0 * (tick + 1) * DT))
        assert not motion_layer(arrays, path, after, pose, twist, DT)
        np.testing.assert_array_equal(pose, after)
        path = after


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(anything, min_size=7, max_size=7).map(np.array), min_size=1, max_size=5))
def test_torque_is_finite_within_its_limit_and_rate(wishes):
    arrays, last = LIMITS.arrays(), np.zeros(7)
    for wish in wishes:
        before, torque = last.copy(), wish.copy()
        torque_layer(arrays, last, torque, DT)
        assert np.isfinite(torque).all()
        assert (np.abs(torque) <= np.array(LIMITS.torque_n_m)).all()
        assert (np.abs(torque - before) <= LIMITS.torque_rate_n_m_s * DT + 1e-9).all()
        np.testing.assert_array_equal(torque, last)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-500, 500), min_size=7, max_size=7), st.floats(0.1, 5.0))
def test_no_constant_torque_drives_a_joint_beyond_its_limit(torque, inertia):
    arrays = LIMITS.arrays()
    q, dq = arrays.joint.mean(axis=0), np.zeros(7)
    mass, bias = np.eye(7) * inertia, np.zeros(7)
    for _ in range(1500):
        command = np.array(torque)
        joint_layer(arrays, q, dq, mass, bias, command)
        dq += command / inertia * DT
        q += dq * DT
    lower, upper = np.array(LIMITS.joint_lower_rad), np.array(LIMITS.joint_upper_rad)
    assert ((lower <= q) & (q <= upper)).all()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_joint_faster_than_it_may_be_is_braked(sign):
    """With unit inertia torque is acceleration: 48 1/s times what is left to 1.3 times the limit."""
    arrays, dq = LIMITS.arrays(), np.zeros(7)
    dq[0] = sign * (1.3 * LIMITS.joint_speed_rad_s[0] + 0.1)
    torque = np.full(7, sign * 5.0)
    assert joint_layer(arrays, arrays.joint.mean(axis=0), dq, np.eye(7), np.zeros(7), torque)
    np.testing.assert_allclose(torque, sign * np.array([-4.8, 5, 5, 5, 5, 5, 5]), atol=1e-9)


def test_far_from_the_limits_torque_passes():
    arrays, torque = LIMITS.arrays(), np.full(7, 20.0)
    assert not joint_layer(arrays, arrays.joint.mean(axis=0), np.zeros(7), np.eye(7), np.zeros(7), torque)
    np.testing.assert_array_equal(torque, 20.0)
