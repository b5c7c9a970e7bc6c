"""Hand-computed forces: J^-T of the torque less gravity is what the tool pushes with."""

import numpy as np
import pytest

from controllers.cartesian_impedance import CartesianImpedanceGains
from controllers.law import Law
from robot_rl.errors import ConfigError
from robot_rl.geometry import quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.panda import panda_chain, panda_limits
from tests.controllers.test_operational_space import CHAIN, Q, state

pytestmark = pytest.mark.robot


def law(**changes: float | None) -> Law:
    settings = {
        "position_stiffness_n_m": 1000.0, "rotation_stiffness_n_m_rad": 50.0, "max_position_error_m": 0.03,
        "max_rotation_error_rad": 0.2, "singularity_damping": 1e-9, **changes,
    }  # fmt: skip
    found = Law(panda_chain(), CartesianImpedanceGains(**settings), panda_limits())  # type: ignore[arg-type]
    found.reset(state())
    return found


def wrench(now: dict[str, np.ndarray], torque: np.ndarray) -> np.ndarray:
    """Force [N] and torque [N m] at the TCP, in the base frame, that balance the arm's torque."""
    jacobian, inverse = CHAIN.jacobian(Q), np.linalg.inv(now["mass_matrix"])
    return np.linalg.inv(jacobian @ inverse @ jacobian.T) @ jacobian @ inverse @ (torque - now["bias_force"])


def offset(by_m: list[float], turn_rad: list[float]) -> np.ndarray:
    pose = CHAIN.pose(Q)
    return np.concatenate((pose[:3] + by_m, quat_xyzw_multiply(quat_xyzw_from_rotvec(turn_rad), pose[3:])))


def test_at_the_target_it_only_carries_the_weight():
    now = state()
    np.testing.assert_allclose(law().compute(now, {"tcp_pose": CHAIN.pose(Q)}, 0.002), now["bias_force"], atol=1e-9)


def test_an_error_meets_the_spring():
    now = state()
    torque = law().compute(now, {"tcp_pose": offset([0.01, -0.02, 0.005], [0.1, 0.0, -0.04])}, 0.002)
    np.testing.assert_allclose(wrench(now, torque), [10.0, -20.0, 5.0, 5.0, 0.0, -2.0], atol=1e-6)


def test_the_pull_never_exceeds_stiffness_times_clip_however_far_and_fast_the_reference_is():
    now = state()
    target = {
        "tcp_pose": offset([3.0, 4.0, 0.0], [0.0, 0.0, 1.0]),
        "tcp_twist": np.array([9.0, 12.0, 0.0, 0.0, 0.0, 9.0]),
        "tcp_acceleration": np.array([90.0, 120.0, 0.0, 0.0, 0.0, 90.0]),
    }
    found = wrench(now, law().compute(now, target, 0.002))
    assert np.linalg.norm(found[:3]) == pytest.approx(1000.0 * 0.03)
    assert np.linalg.norm(found[3:]) == pytest.approx(50.0 * 0.2)
    np.testing.assert_allclose(found[:2] / np.linalg.norm(found[:2]), [0.6, 0.8], atol=0.05)


def test_given_damping_opposes_the_speed_and_the_reference_takes_it_along():
    dq = np.linspace(-0.3, 0.3, 7)
    now, twist = state(dq), CHAIN.jacobian(Q) @ dq
    given = law(position_damping_n_s_m=80.0, rotation_damping_n_m_s_rad=6.0, posture_stiffness_1_s2=1e-12)
    found = wrench(now, given.compute(now, {"tcp_pose": CHAIN.pose(Q)}, 0.002))
    np.testing.assert_allclose(found, -np.repeat([80.0, 6.0], 3) * twist, atol=1e-4)
    with_reference = given.compute(now, {"tcp_pose": CHAIN.pose(Q), "tcp_twist": 0.1 * twist}, 0.002)
    np.testing.assert_allclose(wrench(now, with_reference), 0.9 * found, atol=1e-4)


def test_damping_by_ratio_is_critical_for_the_inertia_felt_along_each_axis():
    dq = np.linspace(-0.3, 0.3, 7)
    now, twist = state(dq), CHAIN.jacobian(Q) @ dq
    jacobian = CHAIN.jacobian(Q)
    felt = 1.0 / np.diag(jacobian @ np.linalg.solve(now["mass_matrix"], jacobian.T))
    found = wrench(now, law(posture_stiffness_1_s2=1e-12).compute(now, {"tcp_pose": CHAIN.pose(Q)}, 0.002))
    stiffness = np.repeat([1000.0, 50.0], 3)
    np.testing.assert_allclose(found, -2.0 * np.sqrt(stiffness * felt) * twist, rtol=1e-4, atol=1e-4)


def test_the_posture_acts_in_the_null_space_alone():
    now, stretched = state(), law()
    stretched.reset({"joint_position": Q + 0.2})
    torque = stretched.compute(now, {"tcp_pose": CHAIN.pose(Q)}, 0.002)
    assert np.abs(torque - now["bias_force"]).max() > 0.1
    np.testing.assert_allclose(wrench(now, torque), 0.0, atol=1e-5)


def test_a_singular_arm_gets_finite_torque():
    stretched = {**state(), "joint_position": np.zeros(7)}
    assert np.isfinite(law(singularity_damping=1e-3).compute(stretched, {"tcp_pose": CHAIN.pose(Q)}, 0.002)).all()


@pytest.mark.parametrize("name", ["position_stiffness_n_m", "damping_ratio", "position_damping_n_s_m"])
def test_gains_must_be_positive(name):
    with pytest.raises(ConfigError, match=name):
        law(**{name: -1.0})
