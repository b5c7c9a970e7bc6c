"""A law behind a delay answers the reference of some ticks ago, whatever kind of reference it follows."""

import numpy as np

from controllers.joint_impedance import JointImpedanceGains, joint_impedance_torque
from controllers.law import ArmState, JointReference
from robot_rl.types import ActionKind
from sim.delayed_law import DelayedGains
from tests.controllers.panda import panda_chain, panda_limits

CHAIN, LIMITS = panda_chain(), panda_limits().arrays()
ARM = ArmState(np.zeros(7), np.zeros(7), np.eye(7), np.arange(7.0), np.zeros(7), np.zeros((6, 7)))


def reference(tick: int) -> JointReference:
    return JointReference(np.full(7, 0.01 * tick), np.full(7, 0.1 * tick), np.full(7, float(tick)))


def test_joint_targets_arrive_late():
    gains = DelayedGains(JointImpedanceGains(), 3)
    assert gains.takes is ActionKind.JOINT_POSITION
    late, inside = gains.arrays(CHAIN, LIMITS), JointImpedanceGains().arrays(CHAIN, LIMITS)
    late.delay[0] = 2
    out, expected = np.empty(7), np.empty(7)
    for _ in range(2):  # and a reset forgets
        late.latch(np.zeros(7), np.zeros(7))
        for tick in range(8):
            late.torque(ARM, reference(tick), 0.002, out)
            joint_impedance_torque(inside, ARM, reference(max(tick - 2, 0)), 0.002, expected)
            np.testing.assert_array_equal(out, expected)
