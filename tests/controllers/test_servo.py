"""The servo on a toy arm: unit inertia, no gravity, the Panda's kinematics."""

import numpy as np
import pytest

from controllers.joint_impedance import JointImpedanceGains
from controllers.joint_servo import JointServo
from controllers.safety import JOINT
from controllers.servo import Servo
from robot_rl.geometry import geodesic_angle
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits

pytestmark = pytest.mark.robot
CHAIN, DT = panda_chain(), 0.002


class ToyArm:
    """Double integrators behind the joints."""

    def __init__(self) -> None:
        self.q, self.dq = np.array(HOME_RAD), np.zeros(7)

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {
            "joint_position": self.q,
            "joint_velocity": self.dq,
            "mass_matrix": np.eye(7),
            "bias_force": np.zeros(7),
        }

    def run(self, servo: Servo, target: np.ndarray, ticks: int) -> np.ndarray:
        """Positions of the TCP, tick by tick [ticks, 3]."""
        path = []
        for _ in range(ticks):
            self.dq += servo.compute(self.state, {"tcp_pose": target}, DT) * DT
            self.q += self.dq * DT
            path.append(CHAIN.pose(self.q)[:3])
        return np.array(path)


def started() -> tuple[ToyArm, Servo, np.ndarray]:
    arm, servo = ToyArm(), Servo(CHAIN, panda_limits())
    servo.reset(arm.state)
    return arm, servo, CHAIN.pose(arm.q)


def test_it_holds_where_it_was_reset():
    arm, servo, pose = started()
    path = arm.run(servo, pose, 100)
    np.testing.assert_allclose(path, np.broadcast_to(pose[:3], path.shape), atol=1e-9)


def test_it_settles_at_a_new_set_point_without_passing_it_far():
    arm, servo, pose = started()
    target = pose.copy()
    target[1] += 0.02
    path = arm.run(servo, target, 300)
    np.testing.assert_allclose(path[-1], target[:3], atol=2e-4)
    assert path[:, 1].max() < target[1] + 0.005
    assert geodesic_angle(CHAIN.pose(arm.q)[3:], target[3:]) < 1e-3


def test_a_moving_set_point_is_followed_without_lag():
    arm, servo, pose = started()
    target = pose.copy()
    for step in range(30):
        target = target.copy()
        target[1] += 0.005 * min(step / 10, 1.0)
        arm.run(servo, target, 25)
    assert abs(CHAIN.pose(arm.q)[1] - target[1]) < 0.002


def test_same_inputs_same_torque():
    paths = []
    for _ in range(2):
        arm, servo, pose = started()
        target = pose + np.array([0.01, 0.02, -0.03, 0, 0, 0, 0])
        paths.append(arm.run(servo, target, 50))
    np.testing.assert_array_equal(paths[0], paths[1])


def test_limits_hold_whatever_is_asked():
    arm, servo, pose = started()
    target = pose + np.array([5.0, 5.0, -5.0, 0, 0, 0, 0])
    limits = panda_limits()
    for _ in range(400):
        torque = servo.compute(arm.state, {"tcp_pose": target}, DT)
        assert (np.abs(torque) <= limits.torque_n_m).all()
        reference = servo.arrays.reference
        assert (reference[:3] >= np.array(limits.box_lower_m) - 1e-9).all()
        assert (reference[:3] <= np.array(limits.box_upper_m) + 1e-9).all()
        arm.dq += torque * DT
        arm.q += arm.dq * DT
    assert servo.arrays.arm.counts.sum() > 0


def test_the_reference_keeps_its_acceleration_where_the_joints_slow_it_down():
    """Stretched out at full speed, into the singularity of the straight elbow."""
    limits = panda_limits(box_upper_m=(0.75, 0.35, 0.5))
    arm, servo = ToyArm(), Servo(CHAIN, limits)
    arm.q = np.array([0.0, 0.6, 0.0, -1.6, 0.0, 2.2, 0.785])
    servo.reset(arm.state)
    target, twists = CHAIN.pose(arm.q), [np.zeros(6)]
    for _ in range(16):
        target = target + np.array([0.04, 0.0, 0.04, 0, 0, 0, 0])
        for _ in range(25):
            torque = servo.compute(arm.state, {"tcp_pose": target}, DT)
            twists.append(servo.arrays.reference_twist.copy())
            arm.dq += torque * DT
            arm.q += arm.dq * DT
    change = np.linalg.norm(np.diff(twists, axis=0) / DT, axis=1)
    assert servo.arrays.arm.counts[JOINT] > 0
    assert change.max() <= np.hypot(limits.max_acceleration_m_s2, limits.max_acceleration_rad_s2) + 1e-6
    assert np.linalg.norm(np.diff(twists, axis=0)[:, :3] / DT, axis=1).max() <= limits.max_acceleration_m_s2 + 1e-6


@pytest.mark.parametrize("law", [None, JointImpedanceGains()], ids=["tcp", "joints"])
def test_a_measurement_that_stays_away_is_a_fault_and_the_arm_is_let_down_by_nothing_but_its_weight(law):
    weight = np.linspace(1.0, 7.0, 7)
    servo = Servo(CHAIN, panda_limits()) if law is None else JointServo(CHAIN, panda_limits(), law)
    state = {**ToyArm().state, "bias_force": weight}
    servo.reset(state)
    target = {"tcp_pose": CHAIN.pose(np.array(HOME_RAD)) + np.array([0.0, 0.02, 0, 0, 0, 0, 0])}
    target["joint_position"] = np.array(HOME_RAD) + 0.02
    torque = [servo.compute(state, target, DT) for _ in range(30)][-1]
    assert np.abs(torque - weight).max() > 0.1  # it drives
    blind = {**state, "joint_position": np.full(7, np.nan)}
    for _ in range(9):  # 18 ms
        np.testing.assert_array_equal(servo.compute(blind, target, DT), torque)
        assert not servo.fault
    assert np.abs(servo.compute(blind, target, DT) - weight).max() < np.abs(torque - weight).max()
    assert servo.fault == "no finite measurement for 20 ms stopped the arm"
    target = {name: value + 0.01 for name, value in target.items()}  # nothing begins
    servo.compute(blind, target, DT)  # the torque's rate is bounded
    for _ in range(100):
        np.testing.assert_allclose(servo.compute(blind, target, DT), weight)
    torque = [servo.compute(state, target, DT) for _ in range(500)][-1]
    np.testing.assert_allclose(torque, weight, atol=1e-6)  # seen again, it is held where it is
    assert servo.fault
    servo.reset(state)
    assert not servo.fault


def test_a_measurement_that_is_away_for_a_moment_is_no_fault():
    _, servo, pose = started()
    arm, target = ToyArm(), {"tcp_pose": pose}
    for tick in range(50):
        lost = {"joint_position": np.full(7, np.nan)} if tick % 10 else {}
        servo.compute({**arm.state, **lost}, target, DT)
    assert not servo.fault
