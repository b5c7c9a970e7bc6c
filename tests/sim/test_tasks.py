import numpy as np
import pytest

from robot_rl.types import Observation
from sim.tasks.lift import Lift
from sim.tasks.reach import Reach

DOWN = [1.0, 0.0, 0.0, 0.0]


def lifted(height: float, tcp_height: float | None = None, opening: float = 0.5) -> Observation:
    tcp = height if tcp_height is None else tcp_height
    return Observation(
        1,
        0,
        {
            "object/cube_pose": np.array([0.5, 0, height, 0, 0, 0, 1], dtype=np.float32),
            "arm0/tcp_pose": np.array([0.5, 0, tcp, *DOWN], dtype=np.float32),
            "arm0/gripper_opening": np.array([opening], dtype=np.float32),
        },
    )


@pytest.mark.parametrize(
    ("observation", "success"),
    [
        (lifted(0.0705), True),
        (lifted(0.069), False),  # 2 cm of half edge and 5 cm of lift are not reached
        (lifted(0.2, tcp_height=0.25), False),  # flies beside the hand
        (lifted(0.2, opening=0.1), False),  # the fingers are closed: nothing between them
    ],
)
def test_lift_is_success_when_the_cube_is_held_high(observation, success):
    verdict = Lift().judge(lifted(0.02), np.zeros(4), observation)
    assert (verdict.reward, verdict.success, verdict.terminated) == (float(success), success, success)


def test_a_throw_is_no_lift():
    """The cube flies on while the hand slows down: 6 mm apart within a step."""
    before, flying = lifted(0.05, tcp_height=0.05), lifted(0.08, tcp_height=0.074)
    assert not Lift().judge(before, np.zeros(4), flying).success
    assert Lift().judge(before, np.zeros(4), lifted(0.08, tcp_height=0.079)).success


@pytest.mark.parametrize(("distance", "speed", "success"), [(0.019, 0.1, True), (0.021, 0.1, False), (0.0, 0.3, False)])
def test_reach_is_success_at_the_target_and_slow(distance, speed, success):
    state = {
        "object/target_position": np.array([0.5, 0.0, 0.2], dtype=np.float32),
        "arm0/tcp_pose": np.array([0.5 + distance, 0.0, 0.2, *DOWN], dtype=np.float32),
        "arm0/tcp_velocity": np.array([0, speed, 0, 0, 0, 0], dtype=np.float32),
    }
    observation = Observation(1, 0, state)
    assert Reach().judge(observation, np.zeros(4), observation).success is success


@pytest.mark.parametrize("task", [Lift(), Reach()], ids=lambda task: task.name)
def test_equal_seeds_give_equal_starts_and_others_differ(task):
    for seed in range(5):
        once, again, other = task.reset_request(seed), task.reset_request(seed), task.reset_request(seed + 100)
        for name, value in once.simulator_state.items():
            np.testing.assert_array_equal(value, again.simulator_state[name])
            assert np.abs(value - other.simulator_state[name]).max() > 1e-3
        np.testing.assert_array_equal(once.tcp_pose, again.tcp_pose)
        assert once.seed == seed


def test_starts_cover_the_declared_range():
    cubes = np.array([Lift().reset_request(seed).simulator_state["object/cube_pose"] for seed in range(300)])
    assert (np.abs(cubes[:, :2] - [0.5, 0.0]) <= 0.1).all()
    assert (np.ptp(cubes[:, :2], axis=0) > 0.19).all()
    yaw = 2 * np.arctan2(cubes[:, 5], cubes[:, 6])
    assert yaw.min() < -3.0
    assert yaw.max() > 3.0
    np.testing.assert_array_equal(cubes[:, 2], 0.02)


def test_what_the_rule_reads_is_what_it_requires():
    for task, observation in ((Lift(), lifted(0.07)),):
        assert task.requires == set(observation.state)
    assert "object/target_position" in Reach().requires
