"""Whatever comes in, what goes out respects the limits; and what is within them passes untouched."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controllers.safety import LAYERS, SafetyChain, force_layer, joint_layer, torque_layer
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits

pytestmark = pytest.mark.robot
LIMITS = panda_limits()
START = np.array([0.48, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0])
DT = 0.002

anything = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.floats(-2, 2)
poses = st.lists(anything, min_size=7, max_size=7).map(np.array)


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
    safety, beyond, pose = chain(), START + np.eye(7)[axis] * end, START
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
    assert safety.counts[LAYERS.index(layer)] == 1


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


def test_a_set_point_stays_near_an_arm_that_is_held_back():
    """The set point goes on by 3 cm a step, the arm does not; sideways it may go on."""
    safety, here = chain(), START.copy()
    for _ in range(8):
        pose, _ = safety.set_point(safety.last[0] + np.array([0.0, 0.03, 0, 0, 0, 0, 0]), 1.0, here)
    assert pose[1] - here[1] == pytest.approx(LIMITS.max_lead_m)
    assert safety.counts[LAYERS.index("jump")] == 5  # from the fourth on
    here[0] += 0.03
    pose, _ = safety.set_point(safety.last[0] + np.array([0.03, 0.0, 0, 0, 0, 0, 0]), 1.0, here)
    assert pose[0] == pytest.approx(here[0])


def test_rotation_is_clipped_on_the_geodesic():
    limits = panda_limits(max_rotation_rad=0.3)
    tilted = quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, 0.4, 0.0]), START[3:])
    pose = SafetyChain(limits).inside(np.array([*START[:3], *tilted]))
    expected = quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, 0.3, 0.0]), START[3:])
    assert geodesic_angle(pose[3:], expected) < 1e-7


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


def pushed(wrench: list[float], ticks: int, **limits: object) -> tuple[list[bool], np.ndarray]:
    """Tick by tick, whether the force layer stops the arm under a constant wrench [6] at the TCP; the one it sees."""
    arrays = panda_limits(**{"force_source": "measured", **limits}).arrays()
    jacobian, seen = panda_chain().jacobian(np.array(HOME_RAD)), np.zeros(6)
    external = jacobian.T @ np.array(wrench)
    return [force_layer(arrays, jacobian, external, seen, DT) for _ in range(ticks)], seen


@pytest.mark.parametrize("wrench", [[0, 0, 130.0, 0, 0, 0], [-130.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 55.0, 0]])
def test_a_force_that_lasts_stops_the_arm_and_a_shock_does_not(wrench):
    """Averaged over 10 ms in ticks of 2: 1 - 0.8^k of 130 N passes 100 N at the seventh; of 55 N m 40 at the sixth."""
    stops, seen = pushed(wrench, 60)
    assert not stops[4]
    assert stops[7:] == [True] * 53
    np.testing.assert_allclose(seen, wrench, atol=0.02 * np.abs(wrench).max())


def test_a_force_within_the_limits_passes_and_limits_are_made_tighter():
    assert not any(pushed([0, 60.0, 60.0, 20.0, 0, 20.0], 60)[0])
    assert any(pushed([0, 60.0, 60.0, 0, 0, 0], 60, max_contact_force_n=80.0)[0])
    assert any(pushed([0, 0, 0, 20.0, 0, 20.0], 60, max_contact_torque_n_m=25.0)[0])


def test_a_force_that_is_not_a_number_stops_the_arm():
    assert pushed([0, np.nan, 0, 0, 0, 0], 1)[0] == [True]


def test_without_a_force_source_nothing_is_judged():
    arrays, seen = LIMITS.arrays(), np.zeros(6)
    assert LIMITS.force_source == "none"
    jacobian = panda_chain().jacobian(np.array(HOME_RAD))
    assert not force_layer(arrays, jacobian, jacobian.T @ np.full(6, 1e4), seen, DT)
