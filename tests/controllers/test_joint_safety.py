"""Whatever joint targets come in, what goes out keeps every limit of every joint and of the TCP."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.joint_path import (
    advance_joint_path,
    begin_joint_path,
    new_joint_path,
    rest_joint_path,
    sample_joint_path,
)
from controllers.joint_safety import JointSafetyChain, joint_motion_layer, tcp_outside
from controllers.law import JointReference
from controllers.safety import FINITE, JOINT, JUMP, WORKSPACE
from controllers.safety_limits import LimitArrays, SafetyLimits
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits

pytestmark = pytest.mark.robot
CHAIN, LIMITS, HOME, DT = panda_chain(), panda_limits(), np.array(HOME_RAD), 0.002
ARRAYS = LIMITS.arrays()
SLACK = 1e-6

anything = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.floats(-4, 4)
nearby = st.floats(-0.3, 0.3)


def started() -> JointSafetyChain:
    safety = JointSafetyChain(LIMITS, CHAIN)
    safety.reset(HOME, 1.0)
    return safety


class Arm:
    """A reference that heads for set points, 25 ticks each."""

    def __init__(self, limits: LimitArrays = ARRAYS) -> None:
        self.limits = limits
        self.path = new_joint_path(7)
        rest_joint_path(self.path, HOME)
        self.reference = JointReference(HOME.copy(), np.zeros(7), np.zeros(7))

    def follow(self, target: np.ndarray, *, moving: bool = True) -> np.ndarray:
        """Positions tick by tick [25, 7]."""
        before, after, last_rate, rate, seen = *(np.empty(7) for _ in range(4)), []
        begin_joint_path(self.path, target, target, False, moving, 25 * DT)
        for _ in range(25):
            sample_joint_path(self.path, before, last_rate)
            advance_joint_path(self.path, DT)
            sample_joint_path(self.path, after, rate)
            joint_motion_layer(self.limits, CHAIN.arrays, before, after, (rate - last_rate) / DT, self.reference, DT)
            seen.append(self.reference.position.copy())
        return np.array(seen)


def assert_within(path: np.ndarray, limits: SafetyLimits = LIMITS) -> None:
    """Positions [ticks, 7] from rest at home: place, speed, acceleration, jerk, and the TCP's workspace
    and speed."""
    assert np.isfinite(path).all()
    assert (path >= ARRAYS.joint[0] - SLACK).all()
    assert (path <= ARRAYS.joint[1] + SLACK).all()
    rest = np.repeat(HOME[None], 3, axis=0)
    speed = np.diff(np.concatenate((rest, path)), axis=0) / DT
    acceleration = np.diff(speed, axis=0) / DT
    assert (np.abs(speed) <= ARRAYS.joint_speed + SLACK).all()
    assert np.abs(acceleration).max() <= LIMITS.max_joint_acceleration_rad_s2 + 1e-4
    assert np.abs(np.diff(acceleration, axis=0) / DT).max() <= LIMITS.max_joint_jerk_rad_s3 + 1.0
    assert max(tcp_outside(ARRAYS, CHAIN.arrays, q) for q in path[::5]) <= SLACK
    twist = np.array([CHAIN.jacobian(q) @ dq for q, dq in zip(path[::5], speed[2::5], strict=False)])
    assert np.linalg.norm(twist[:, :3], axis=1).max() <= limits.max_speed_m_s
    assert np.linalg.norm(twist[:, 3:], axis=1).max() <= limits.max_speed_rad_s


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(anything, min_size=7, max_size=7), min_size=1, max_size=6))
def test_nothing_gets_through_that_breaks_a_limit(wishes):
    safety, arm, seen = started(), Arm(), []
    for wish in wishes:
        target, opening = safety.set_point(np.array(wish), wish[0])
        assert 0.0 <= opening <= 1.0
        seen.append(arm.follow(target))
        safety.latch(arm.reference.position)
    assert_within(np.concatenate(seen))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(nearby, min_size=7, max_size=7), min_size=2, max_size=12))
def test_nor_does_a_stream_that_turns_at_full_speed(steps):
    safety, arm, seen = started(), Arm(), []
    for change in steps:
        target, _ = safety.set_point(safety.last[0] + change, 1.0)
        seen.append(arm.follow(target))
        safety.latch(arm.reference.position)
    assert_within(np.concatenate(seen))


def test_what_is_within_the_limits_passes_untouched():
    safety = started()
    wish = HOME + 0.02
    target, opening = safety.set_point(wish, 0.4)
    np.testing.assert_array_equal(target, wish)
    assert opening == 0.4
    assert not safety.counts.any()


def test_a_gentle_path_is_followed_and_reached():
    arm, target = Arm(), HOME + np.array([0.1, -0.05, 0.1, 0.05, -0.1, 0.05, 0.1])
    shares = 0.5 - 0.5 * np.cos(np.pi * np.arange(1, 41) / 40)
    paths = [arm.follow(HOME + (target - HOME) * share) for share in shares]
    np.testing.assert_allclose(paths[-1][-1], target, atol=1e-3)
    np.testing.assert_allclose(arm.follow(target, moving=False)[-1], target, atol=1e-6)


def test_each_layer_counts_what_it_changed():
    safety = started()
    target, opening = safety.set_point(np.full(7, np.nan), np.nan)
    np.testing.assert_array_equal(target, HOME)
    assert (opening, safety.counts[FINITE]) == (1.0, 2)
    safety.set_point(HOME + np.array([9.0, 0, 0, 0, 0, 0, 0]), 1.0)
    assert (safety.counts[JOINT], safety.counts[JUMP]) == (1, 1)


def test_the_tool_stops_ahead_of_the_table():
    """The shoulder leans forward until the TCP would be in the table."""
    safety = started()
    for _ in range(20):
        safety.set_point(safety.last[0] + np.array([0, 0.1, 0, 0, 0, 0, 0]), 1.0)
    target = safety.last[0]
    assert safety.counts[WORKSPACE] > 0
    assert 0.005 <= CHAIN.pose(target)[2] < 0.03
    back, _ = safety.set_point(HOME, 1.0)
    assert CHAIN.pose(back)[2] > CHAIN.pose(target)[2]


def test_a_sphere_below_the_tool_stops_ahead_of_the_table():
    """It reaches 8 cm below the TCP."""
    spheres = {"camera": (0.0, 0.0, 0.05, 0.03)}
    safety = JointSafetyChain(panda_limits(walls_lower_m=(-1.0, -1.0, 0.0), spheres=spheres), CHAIN)
    safety.reset(HOME, 1.0)
    for _ in range(20):
        safety.set_point(safety.last[0] + np.array([0, 0.1, 0, 0, 0, 0, 0]), 1.0)
    assert 0.07 < CHAIN.pose(safety.last[0])[2] < 0.12  # leaning forward has tilted it
    assert -0.015 < tcp_outside(safety.arrays, CHAIN.arrays, safety.last[0]) <= 1e-9


def test_a_set_point_beyond_a_joint_limit_is_put_within_its_margin():
    safety = JointSafetyChain(panda_limits(joint_upper_rad=(*LIMITS.joint_upper_rad[:6], 1.0)), CHAIN)
    safety.reset(HOME, 1.0)
    target, _ = safety.set_point(HOME + np.array([0, 0, 0, 0, 0, 0, 0.2]), 1.0)
    assert target[6] == pytest.approx(1.0 - LIMITS.joint_margin_rad)


def test_a_joint_that_is_held_back_winds_up_no_way():
    safety, most = started(), LIMITS.max_joint_lead_rad
    for _ in range(10):
        safety.set_point(safety.last[0] + np.array([0, 0, 0, 0, 0, 0, 0.1]), 1.0, HOME)
    assert safety.last[0][6] == pytest.approx(HOME[6] + most)
    assert safety.counts[JUMP] > 0


def test_whoever_takes_over_from_far_away_is_ramped():
    safety, far = started(), HOME + np.array([0, 0, 0, 0, 0, 0, 0.8])
    first, _ = safety.set_point(far, 1.0)
    assert first[6] - HOME[6] == pytest.approx(0.05)
    while safety.last[0][6] - HOME[6] < 0.5:
        safety.set_point(far, 1.0)
    second, _ = safety.set_point(far, 1.0)  # near by now: one whole jump
    assert second[6] == pytest.approx(far[6])


def turned_on_and_on(limits: SafetyLimits) -> np.ndarray:
    """The last joint at full speed, told to go on and on."""
    arm, target, seen = Arm(limits.arrays()), HOME.copy(), []
    for _ in range(40):
        target[6] += 0.15
        seen.append(arm.follow(target))
    return np.concatenate(seen)


def test_a_moving_joint_brakes_ahead_of_its_limit():
    limits = panda_limits(joint_upper_rad=(*LIMITS.joint_upper_rad[:6], 1.6))
    path = turned_on_and_on(limits)
    assert_within(path)
    assert path[:, 6].max() <= 1.6 - limits.joint_margin_rad + SLACK
    assert path[-1, 6] == pytest.approx(1.6 - limits.joint_margin_rad, abs=2e-3)


def test_joints_brake_ahead_of_the_largest_turn_of_the_tool():
    path = turned_on_and_on(LIMITS)
    assert_within(path)
    assert path[-1, 6] - HOME[6] == pytest.approx(LIMITS.max_rotation_rad, abs=0.012)


@pytest.mark.parametrize("tighter", [{}, {"max_speed_m_s": 0.2}, {"max_speed_rad_s": 0.5}])
def test_joints_are_never_faster_than_the_tool_may_be(tighter):
    """All turn the tool the same way, to and fro: at their own limits it would be at 1.9 m/s and 9 rad/s."""
    limits = panda_limits(**tighter)
    arm, seen = Arm(limits.arrays()), []
    together = np.array([0.3, 0, 0.3, 0, 0.3, 0, -0.3])
    for period in range(4):
        seen += [arm.follow(arm.reference.position + together * (-1) ** period) for _ in range(8)]
    path = np.concatenate(seen)
    assert_within(path, limits)
    moved = np.diff([CHAIN.pose(q)[:3] for q in path], axis=0) / DT
    if "max_speed_m_s" in tighter:
        assert np.linalg.norm(moved, axis=1).max() == pytest.approx(0.95 * limits.max_speed_m_s, rel=0.03)
