"""Rates of the joints: the optimum where no bound binds, within every bound always, and a pose that is reached."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from controllers.differential_ik import DifferentialIk, DifferentialIkGains, bounded_least_squares
from robot_rl.errors import ConfigError
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits
from tests.controllers.test_kinematics import planar_chain

CHAIN, HOME, DT = panda_chain(), np.array(HOME_RAD), 0.002
LIMITS = panda_limits()


def started(gains: DifferentialIkGains | None = None) -> DifferentialIk:
    law = DifferentialIk(CHAIN, LIMITS, gains)
    law.reset({"joint_position": HOME})
    return law


def run(law: DifferentialIk, pose: np.ndarray, ticks: int) -> np.ndarray:
    """Joint positions [ticks, n] on the way to a pose."""
    return np.array([law.compute({}, {"tcp_pose": pose}, DT) for _ in range(ticks)])


def moved(by_m: list[float], turn_rad: list[float]) -> np.ndarray:
    pose = CHAIN.pose(HOME)
    return np.concatenate((pose[:3] + by_m, quat_xyzw_multiply(quat_xyzw_from_rotvec(turn_rad), pose[3:])))


@pytest.mark.parametrize("seed", range(60))
def test_the_bounded_problem_is_solved_as_by_scipy(seed):
    rng = np.random.default_rng(seed)
    matrix, wanted = rng.normal(size=(9, 7)), rng.normal(size=9)
    bounds = np.sort(rng.normal(scale=0.3, size=(2, 7)), axis=0)
    found = np.empty(7)
    bounded_least_squares(matrix.T @ matrix, matrix.T @ wanted, bounds, found)
    best = lsq_linear(matrix, wanted, (bounds[0], bounds[1]), tol=1e-13, method="bvls")
    assert ((bounds[0] <= found) & (found <= bounds[1])).all()
    assert 0.5 * float(np.sum((matrix @ found - wanted) ** 2)) == pytest.approx(best.cost, rel=1e-9)


def test_without_a_binding_bound_it_is_the_plain_solution():
    rng = np.random.default_rng(0)
    matrix, wanted, found = rng.normal(size=(9, 7)), rng.normal(size=9), np.empty(7)
    bounded_least_squares(matrix.T @ matrix, matrix.T @ wanted, np.array([[-9.0] * 7, [9.0] * 7]), found)
    np.testing.assert_allclose(found, np.linalg.lstsq(matrix, wanted, rcond=None)[0], atol=1e-9)


def test_a_pose_is_reached_and_the_rates_agree_with_the_positions():
    law, target = started(), moved([0.05, 0.1, 0.08], [0.2, -0.1, 0.3])
    path = run(law, target, 1000)
    reached = CHAIN.pose(path[-1])
    np.testing.assert_allclose(reached[:3], target[:3], atol=2e-5)
    assert geodesic_angle(reached[3:], target[3:]) < 1e-4
    np.testing.assert_allclose(np.diff(path, axis=0)[-1] / DT, law.arrays.joint.velocity, atol=1e-9)


def test_a_moving_pose_given_with_its_rate_is_followed_without_lag():
    law, start, rate = started(), CHAIN.pose(HOME), np.array([0.0, 0.2, 0.05, 0.0, 0.0, 0.1])
    for tick in range(1, 501):
        turned = quat_xyzw_multiply(quat_xyzw_from_rotvec(rate[3:] * tick * DT), start[3:])
        target = np.concatenate((start[:3] + rate[:3] * tick * DT, turned))
        q = law.compute({}, {"tcp_pose": target, "tcp_twist": rate}, DT)
        assert np.linalg.norm(CHAIN.pose(q)[:3] - target[:3]) < 1e-4


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6))
def test_whatever_pose_is_asked_the_joints_keep_their_limits_and_speeds(offset):
    path = run(started(), moved(offset[:3], offset[3:]), 400)
    lower, upper = LIMITS.arrays().joint
    assert np.isfinite(path).all()
    assert ((path >= lower) & (path <= upper)).all()
    speed = np.abs(np.diff(path, axis=0, prepend=HOME[None])) / DT
    assert (speed <= np.array(LIMITS.joint_speed_rad_s) + 1e-9).all()


def test_the_spare_joint_returns_to_its_posture():
    """The elbow swung aside, the tool held: the redundant joint goes home, the tool stays."""
    q = HOME.copy()
    q[[0, 2]] += [0.3, -0.3]
    law = DifferentialIk(CHAIN, LIMITS, posture=HOME)
    law.reset({"joint_position": q})
    before, pose = np.linalg.norm(q - HOME), CHAIN.pose(q)
    path = run(law, pose, 2000)
    assert np.linalg.norm(path[-1] - HOME) < 0.9 * before
    assert max(np.linalg.norm(CHAIN.pose(q)[:3] - pose[:3]) for q in path[::50]) < 1e-3


def test_an_arm_with_two_joints_follows_in_its_plane():
    chain = planar_chain()
    limits = panda_limits()
    plane = type(limits)(
        box_lower_m=(-2.0, -2.0, -0.1), box_upper_m=(2.0, 2.0, 0.1), upright_quat_xyzw=(0.0, 0.0, 0.0, 1.0),
        joint_lower_rad=(-3.0, -3.0), joint_upper_rad=(3.0, 3.0), joint_speed_rad_s=(2.0, 2.0), torque_n_m=(9.0, 9.0),
        force_source="none",
    )  # fmt: skip
    law = DifferentialIk(chain, plane)
    law.reset({"joint_position": np.array([0.3, 0.6])})
    target = chain.pose(np.array([0.7, 1.1]))
    np.testing.assert_allclose(run(law, target, 1500)[-1], [0.7, 1.1], atol=1e-3)


def test_reset_forgets():
    law, target = started(), moved([0.0, 0.1, 0.0], [0.0, 0.0, 0.2])
    once = run(law, target, 50)
    law.reset({"joint_position": HOME})
    np.testing.assert_array_equal(run(law, target, 50), once)


def test_gains_must_be_positive():
    with pytest.raises(ConfigError, match="posture_cost"):
        DifferentialIkGains(posture_cost=0.0)
