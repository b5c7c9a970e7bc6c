"""The peg and its hole as geometry and as physics."""

from collections.abc import Iterator

import numpy as np
import pytest

from robot_rl.errors import ConfigError
from robot_rl.geometry import quat_xyzw_rotate
from robot_rl.runtime.env import RobotEnv
from robot_rl.types import ResetRequest
from sim.peg_hole import peg_and_hole
from tests.sim.lift_env import configured

HOLE = np.array([0.5, 0.0, 0.04, 0.0, 0.0, 0.0, 1.0])
HELD = np.array([0.0, 0.0, 0.02, 1.0, 0.0, 0.0, 0.0])
TIP_BELOW_TCP = 0.05  # 2 cm to the peg's middle, 3 cm of half length


@pytest.mark.parametrize("clearance", [0.0005, 0.001, 0.003])
def test_the_hole_is_as_wide_as_peg_and_clearance(clearance):
    peg, hole = peg_and_hole(clearance, peg_half_width_m=0.01).objects
    assert tuple(peg.size_m) == (0.01, 0.01, 0.03)
    occupied = [
        (np.array(part.position_m) - part.size_m, np.array(part.position_m) + part.size_m) for part in hole.geoms
    ]
    along = np.linspace(-0.05, 0.05, 20001)
    for axis in (0, 1):
        points = np.zeros((len(along), 3))
        points[:, axis], points[:, 2] = along, -0.02
        inside = np.any([((low < points) & (points < high)).all(axis=1) for low, high in occupied], axis=0)
        free = along[~inside & (np.abs(along) < 0.045)]
        assert np.ptp(free) == pytest.approx(0.02 + clearance, abs=2e-5)
        assert free.mean() == pytest.approx(0.0, abs=1e-5)


def test_walls_do_not_overlap_and_end_at_the_rim():
    _, hole = peg_and_hole(0.001).objects
    boxes = [(np.array(p.position_m) - p.size_m, np.array(p.position_m) + p.size_m) for p in hole.geoms]
    assert all(high[2] == pytest.approx(0.0) and low[2] == pytest.approx(-0.04) for low, high in boxes)
    for i, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:i]:
            assert (np.minimum(high, other_high) - np.maximum(low, other_low) < 1e-9).any()
    assert sum(np.prod(high - low) for low, high in boxes) == pytest.approx(0.04 * (0.09**2 - 0.021**2))


@pytest.mark.parametrize("clearance", [0.0, -0.001, 0.05])
def test_a_clearance_that_makes_no_hole_is_refused(clearance):
    with pytest.raises(ConfigError, match="wider than the peg"):
        peg_and_hole(clearance)


def test_a_hole_needs_walls():
    with pytest.raises(ConfigError, match="wall"):
        peg_and_hole(0.001, peg_half_width_m=0.042)


# a stiff, strong arm, so that what gives way is the peg
STIFF = (
    "controller.position_stiffness_n_m=4000",
    "controller.max_position_error_m=0.015",
    "controller.damping_ratio=1.0",
    "env.max_lead_m=0.1",
)


# --- physics ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def env() -> Iterator[RobotEnv]:
    env, _ = configured("peg_insert", *STIFF)
    yield env
    env.close()


def pressed(env: RobotEnv, beside: np.ndarray, depth: float = 0.025, steps: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Where the tip ends, relative to the rim [3], when the TCP starts 5 mm above it, ``beside`` [2] the axis, and is
    sent straight down; and how far the peg slipped in the fingers [3]."""
    start = np.array([*(HOLE[:2] + beside), HOLE[2] + TIP_BELOW_TCP + 0.005, 1.0, 0.0, 0.0, 0.0])
    state = {"object/hole_pose": HOLE, "object/peg_held": HELD}
    robot = env.robot
    observation = env.reset(0)
    observation = robot.reset(ResetRequest(tcp_pose=start, gripper_opening=0.0, simulator_state=state))
    before = observation.state["object/peg_pose"][:3] - observation.state["arm0/tcp_pose"][:3]
    for _ in range(steps):
        assert observation.report is not None
        left = start[2] - 0.005 - depth - observation.report.executed["arm0/tcp"][2]
        plan = env.anchor(np.array([[0.0, 0.0, max(left, -0.003)]]), observation)
        robot.command(plan)
        robot.clock.wait_until(observation.stamp_ns + env.spec.step_period_ns)
        observation = robot.read()
    peg, tcp = observation.state["object/peg_pose"], observation.state["arm0/tcp_pose"]
    return peg[:3] - quat_xyzw_rotate(peg[3:], [0.0, 0.0, 0.03]) - HOLE[:3], peg[:3] - tcp[:3] - before


def test_an_aligned_peg_goes_in(env):
    tip, slip = pressed(env, np.zeros(2))
    assert tip[2] == pytest.approx(-0.025, abs=1e-3)
    assert np.abs(slip).max() < 5e-4


BESIDE = [(0.0012, 0.0), (0.0, -0.0012), (0.0009, 0.0009)]  # 0.5 mm to either side would fit


@pytest.mark.parametrize("beside", BESIDE)
def test_a_peg_beside_the_hole_stays_on_the_rim(env, beside):
    tip, _ = pressed(env, np.array(beside), depth=0.008)
    assert -0.001 < tip[2] < 0.0005


@pytest.mark.parametrize("beside", BESIDE)
def test_force_does_not_bring_it_in(env, beside):
    """Pressed with some 40 N it turns in the fingers and slips, but the rim does not let it past."""
    tip, slip = pressed(env, np.array(beside), depth=0.025)
    assert tip[2] > -0.006
    assert np.abs(slip).max() > 0.003


def test_walls_hold_a_peg_that_is_pushed_aside(env):
    tip, _ = pressed(env, np.zeros(2))
    assert np.abs(tip[:2]).max() < 5e-4


def test_the_peg_is_held_at_the_start_and_keeps_its_place(env):
    observation = env.reset(5)
    first = observation.state["object/peg_pose"] - observation.state["arm0/tcp_pose"]
    for _ in range(20):
        observation = env.step(env.hold()).observation
    last = observation.state["object/peg_pose"] - observation.state["arm0/tcp_pose"]
    np.testing.assert_allclose(last[:3], first[:3], atol=2e-4)
