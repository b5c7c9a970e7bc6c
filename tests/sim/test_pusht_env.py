"""Push-T: the original's resets and physics, against its human demonstrations where they are at hand."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from robot_rl.data.pusht import CAMERA, GOAL_POSE, tee_coverage, tee_keypoints
from robot_rl.errors import CommandRefusedError
from robot_rl.runtime.frame_codec import decode
from sim.pusht_env import initial_state, pusht_env
from tests.shared_data import shared_data


def test_seeds_mean_what_they_mean_in_the_original() -> None:
    # numpy.random.RandomState(100000): randint(50, 450) twice, randint(100, 400) twice, randn * 2 pi - pi
    np.testing.assert_allclose(initial_state(100000), [235, 124, 335, 128, -0.90492743], atol=1e-8)
    state = pusht_env().reset(100000).state
    np.testing.assert_array_equal(state["agent/position"], [235, 124])
    # placed at (335, 128), then turned about the centre of mass at (0, 45) px: p + c - R c
    c, s = np.cos(-0.90492743), np.sin(-0.90492743)
    np.testing.assert_allclose(state["tee/pose"][:2], [335 + s * 45, 128 + 45 - c * 45], atol=1e-3)
    assert state["tee/pose"][2] == pytest.approx(2 * np.pi - 0.90492743, abs=1e-5)


def test_observations_agree_with_each_other() -> None:
    state = pusht_env().reset(3).state
    np.testing.assert_allclose(state["tee/keypoints"], tee_keypoints(state["tee/pose"]), atol=1e-3)


def test_the_agent_moves_to_its_target_in_a_tenth_of_a_second_per_step() -> None:
    env = pusht_env()
    observation = env.restore({"agent/position": np.array([50.0, 50.0]), "tee/pose": np.array([300.0, 300.0, 0.0])})
    plan = env.anchor(np.tile([80.0, 60.0], (10, 1)), observation)
    stamps = []
    for _ in range(10):
        observation = env.step(plan).observation
        stamps.append(observation.stamp_ns)
    np.testing.assert_allclose(observation.state["agent/position"], [80, 60], atol=0.5)
    np.testing.assert_array_equal(np.diff(stamps), 100_000_000)
    np.testing.assert_allclose(observation.state["tee/pose"], [300, 300, 0], atol=1e-4)  # nobody touched it


def test_reward_success_and_end_by_coverage() -> None:
    env = pusht_env()
    goal = np.array([*GOAL_POSE])
    observation = env.restore({"agent/position": np.array([50.0, 50.0]), "tee/pose": goal})
    result = env.step(env.hold())
    assert (result.reward, result.success, result.terminated, result.truncated) == (1.0, True, True, False)
    off = goal + np.array([6.0, 0.0, 0.0])
    observation = env.restore({"agent/position": np.array([50.0, 50.0]), "tee/pose": off})
    result = env.step(env.hold())
    share = float(tee_coverage(off[None])[0])
    assert 0.8 < share < 0.95
    assert result.reward == pytest.approx(share / 0.95, abs=1e-4)
    assert not result.success
    assert observation.step == 0


def test_a_success_in_the_last_step_is_no_truncation() -> None:
    env = pusht_env(max_steps=1)
    env.restore({"agent/position": np.array([50.0, 50.0]), "tee/pose": np.array(GOAL_POSE)})
    result = env.step(env.hold())
    assert (result.terminated, result.truncated) == (True, False)
    env.reset(0)
    result = env.step(env.hold())
    assert (result.terminated, result.truncated) == (False, True)


def test_targets_are_clipped_to_the_board() -> None:
    env = pusht_env()
    np.testing.assert_array_equal(
        env.anchor(np.array([[-20.0, 600.0]]), env.reset(0)).targets["agent/target"], [[0, 512]]
    )


def test_the_camera_shows_the_board_as_jpeg() -> None:
    env = pusht_env(image_size_px=96)
    observation = env.restore({"agent/position": np.array([60.0, 440.0]), "tee/pose": np.array(GOAL_POSE)})
    frame = observation.frames[CAMERA]
    assert (frame.codec, env.spec.cameras[CAMERA].width) == ("jpeg", 96)
    image = decode(frame)
    agent = image[round(440 / 512 * 96), round(60 / 512 * 96)].astype(int)
    assert agent[2] > agent[0] + 80  # the agent is blue: colours are RGB
    assert env.step(env.hold()).observation.frames[CAMERA].sequence == frame.sequence + 1
    assert env.render().shape == (512, 512, 3)


def test_order_of_calls_is_enforced() -> None:
    env = pusht_env()
    with pytest.raises(CommandRefusedError, match="not been reset"):
        env.hold()
    plan = env.anchor(np.array([[1.0, 1.0]]), env.reset(0))
    env.step(plan)
    with pytest.raises(CommandRefusedError, match="set point for step 1"):
        env.step(plan)


def test_human_demonstrations_are_reproduced() -> None:
    """Replayed from their first state, the recorded actions give the recorded tee, and nearly full coverage."""
    root = zarr.open(shared_data("pusht_human206") / "pusht_cchi_v7_replay.zarr", mode="r")
    states, actions = np.asarray(root["data/state"]), np.asarray(root["data/action"])  # type: ignore[index]
    ends = np.asarray(root["meta/episode_ends"])  # type: ignore[index]
    env, coverage = pusht_env(), []
    for episode in range(0, 200, 40):
        rows = slice(0 if episode == 0 else ends[episode - 1], ends[episode])
        state, action = states[rows].astype(np.float64), actions[rows]
        observation = env.restore({"agent/position": state[0, :2], "tee/pose": state[0, 2:]})
        best = 0.0
        for row in range(len(action)):
            difference = np.abs(observation.state["tee/pose"][:2] - state[row, 2:4]).max()
            assert difference < (1e-3 if row < 5 else 2.0), f"episode {episode}, row {row}"
            result = env.step(env.anchor(action[row : row + 1], observation))
            observation, best = result.observation, max(best, result.info["coverage"])
        coverage.append(best)
    assert min(coverage) > 0.85
