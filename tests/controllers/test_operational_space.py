import numpy as np
import pytest

from controllers.law import Law
from controllers.operational_space import OperationalSpaceGains
from robot_rl.errors import ConfigError
from robot_rl.geometry import quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits

pytestmark = pytest.mark.robot
Q = np.array(HOME_RAD) + 0.1
CHAIN = panda_chain()


def state(dq: np.ndarray | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(7, 7)) * 0.2
    return {
        "joint_position": Q,
        "joint_velocity": np.zeros(7) if dq is None else dq,
        "mass_matrix": root @ root.T + np.diag([3, 3, 2, 2, 1, 0.5, 0.5]),
        "bias_force": rng.normal(size=7) * 10,
    }


def target(pose: np.ndarray, twist=0.0, acceleration=0.0) -> dict[str, np.ndarray]:
    return {"tcp_pose": pose, "tcp_twist": np.full(6, twist), "tcp_acceleration": np.full(6, acceleration)}


def task_acceleration(now, torque) -> np.ndarray:
    """What the model says the TCP does, at rest."""
    return CHAIN.jacobian(Q) @ np.linalg.solve(now["mass_matrix"], torque - now["bias_force"])


def test_at_the_target_it_only_carries_the_weight():
    law, now = Law(CHAIN, OperationalSpaceGains(), panda_limits()), state()
    law.reset(now)
    np.testing.assert_allclose(law.compute(now, target(CHAIN.pose(Q)), 0.002), now["bias_force"], atol=1e-9)


def test_an_error_becomes_the_acceleration_of_the_gains():
    gains = OperationalSpaceGains(position_stiffness_1_s2=100.0, rotation_stiffness_1_s2=50.0, singularity_damping=1e-9)
    law, now = Law(CHAIN, gains, panda_limits()), state()
    law.reset(now)
    pose = CHAIN.pose(Q)
    pose[:3] += [0.01, -0.02, 0.005]
    pose[3:] = quat_xyzw_multiply(quat_xyzw_from_rotvec([0.1, 0.0, -0.05]), pose[3:])
    found = task_acceleration(now, law.compute(now, target(pose), 0.002))
    np.testing.assert_allclose(found, [1.0, -2.0, 0.5, 5.0, 0.0, -2.5], atol=1e-6)


def test_the_reference_is_fed_forward():
    gains = OperationalSpaceGains(
        position_stiffness_1_s2=100.0, rotation_stiffness_1_s2=100.0, singularity_damping=1e-9
    )
    law, now = Law(CHAIN, gains, panda_limits()), state()
    law.reset(now)
    found = task_acceleration(now, law.compute(now, target(CHAIN.pose(Q), 0.1, 0.5), 0.002))
    np.testing.assert_allclose(found, 20.0 * 0.1 + 0.5, atol=1e-6)


def test_a_far_target_pulls_no_harder_than_the_bound():
    gains = OperationalSpaceGains(position_stiffness_1_s2=100.0, max_position_error_m=0.05, singularity_damping=1e-9)
    law, now = Law(CHAIN, gains, panda_limits()), state()
    law.reset(now)
    pose = CHAIN.pose(Q)
    pose[0] += 10.0
    found = task_acceleration(now, law.compute(now, target(pose), 0.002))
    np.testing.assert_allclose(found, [5.0, 0, 0, 0, 0, 0], atol=1e-6)


def test_the_posture_acts_in_the_null_space_alone():
    law, now = Law(CHAIN, OperationalSpaceGains(singularity_damping=1e-9), panda_limits()), state()
    law.reset({"joint_position": Q + 0.2})
    torque = law.compute(now, target(CHAIN.pose(Q)), 0.002)
    assert np.abs(torque - now["bias_force"]).max() > 0.1
    np.testing.assert_allclose(task_acceleration(now, torque), 0.0, atol=1e-6)


def test_a_singular_arm_gets_finite_torque():
    stretched = {**state(), "joint_position": np.zeros(7)}
    law = Law(CHAIN, OperationalSpaceGains(), panda_limits())
    law.reset(stretched)
    assert np.isfinite(law.compute(stretched, target(CHAIN.pose(Q)), 0.002)).all()


def test_gains_must_be_positive():
    with pytest.raises(ConfigError, match="damping_ratio"):
        OperationalSpaceGains(damping_ratio=0.0)
