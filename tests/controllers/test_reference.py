"""Plans through the safety chain and the servo: what the reference does, tick by tick."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.reference import joint_share
from controllers.safety import FORCE, LAYERS, SafetyChain
from controllers.safety_limits import SafetyLimits
from controllers.servo import Servo
from robot_rl.geometry import quat_xyzw_from_rotvec, quat_xyzw_multiply
from tests.controllers.differences import DT, assert_within, differences
from tests.controllers.panda import HOME_RAD, panda_chain, panda_limits

pytestmark = pytest.mark.robot
CHAIN, TICKS = panda_chain(), 25
HAND = {
    "walls_lower_m": (-1.0, -1.0, 0.0),
    "spheres": {"tip": (0.0, 0.05, 0.01, 0.012), "camera": (-0.08, 0, -0.05, 0.04)},
}


class Driven:
    """A servo on an arm of unit inertia, and all that its reference did."""

    def __init__(self, limits: SafetyLimits, q: list[float] = HOME_RAD) -> None:
        self.limits, self.q, self.dq = limits, np.array(q), np.zeros(7)
        self.external = np.zeros(7)
        self.chain, self.servo = SafetyChain(limits), Servo(CHAIN, limits)
        self.servo.reset({"joint_position": self.q, "tcp_pose": self.chain.inside(CHAIN.pose(self.q))})
        self.chain.reset(self.reference, 1.0)
        self.poses = [self.reference]

    @property
    def reference(self) -> np.ndarray:
        return self.servo.arrays.reference.copy()

    def tick(self, ticks: int) -> None:
        state = {"mass_matrix": np.eye(7), "bias_force": np.zeros(7), "external_torque": self.external}
        for _ in range(ticks):
            state |= {"joint_position": self.q, "joint_velocity": self.dq}
            self.dq += self.servo.compute(state, {"tcp_pose": self.servo._latched}, DT) * DT
            self.q += self.dq * DT
            self.poses.append(self.reference)

    def step(self, row: np.ndarray, following: np.ndarray | None = None, ticks: int = TICKS) -> None:
        """One control step as a robot makes it."""
        target, _ = self.chain.set_point(row, 1.0)
        self.servo.begin(target, following)
        self.tick(ticks)
        self.chain.latch(self.reference)

    def hold(self, ticks: int = TICKS) -> None:
        self.servo.begin(self.chain.last[0], moving=False)
        self.tick(ticks)
        self.chain.latch(self.reference)

    @property
    def walked(self) -> np.ndarray:
        return np.array(self.poses)


def moved(offset: list[float]) -> np.ndarray:
    pose, shift = CHAIN.pose(np.array(HOME_RAD)), np.array(offset)
    return np.array([*pose[:3] + 0.5 * shift[:3], *quat_xyzw_multiply(quat_xyzw_from_rotvec(shift[3:]), pose[3:])])


rows = st.lists(st.floats(-1, 1), min_size=6, max_size=6).map(moved)
wild = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=7, max_size=7).map(np.array)
plans = st.lists(rows, min_size=1, max_size=4)
tightness = st.fixed_dictionaries(
    {
        "max_jerk_m_s3": st.floats(1.7, 3.7).map(lambda power: 10**power),
        "max_jerk_rad_s3": st.floats(2, 4).map(lambda power: 10**power),
        "max_speed_m_s": st.floats(0.1, 1.2),
    }
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(plans | st.lists(wild, min_size=1, max_size=2), st.integers(1, 30), st.booleans()), max_size=5),
    tightness,
)
def test_every_limit_holds_for_plans_that_replace_each_other_at_any_tick(changes, tighter):
    arm = Driven(panda_limits(**tighter, **HAND))
    for plan, ticks, stopped in changes:
        for row, following in zip(plan, [*plan[1:], None], strict=True):
            arm.step(row, following, ticks)
        if stopped:
            arm.hold(ticks)
    arm.hold(50)
    assert_within(arm.limits, arm.walked)


@pytest.mark.parametrize("jerk", [6000.0, 200.0])
def test_a_plan_that_is_too_fast_is_late_and_cuts_no_corner(jerk):
    """Round a square of 12 cm at 2 m/s, where 0.69 are allowed: the reference keeps to the edges."""
    arm = Driven(panda_limits(max_jerk_m_s3=jerk))
    start = arm.reference
    corners = [(0.0, 0.0), (0.0, 0.12), (0.12, 0.12), (0.12, 0.0)]
    plan = [start + np.array([x, y, 0, 0, 0, 0, 0]) for x, y in [*corners[1:], corners[0]]]
    arm.chain.set_point(start, 1.0)  # nobody joins far from the arm
    fine = [a + (b - a) * share for a, b in zip([start, *plan[:-1]], plan, strict=True) for share in (0.5, 1.0)]
    for row, following in zip(fine, [*fine[1:], None], strict=True):
        arm.servo.begin(row, following)
        arm.tick(TICKS)
    assert arm.servo.late
    arm.tick(1300)
    assert not arm.servo.late
    assert_within(arm.limits, arm.walked)
    offset = arm.walked[:, :2] - start[:2]
    inside = np.minimum(np.minimum(offset[:, 0], 0.12 - offset[:, 0]), np.minimum(offset[:, 1], 0.12 - offset[:, 1]))
    assert inside.max() < 0.002  # in the time of the plan it would be centimetres
    for corner in corners:
        assert np.linalg.norm(offset - corner, axis=1).min() < 0.001
    np.testing.assert_allclose(arm.walked[-1], fine[-1], atol=1e-4)
    assert arm.servo.arrays.arm.counts[LAYERS.index("motion")] > 100


def test_another_plan_starts_at_once_from_where_the_reference_is():
    arm = Driven(panda_limits())
    start = arm.reference
    ahead = [start + np.array([0, 0.1 * row, 0, 0, 0, 0, 0]) for row in range(1, 5)]
    arm.servo.begin(ahead[0], ahead[1])
    arm.tick(TICKS)
    here = arm.reference
    assert here[1] < ahead[0][1] - 0.02  # it is late
    other = start + np.array([0.0, 0.0, 0.05, 0, 0, 0, 0])
    arm.servo.begin(other)
    arm.tick(400)
    assert arm.walked[:, 1].max() < here[1] + 0.06
    np.testing.assert_allclose(arm.reference, other, atol=1e-4)
    assert_within(arm.limits, arm.walked)


def test_a_plan_joins_the_reference_and_not_the_measured_arm():
    arm = Driven(panda_limits())
    start, rows = arm.reference, [arm.reference + np.array([0, 0.005 * k, 0, 0, 0, 0, 0]) for k in range(1, 9)]
    for row, following in pairwise(rows[:5]):
        arm.servo.begin(row, following)
        arm.tick(TICKS)
    arm.q += 0.05  # the arm is pushed away
    for row, following in zip(rows[4:], [*rows[5:], None], strict=True):
        arm.servo.begin(row + np.array([0, 0, 0.001, 0, 0, 0, 0]), following)
        arm.tick(TICKS)
    assert_within(arm.limits, arm.walked)
    assert np.abs(arm.walked[:, 0] - start[0]).max() < 1e-4


@pytest.mark.parametrize("jerk", [6000.0, 100.0])
def test_holding_brakes_from_the_first_tick_and_does_not_turn_back(jerk):
    arm = Driven(panda_limits(max_jerk_m_s3=jerk))
    rows = [arm.reference + np.array([0, 0.02 * k, 0, 0, 0, 0, 0]) for k in range(1, 20)]
    for row, following in pairwise(rows[:17]):
        arm.servo.begin(row, following)
        arm.tick(TICKS)
    begun = len(arm.poses)
    for _ in range(10):
        arm.hold()
    rates, _, _ = differences(arm.walked)
    assert rates[begun - 2, 1] > 0.15
    assert rates[begun + 23, 1] < rates[begun - 2, 1] - 0.02  # it brakes within 50 ms
    assert rates[begun:, 1].min() > -1e-3
    assert np.abs(rates[-1]).max() < 1e-6
    assert_within(arm.limits, arm.walked)


def joint_speeds(q: np.ndarray, twist: np.ndarray) -> np.ndarray:
    """Damped least squares [7] rad/s."""
    jacobian = CHAIN.jacobian(q)
    return jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 0.03**2 * np.eye(6), twist)


@pytest.mark.parametrize(
    ("q", "axis"),
    [
        ([0.0, 0.3, 0.0, -0.4, 0.0, 2.2, 0.785], 0),  # the elbow is nearly straight
        ([2.77, 0.0, 0.0, -2.4, 0.0, 2.4, 0.785], 0),  # 0.03 rad from where the margin of joint 1 begins
    ],
)
def test_the_share_of_a_rate_is_what_the_joints_can_follow(q, axis):
    arrays, q, twist = panda_limits().arrays(), np.array(q), np.zeros(6)
    twist[axis] = 0.69 if joint_speeds(q, np.eye(6)[axis])[0] >= 0.0 else -0.69
    share = joint_share(arrays, CHAIN.jacobian(q), q, twist)
    speeds = np.abs(joint_speeds(q, share * twist))
    room = np.where(joint_speeds(q, twist) > 0, arrays.joint[1] - q, q - arrays.joint[0])
    excess = speeds / np.minimum(arrays.joint_speed, 6.0 * room)
    assert 0.0 < share < 1.0
    assert excess.max() == pytest.approx(1.0)
    assert joint_share(arrays, CHAIN.jacobian(np.array(HOME_RAD)), np.array(HOME_RAD), 0.1 * twist) == 1.0


def test_a_force_stops_the_arm_within_its_limits_until_the_reset():
    arm = Driven(panda_limits(force_source="measured"))
    rows = [arm.reference + np.array([0, 0.02 * k, 0, 0, 0, 0, 0]) for k in range(1, 30)]
    for row in rows[:6]:
        arm.step(row)
    arm.external = CHAIN.jacobian(arm.q).T @ np.array([0.0, 0.0, 250.0, 0.0, 0.0, 0.0])
    arm.tick(10)
    arm.external = np.zeros(7)
    begun = len(arm.poses)
    for row in rows[6:]:
        arm.step(row)
    assert arm.servo.arrays.arm.counts[FORCE] > 0
    assert arm.servo.arrays.arm.stopped[0]
    assert_within(arm.limits, arm.walked)
    np.testing.assert_array_equal(arm.walked[-1], arm.walked[-100])
    assert arm.walked[-1, 1] - arm.walked[begun, 1] < 0.05
    arm.servo.reset({"joint_position": arm.q})
    assert not arm.servo.arrays.arm.stopped[0]


def test_a_force_lets_go_of_what_the_arm_pressed_against():
    """The arm stands still while its reference goes on for 6 cm; stopped, it comes back to where the arm is."""
    servo, q = Servo(CHAIN, panda_limits(force_source="measured")), np.array(HOME_RAD)
    state = {"joint_position": q, "joint_velocity": np.zeros(7), "mass_matrix": np.eye(7), "bias_force": np.zeros(7)}
    servo.reset(state)
    here, poses = CHAIN.pose(q), []
    pushed = CHAIN.jacobian(q).T @ np.array([0.0, -250.0, 0.0, 0.0, 0.0, 0.0])
    for tick in range(500):
        state["external_torque"] = pushed if 150 < tick < 200 else np.zeros(7)
        servo.compute(state, {"tcp_pose": here + np.array([0, 0.06, 0, 0, 0, 0, 0])}, DT)
        poses.append(servo.arrays.reference.copy())
    walked = np.array([here, *poses])
    assert walked[:, 1].max() > 0.05
    np.testing.assert_allclose(walked[-1], here, atol=1e-6)
    assert_within(panda_limits(), walked)


def test_a_target_that_is_no_number_is_none_and_the_next_one_counts():
    arm = Driven(panda_limits())
    goal = arm.reference + np.array([0, 0.03, 0, 0, 0, 0, 0])
    for broken in (np.full(7, np.nan), np.array([np.inf, 0, 0, 0, 0, 0, 1])):
        arm.servo.begin(broken)
        arm.tick(20)
    np.testing.assert_array_equal(arm.walked[-1], arm.walked[0])
    assert arm.servo.arrays.arm.counts[LAYERS.index("finite")] == 2
    arm.servo.begin(goal)
    arm.tick(300)
    np.testing.assert_allclose(arm.reference, goal, atol=1e-6)


def test_a_plan_that_a_joint_holds_up_goes_on_where_its_rows_lead_back():
    """The tool is turned against the limit of the last joint and back; rows are announced one by one."""
    limits = panda_limits(joint_upper_rad=(2.8, 1.7, 2.8, -0.07, 2.8, 3.7, HOME_RAD[6] + 0.25))
    arm = Driven(limits)
    start, rows = arm.reference, []
    for turn in [*np.linspace(0.04, 0.8, 20), *np.linspace(0.8, 0.0, 20), *np.zeros(30)]:
        back = quat_xyzw_multiply(quat_xyzw_from_rotvec([0.0, 0.0, -turn]), start[3:])
        rows.append(np.array([*start[:3], *back]))
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        arm.servo.begin(row, following)
        arm.tick(TICKS)
    assert arm.servo.arrays.arm.counts[LAYERS.index("joint")] > 0
    np.testing.assert_allclose(arm.reference, start, atol=1e-3)


def test_no_layer_is_left_out():
    """Each layer of an arm that is built from its limits alone counts what it is there for."""
    arm = Driven(panda_limits(force_source="simulated"))
    far = arm.reference + np.array([0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    arm.step(np.full(7, np.nan))
    for _ in range(12):
        arm.step(far)
    arm.q[3] = -0.2  # the elbow beyond its margin
    arm.step(far, ticks=3)
    arm.external = np.full(7, np.nan)
    arm.tick(1)
    counts = arm.chain.counts + arm.servo.arrays.arm.counts
    assert dict(zip(LAYERS, counts > 0, strict=True)) == dict.fromkeys(LAYERS, True)
    assert math.isfinite(arm.reference.sum())
