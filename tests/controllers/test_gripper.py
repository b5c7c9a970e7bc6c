import numpy as np
import pytest

from controllers.gripper import Gripper
from robot_rl.errors import ConfigError

pytestmark = pytest.mark.robot


def move(gripper: Gripper, target: float, dt: float = 0.05) -> float:
    return float(gripper.compute({}, {"gripper_opening": np.array([target])}, dt)[0])


def test_it_moves_at_its_speed_and_stops_at_the_target():
    gripper = Gripper(max_speed_1_s=4.0)
    gripper.reset({"gripper_opening": np.array([1.0])})
    assert [move(gripper, 0.5) for _ in range(4)] == pytest.approx([0.8, 0.6, 0.5, 0.5])


def test_noise_of_the_policy_does_not_move_the_fingers():
    gripper = Gripper(deadband=0.02)
    gripper.reset({"gripper_opening": np.array([0.5])})
    assert [move(gripper, value) for value in (0.51, 0.49, 0.505)] == [0.5, 0.5, 0.5]
    assert move(gripper, 0.6) == pytest.approx(0.6)


def test_fully_open_and_closed_are_always_reached():
    gripper = Gripper(deadband=0.02)
    gripper.reset({"gripper_opening": np.array([0.99])})
    assert move(gripper, 1.0) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_not_finite_is_ignored(bad):
    gripper = Gripper()
    gripper.reset({"gripper_opening": np.array([0.3])})
    assert move(gripper, bad) == 0.3


def test_targets_beyond_the_range_are_its_ends():
    gripper = Gripper(max_speed_1_s=100.0, debounce_s=0.0)
    assert move(gripper, -3.0) == 0.0
    assert move(gripper, 7.0) == 1.0


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError):
        Gripper(max_speed_1_s=0.0)
    with pytest.raises(ConfigError):
        Gripper(deadband=0.7)
    with pytest.raises(ConfigError):
        Gripper(debounce_s=-0.1)


def test_the_fingers_turn_round_only_for_what_lasts():
    """At 20 Hz a debounce of 0.1 s takes three targets in a row; the first change since the reset is taken at once."""
    gripper = Gripper(max_speed_1_s=100.0, debounce_s=0.1)
    gripper.reset({"gripper_opening": np.array([1.0])})
    asked = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    assert [move(gripper, value) for value in asked] == [0.0] * 8 + [1.0, 1.0, 1.0, 0.5]


def test_further_the_same_way_nothing_is_held_back():
    gripper = Gripper(max_speed_1_s=100.0, debounce_s=1.0)
    gripper.reset({"gripper_opening": np.array([1.0])})
    assert [move(gripper, value) for value in (0.8, 0.5, 0.2)] == [0.8, 0.5, 0.2]
