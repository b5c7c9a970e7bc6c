import numpy as np
import pytest

from controllers.interpolation import advance_segment, begin_segment, new_segment, rest_segment, sample_segment
from robot_rl.geometry import geodesic_angle, quat_xyzw_from_rotvec, rotvec_from_quat_xyzw, slerp

pytestmark = pytest.mark.robot
DT, TICKS = 0.05, 25


def pose(x: float, turn: float = 0.0) -> np.ndarray:
    return np.array([x, 0.0, 0.0, *quat_xyzw_from_rotvec([0.0, 0.0, turn])])


def run(segment) -> tuple[np.ndarray, np.ndarray]:
    """Poses and twists over one step, its start included."""
    poses, twists, here, twist = [], [], np.empty(7), np.empty(6)
    for tick in range(TICKS + 1):
        if tick:
            advance_segment(segment, DT / TICKS)
        sample_segment(segment, here, twist)
        poses.append(here.copy())
        twists.append(twist.copy())
    return np.array(poses), np.array(twists)


def test_a_plan_of_even_steps_is_a_straight_line_at_constant_speed():
    segment = new_segment()
    rest_segment(segment, pose(0.0))
    begin_segment(segment, pose(0.01, 0.1), pose(0.02, 0.2), True, True, DT)
    run(segment)
    begin_segment(segment, pose(0.02, 0.2), pose(0.03, 0.3), True, True, DT)
    poses, twists = run(segment)
    np.testing.assert_allclose(poses[:, 0], np.linspace(0.01, 0.02, TICKS + 1), atol=1e-12)
    np.testing.assert_allclose(twists[:, 0], 0.2, atol=1e-12)
    expected = slerp(pose(0, 0.1)[3:], pose(0, 0.2)[3:], np.linspace(0, 1, TICKS + 1))
    np.testing.assert_allclose(geodesic_angle(poses[:, 3:], expected), 0.0, atol=1e-7)
    np.testing.assert_allclose(twists[:, 5], 2.0, atol=1e-12)


def test_each_step_ends_at_its_set_point_and_speed_has_no_jump():
    segment, rng = new_segment(), np.random.default_rng(0)
    rest_segment(segment, pose(0.0))
    last = np.zeros(6)
    for _ in range(20):
        target, following = (pose(*rng.uniform(-0.02, 0.02, size=2)) for _ in range(2))
        begin_segment(segment, target, following, bool(rng.integers(2)), bool(rng.integers(2)), DT)
        poses, twists = run(segment)
        np.testing.assert_allclose(twists[0], last, atol=1e-9)
        np.testing.assert_allclose(poses[-1], target, atol=1e-9)
        numeric = np.diff(poses[:, 0]) / (DT / TICKS)
        np.testing.assert_allclose(numeric, 0.5 * (twists[1:, 0] + twists[:-1, 0]), atol=0.02)
        last = twists[-1]


def test_a_plan_that_ends_comes_to_rest():
    segment = new_segment()
    rest_segment(segment, pose(0.0))
    begin_segment(segment, pose(0.02), pose(0.02), False, True, DT)
    _, moving = run(segment)
    assert moving[-1, 0] == pytest.approx(0.2)
    begin_segment(segment, pose(0.02), pose(0.02), False, False, DT)
    poses, stopping = run(segment)
    assert stopping[-1, 0] == 0.0
    assert poses[-1, 0] == pytest.approx(0.02)
    assert poses[:, 0].max() < 0.02 + 0.15 * 0.2 * DT  # 4/27 of the way that the speed would have led


def test_a_stream_of_single_rows_gets_up_to_its_pace():
    segment = new_segment()
    rest_segment(segment, pose(0.0))
    rates = []
    for row in range(1, 9):
        begin_segment(segment, pose(0.01 * row), pose(0.01 * row), False, True, DT)
        rates.append(run(segment)[1][-1, 0])
    np.testing.assert_allclose(rates[:3], [0.1, 0.15, 0.175])
    assert rates[-1] == pytest.approx(0.2, rel=0.01)


def test_no_set_point_is_passed_where_the_plan_turns_back():
    segment = new_segment()
    rest_segment(segment, pose(0.0))
    begin_segment(segment, pose(0.01), pose(0.0), True, True, DT)
    poses, twists = run(segment)
    assert twists[-1, 0] == 0.0
    assert poses[:, 0].max() <= 0.01 + 1e-12


def test_the_rate_of_rotation_is_that_of_the_path():
    segment = new_segment()
    rest_segment(segment, pose(0.0))
    begin_segment(segment, pose(0.0, 0.12), pose(0.0, 0.12), False, True, DT)
    poses, twists = run(segment)
    angle = rotvec_from_quat_xyzw(poses[:, 3:])[:, 2]
    np.testing.assert_allclose(np.gradient(angle, DT / TICKS)[1:-1], twists[1:-1, 5], atol=0.05)
