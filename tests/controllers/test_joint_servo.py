"""The servo of joint targets on a toy arm: unit inertia, no gravity, the Panda's kinematics."""

from dataclasses import replace

import numpy as np
import pytest

from controllers.drive import build_drive
from controllers.joint_impedance import JointImpedanceGains
from controllers.joint_safety import JointSafetyChain
from controllers.joint_servo import JointServo
from controllers.operational_space import OperationalSpaceGains
from controllers.safety import FORCE, SafetyChain
from controllers.servo import Servo
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits

pytestmark = pytest.mark.robot
CHAIN, HOME, DT = panda_chain(), np.array(HOME_RAD), 0.002


def run(servo: JointServo, target: np.ndarray, ticks: int) -> np.ndarray:
    """Joint positions [ticks, 7] of double integrators behind the servo, from rest at home."""
    q, dq, seen = HOME.copy(), np.zeros(7), []
    state = {"joint_position": q, "joint_velocity": dq, "mass_matrix": np.eye(7), "bias_force": np.zeros(7)}
    servo.reset(state)
    for _ in range(ticks):
        dq += servo.compute(state, {"joint_position": target}, DT) * DT
        q += dq * DT
        seen.append(q.copy())
    return np.array(seen)


def test_it_holds_where_it_was_reset():
    path = run(JointServo(CHAIN, panda_limits()), HOME, 100)
    np.testing.assert_allclose(path, np.broadcast_to(HOME, path.shape), atol=1e-12)


def test_it_settles_at_a_new_target_without_passing_it_far():
    target = HOME + 0.05
    path = run(JointServo(CHAIN, panda_limits()), target, 400)
    np.testing.assert_allclose(path[-1], target, atol=1e-4)
    assert (path <= target + 0.005).all()


def test_torque_and_reference_keep_their_limits_whatever_is_asked():
    servo, limits = JointServo(CHAIN, panda_limits()), panda_limits()
    path = run(servo, HOME + 9.0, 500)
    assert (np.abs(servo.arrays.arm.torque) <= limits.torque_n_m).all()
    assert (path < limits.joint_upper_rad).all()
    assert servo.arrays.arm.counts.sum() > 0


def test_a_force_stops_the_arm_until_the_reset():
    servo = JointServo(CHAIN, replace(panda_limits(), force_source="measured", max_contact_force_n=20.0))
    state = {
        "joint_position": HOME, "joint_velocity": np.zeros(7), "mass_matrix": np.eye(7), "bias_force": np.zeros(7),
        "external_torque": np.zeros(7),
    }  # fmt: skip
    servo.reset(state)
    target = {"joint_position": HOME + 0.2}
    for _ in range(20):
        servo.compute(state, target, DT)
    assert np.abs(servo.arrays.reference_velocity).max() > 0.1
    pushed = {**state, "external_torque": CHAIN.jacobian(HOME)[2] * 60.0}  # 60 N upwards
    for _ in range(100):
        servo.compute(pushed, target, DT)
    np.testing.assert_allclose(servo.arrays.reference_velocity, 0.0, atol=1e-9)
    assert servo.arrays.arm.counts[FORCE] > 0
    held = servo.arrays.reference.copy()
    for _ in range(20):
        servo.compute(state, target, DT)  # the force is gone, the stop is not
    np.testing.assert_array_equal(servo.arrays.reference, held)
    servo.reset(state)
    assert not servo.arrays.arm.stopped[0]


def test_a_drive_has_the_safety_chain_of_its_law():
    safety, servo = build_drive(CHAIN, panda_limits(), JointImpedanceGains(), HOME, 0.05)
    assert (type(safety), type(servo)) == (JointSafetyChain, JointServo)
    safety, servo = build_drive(CHAIN, panda_limits(), OperationalSpaceGains(), HOME, 0.05)
    assert (type(safety), type(servo)) == (SafetyChain, Servo)
