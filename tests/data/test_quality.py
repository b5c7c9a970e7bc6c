"""Quality figures by closed forms, and on the published demonstrations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.data.formats.diffusion_policy import DiffusionPolicyFormat
from robot_rl.data.quality import (
    action_consistency,
    dataset_quality,
    episode_quality,
    log_dimensionless_jerk,
    rms_jerk,
    state_action_coverage,
    trajectory_quality,
)
from robot_rl.data.quality_report import summary, write_report
from robot_rl.errors import StoreError
from tests.data.demonstrations import arm_spec, demonstration
from tests.shared_data import shared_data


def minimum_jerk_reach(samples: int) -> np.ndarray:
    t = np.linspace(0.0, 1.0, samples)
    return (10 * t**3 - 15 * t**4 + 6 * t**5)[:, None]


def test_log_dimensionless_jerk_of_a_minimum_jerk_reach() -> None:
    """Integral of jerk^2 is 720, peak velocity 1.875, duration 1: -ln(720 / 1.875^2)."""
    found = log_dimensionless_jerk(minimum_jerk_reach(2001), period_s=1 / 2000)
    assert found == pytest.approx(-np.log(720 / 1.875**2), abs=0.01)


@given(st.floats(0.01, 100.0), st.floats(0.001, 1.0))
def test_log_dimensionless_jerk_has_no_units(scale: float, period_s: float) -> None:
    path = np.cumsum(np.random.default_rng(0).normal(size=(30, 2)), axis=0)
    expected = log_dimensionless_jerk(path, 0.1)
    assert log_dimensionless_jerk(scale * path, period_s) == pytest.approx(expected, rel=1e-6)


def test_a_shaking_path_is_less_smooth_and_a_resting_one_has_no_figure() -> None:
    smooth = minimum_jerk_reach(200)
    shaking = smooth + 0.01 * np.random.default_rng(0).normal(size=smooth.shape)
    calm, rough = (log_dimensionless_jerk(path, 0.01) for path in (smooth, shaking))
    assert calm is not None
    assert rough is not None
    assert rough < calm - 5
    assert log_dimensionless_jerk(np.ones((50, 3)), 0.01) is None
    assert log_dimensionless_jerk(np.arange(4.0)[:, None], 0.01) is None


def test_rms_jerk_of_a_cubic_is_its_third_derivative() -> None:
    t = 0.1 * np.arange(50)[:, None]
    assert rms_jerk(2 * t**3, 0.1) == pytest.approx(12.0, rel=1e-6)


def test_trajectory_quality_is_the_normalised_mean_return() -> None:
    assert trajectory_quality(np.array([2.0, 4.0, 6.0]), return_random=2.0, return_expert=10.0) == pytest.approx(0.25)
    assert trajectory_quality(np.array([1.0]), 1.0, 1.0) is None


def test_coverage_counts_distinct_pairs() -> None:
    """Four states times two actions, each pair thrice: 8 unique of a reference with 16."""
    pairs = np.array([(s, a) for s in range(4) for a in range(2)] * 3, dtype=np.float64)
    found = state_action_coverage(pairs[:, :1], pairs[:, 1:], components=2, bins=40, reference_unique=16)
    assert found == pytest.approx(0.5)


def test_coverage_of_uniform_data_is_one_and_of_a_repeated_path_small() -> None:
    random = np.random.default_rng(0)
    uniform, still = random.uniform(size=(4000, 1)), np.zeros((4000, 1))
    assert state_action_coverage(uniform, still) == pytest.approx(1.0)
    path = np.tile(np.linspace(0, 1, 40)[:, None], (100, 1))
    along, across = (state_action_coverage(path, action, components=2) for action in (path**2, uniform))
    assert along < 0.3
    assert across > 2 * along


def test_consistency_is_one_for_a_function_of_the_state_and_near_zero_for_noise() -> None:
    random = np.random.default_rng(0)
    states, owner = random.uniform(size=(3000, 2)), np.repeat(np.arange(30), 100)
    told = action_consistency(states, states @ np.array([[1.0], [2.0]]), owner)
    noise = action_consistency(states, random.normal(size=(3000, 1)), owner)
    assert told is not None
    assert noise is not None
    assert told > 0.98
    assert abs(noise) < 0.15
    assert action_consistency(states, np.zeros((3000, 1)), owner) is None
    assert action_consistency(states, states, np.zeros(3000)) is None


def test_two_opposite_demonstrators_are_inconsistent() -> None:
    """Half the episodes go left, half right, from the same states."""
    states = np.tile(np.linspace(0, 1, 100)[:, None], (20, 1))
    owner = np.repeat(np.arange(20), 100)
    actions = np.where(owner % 2 == 0, 1.0, -1.0)[:, None]
    found = action_consistency(states, actions, owner)
    assert found is not None
    assert found < 0.1


def test_figures_of_one_episode() -> None:
    episode = demonstration("a", 9, 0, ["front"])
    episode.cameras["front"].frame_of_step[3:5] = -1
    overrun = np.arange(10) == 4
    episode = replace(episode, arrays={**episode.arrays, "flags/overrun": overrun})
    found = episode_quality(episode, arm_spec(["front"]), success=False)
    assert (found.steps, found.total_reward, found.best_reward, found.success) == (9, 1.0, 1.0, False)
    assert found.dropped_frames == {"front": 2}
    assert (found.overruns, found.invalid_actions) == (1, 0)
    assert found.human_share == pytest.approx(3 / 9)
    stamps = episode.arrays["time/t_ns"]
    assert found.duration_s == pytest.approx((stamps[-1] - stamps[0]) / 1e9)
    motions = {"arm0/joint_position", "arm0/tcp_pose", "action arm0/tcp"}
    assert set(found.log_dimensionless_jerk) == motions  # no gripper, nothing privileged


def test_ranges_and_limits_of_a_set() -> None:
    spec, episodes = arm_spec(), [demonstration(f"e{i}", 20, i) for i in range(3)]
    episodes[0].arrays["action/commanded"][4, 0] = 0.06  # the limit is 0.05 m
    found = dataset_quality("made up", spec, [(episode, True) for episode in episodes])
    commanded = np.concatenate([episode.arrays["action/commanded"][:-1] for episode in episodes])
    actions = found.ranges["action/commanded"]
    np.testing.assert_allclose(actions.maximum, commanded.max(axis=0))
    np.testing.assert_allclose(actions.mean, commanded.astype(np.float64).mean(axis=0))
    outside = ((commanded < spec.action.low) | (commanded > spec.action.high)).mean()
    assert actions.outside_limits == pytest.approx(outside)
    assert outside >= 1 / 240
    assert found.tq == 1.0  # every return is 1, the best of the set
    assert found.ranges["obs/arm0/joint_position"].unit == "rad"


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(StoreError, match="'nothing' holds no episodes"):
        dataset_quality("nothing", arm_spec(), [])


def test_episodes_without_a_step_and_negative_rewards_have_figures_too(tmp_path: Path) -> None:
    moving = demonstration("b", 6, 1)
    moving = replace(moving, arrays={**moving.arrays, "rl/reward": np.full(7, -1, np.float32)})
    with pytest.raises(StoreError, match="no episode of dataset 'still' has a control step"):
        dataset_quality("still", arm_spec(), [(demonstration("a", 0, 0), None)])
    found = dataset_quality("set", arm_spec(), [(demonstration("a", 0, 0), None), (moving, None)])
    assert [(episode.steps, episode.best_reward) for episode in found.episodes] == [(0, 0.0), (6, -1.0)]
    write_report(found, tmp_path / "report")


def test_report_is_a_plot_and_plain_json(tmp_path: Path) -> None:
    found = dataset_quality("set", arm_spec(["front"]), [(demonstration("a", 12, 0, ["front"]), None)])
    data, picture = write_report(found, tmp_path / "report")
    assert json.loads(data.read_text())["episodes"][0]["steps"] == 12
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert summary(found)["dropped frames, front"] == "0"


def test_figures_of_the_human_pusht_demonstrations() -> None:
    source = shared_data("pusht_human206") / "pusht_cchi_v7_replay.zarr"
    foreign = DiffusionPolicyFormat().read(source)
    found = dataset_quality("pusht", foreign.spec, [(r.load(), None) for r in foreign.recordings[:60]])
    steps = [episode.steps for episode in found.episodes]
    assert (len(steps), min(steps) >= 49, max(steps) <= 246) == (60, True, True)
    assert all(0.8 < episode.best_reward < 0.95 for episode in found.episodes)
    assert found.action_consistency is not None
    assert 0.8 < found.action_consistency < 1.0
    assert 0.0 < found.saco < 1.0
