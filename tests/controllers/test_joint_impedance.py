import numpy as np
import pytest

from controllers.joint_impedance import JointImpedanceGains, joint_impedance_torque
from controllers.law import ArmState, JointReference
from robot_rl.errors import ConfigError
from tests.controllers.panda import panda_chain, panda_limits

pytestmark = pytest.mark.robot
CHAIN = panda_chain()
MASS = np.diag([4.0, 4.0, 1.0, 1.0, 0.25, 0.25, 0.25])
MASS[0, 1] = MASS[1, 0] = 0.5
BIAS = np.arange(7.0)


def torque(gains: JointImpedanceGains, error=0.0, rate=0.0, dq=0.0, acceleration=0.0) -> np.ndarray:
    """With the joints at zero."""
    full, out = (lambda value: np.full(7, value, dtype=np.float64)), np.empty(7)
    arm = ArmState(np.zeros(7), full(dq), MASS, BIAS, np.zeros(7), np.zeros((6, 7)))
    law = gains.arrays(CHAIN, panda_limits().arrays())
    joint_impedance_torque(law, arm, JointReference(full(error), full(rate), full(acceleration)), 0.002, out)
    return out


def test_at_the_target_it_only_carries_the_weight():
    np.testing.assert_array_equal(torque(JointImpedanceGains()), BIAS)


def test_spring_and_damper_by_hand():
    gains = JointImpedanceGains(stiffness_n_m_rad=100.0, damping_ratio=0.5)
    np.testing.assert_allclose(torque(gains, error=0.1) - BIAS, 10.0)
    # d = 2 * 0.5 * sqrt(100 * [4, 4, 1, 1, 0.25, ...])
    np.testing.assert_allclose(torque(gains, rate=0.3, dq=0.1) - BIAS, 0.2 * np.array([20, 20, 10, 10, 5, 5, 5]))


def test_a_stiffness_for_each_joint():
    stiffness = np.array([600.0, 600.0, 600.0, 600.0, 250.0, 150.0, 50.0])
    found = torque(JointImpedanceGains(stiffness_n_m_rad=stiffness.tolist()), error=0.01)
    np.testing.assert_allclose(found - BIAS, 0.01 * stiffness)
    with pytest.raises(ConfigError, match="2 joint stiffnesses for 7 joints"):
        torque(JointImpedanceGains(stiffness_n_m_rad=[1.0, 2.0]))


def test_a_blocked_joint_pushes_with_a_bounded_torque():
    gains = JointImpedanceGains(stiffness_n_m_rad=100.0, max_error_rad=0.2)
    np.testing.assert_allclose(torque(gains, error=3.0) - BIAS, 20.0)
    np.testing.assert_allclose(torque(gains, error=-3.0) - BIAS, -20.0)


def test_inertia_is_fed_forward_unless_told_otherwise():
    np.testing.assert_allclose(torque(JointImpedanceGains(), acceleration=2.0) - BIAS, MASS @ np.full(7, 2.0))
    without = JointImpedanceGains(inertia_feedforward=False)
    np.testing.assert_array_equal(torque(without, acceleration=2.0), BIAS)


def test_gains_must_be_positive():
    with pytest.raises(ConfigError, match=r"stiffness_n_m_rad\[1\]"):
        JointImpedanceGains(stiffness_n_m_rad=[1.0, 0.0])
    with pytest.raises(ConfigError, match="damping_ratio"):
        JointImpedanceGains(damping_ratio=-1.0)
