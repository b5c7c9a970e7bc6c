"""dm_control's tasks: parity with the tasks themselves, reproducible starts, ends, cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dm_control import suite

from robot_rl.errors import ConfigError, SimulationDivergedError
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.video import Rendering
from robot_rl.types import Observation
from sim.adapted_env import AdaptedEnv
from sim.dm_control_env import DmControl, dm_control_env


def assert_same(a: Observation, b: Observation) -> None:
    for name, value in a.state.items():
        np.testing.assert_array_equal(value, b.state[name])
    assert {name: frame.data for name, frame in a.frames.items()} == {n: f.data for n, f in b.frames.items()}


def test_reacher_gives_dm_controls_own_numbers() -> None:
    env = dm_control_env("reacher", "easy", max_steps=1200)
    assert (env.spec.step_rate_hz, env.spec.action.size, env.spec.task) == (50.0, 2, "dm_reacher_easy")
    random = np.random.RandomState(0)
    reference = suite.load("reacher", "easy", task_kwargs={"random": random})
    random.seed(4)  # reset draws from here on, whatever was drawn to build it
    now, observation = reference.reset(), env.reset(4)
    actions = np.random.default_rng(1).uniform(-1, 1, (30, 2))
    for action in actions:
        for name, value in now.observation.items():
            np.testing.assert_array_equal(observation.state[name], value.astype(np.float32))
        now = reference.step(action)
        result = env.step(env.anchor(action[None], observation))
        observation = result.observation
        assert result.reward == now.reward


def test_the_suites_time_limit_gives_way_to_ours() -> None:
    """Its own would end the episode after 1000 steps (20 s)."""
    env = dm_control_env("reacher", "easy", max_steps=1003)
    env.reset(0)
    ends = [env.step(env.hold()) for _ in range(1003)]
    assert [result.truncated for result in ends] == [False] * 1002 + [True]
    assert not any(result.terminated for result in ends)


def test_the_manipulation_tasks_keep_theirs_which_truncates() -> None:
    env = dm_control_env("manipulation", "reach_site_features", max_steps=400)
    env.reset(0)
    ends = [env.step(env.hold()) for _ in range(250)]  # 10 s at 25 Hz
    assert [result.truncated for result in ends] == [False] * 249 + [True]
    assert not any(result.terminated for result in ends)


def test_an_end_of_the_task_terminates() -> None:
    """That of LQR ends at rest in the middle."""
    env = dm_control_env("lqr", "lqr_2_1", max_steps=50)
    env.reset(0)
    physics = env.simulator._environment.physics  # type: ignore[attr-defined]
    with physics.reset_context():
        physics.data.qpos[:] = 0.0
    result = env.step(env.hold())
    assert (result.terminated, result.truncated) == (True, False)


def test_a_seed_is_the_same_episode_in_every_env_and_in_any_order() -> None:
    for domain, task in (("lqr", "lqr_2_1"), ("manipulation", "stack_2_bricks_features")):
        one, other = (dm_control_env(domain, task, max_steps=20) for _ in range(2))
        other.reset(8)
        other.step(other.hold())
        a, b = one.reset(5), other.reset(5)
        assert_same(a, b)
        action = one.spec.action.high[None]
        assert_same(one.step(one.anchor(action, a)).observation, other.step(other.anchor(action, b)).observation)


def test_manipulation_observations_have_units() -> None:
    env = dm_control_env("manipulation", "reach_duplo_features", max_steps=20)
    observation = env.spec.observation
    assert observation["jaco_arm/joints_vel"].unit == "rad/s"
    assert observation["duplo2x4/position"].unit == "m"
    assert observation["duplo2x4/orientation"].unit == "quat_wxyz"
    assert observation["jaco_arm/joints_pos"].shape == (12,)  # sine and cosine of six joints
    np.testing.assert_allclose(np.linalg.norm(env.reset(0).state["duplo2x4/orientation"]), 1.0, atol=1e-6)


def test_success_is_a_reward_that_is_asked_for() -> None:
    env = dm_control_env("cartpole", "balance", max_steps=20, success_reward=0.9)
    never = dm_control_env("cartpole", "balance", max_steps=20)
    results = [e.step(e.anchor(np.zeros((1, 1)), e.reset(0))) for e in (env, never)]
    assert results[0].reward == results[1].reward > 0.9  # it starts nearly upright
    assert [result.success for result in results] == [True, False]
    assert not results[0].terminated


def test_cameras_show_the_task_and_the_same_for_the_same_seed() -> None:
    env = dm_control_env("reacher", "easy", max_steps=20, cameras={"top": "fixed"}, image_size_px=64)
    again = dm_control_env("reacher", "easy", max_steps=20, cameras={"top": "fixed"}, image_size_px=64)
    try:
        first = env.reset(2)
        image = decode(first.frames["top"]).astype(int)
        assert image.shape == (64, 64, 3)
        reddish = (image[..., 0] > image[..., 2] + 40).sum()
        assert reddish > 5  # the target
        env.reset(3)
        assert_same(first, env.reset(2))
        assert_same(first, again.reset(2))
        assert isinstance(env, Rendering)
        assert env.render().shape == (320, 320, 3)
    finally:
        env.close()
        again.close()


def test_a_divergence_ends_the_step_with_an_error_and_a_reset_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = dm_control_env("cartpole", "swingup", max_steps=20)
    env.reset(0)
    env.simulator._environment.physics.data.qvel[:] = 1e30  # type: ignore[attr-defined]
    with pytest.raises(SimulationDivergedError, match="dm_cartpole_swingup"):
        env.step(env.hold())
    env.reset(0)
    assert not env.step(env.hold()).terminated
    assert list(tmp_path.iterdir()) == []  # MuJoCo would write a file here


@pytest.mark.parametrize(
    ("domain", "task", "expected"),
    [
        ("recher", "easy", "Did you mean 'reacher'"),
        ("reacher", "esy", "Did you mean 'easy'"),
        ("manipulation", "stack_2_brick_features", "Did you mean 'stack_2_bricks_features'"),
        ("manipulation", "lift_brick_vision", "is an image.*_features"),
    ],
)
def test_mistakes_are_named(domain: str, task: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        dm_control_env(domain, task, max_steps=20)


def test_a_camera_that_the_model_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no camera 'fixd'.*Did you mean 'fixed'"):
        dm_control_env("reacher", "easy", max_steps=20, cameras={"top": "fixd"})


SOME = ("lift_large_box_features", "place_cradle_features", "reassemble_3_bricks_fixed_order_features")


@pytest.mark.parametrize("domain", [*suite.TASKS_BY_DOMAIN, "manipulation"])
def test_every_domain_fits_the_contract(domain: str) -> None:
    for task in SOME if domain == "manipulation" else suite.TASKS_BY_DOMAIN[domain][:1]:
        check_contract(dm_control_env(domain, task, max_steps=20))


def check_contract(env: AdaptedEnv) -> None:
    assert isinstance(env, AdaptedEnv)
    assert isinstance(env.simulator, DmControl)
    for observation in (env.reset(0), env.step(env.hold()).observation):
        for name, array in env.spec.observation.items():
            array.check(name, observation.state[name])
    env.close()
