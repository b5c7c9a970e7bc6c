"""Many envs stepped by threads, against each of them alone."""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from robot_rl.errors import ConfigError, InvalidArrayError, ResetError, RobotConnectionError, SpecMismatchError
from robot_rl.runtime.env import RobotEnv
from sim.gymnasium_view import GymnasiumView
from sim.vector_env import ThreadedVectorEnv
from tests.sim.lift_env import configured

ENVS, THREADS = 3, 2
SEEDS = [4, 11, 7]


def lift(max_steps: int = 6) -> RobotEnv:
    return configured("lift", f"env.max_steps={max_steps}")[0]


def vector(**arguments: Any) -> ThreadedVectorEnv:
    return ThreadedVectorEnv([lift] * ENVS, threads=THREADS, **arguments)


@pytest.fixture(scope="module")
def shared() -> Iterator[ThreadedVectorEnv]:
    envs = vector()
    yield envs
    envs.close()


@pytest.fixture(scope="module")
def alone() -> Iterator[GymnasiumView]:
    view = GymnasiumView(lift())
    yield view
    view.close()


def actions(envs: gymnasium.vector.VectorEnv, steps: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    low, high = envs.single_action_space.low, envs.single_action_space.high
    return rng.uniform(low, high, size=(steps, envs.num_envs, len(low))).astype(np.float32)


def assert_same(batch: dict[str, np.ndarray], row: int, single: dict[str, np.ndarray]) -> None:
    assert batch.keys() == single.keys()
    for name, value in single.items():
        np.testing.assert_array_equal(batch[name][row], value, err_msg=name)
        assert batch[name].dtype == value.dtype


def test_each_runs_as_alone_bit_for_bit_over_several_episodes(shared, alone):
    """Two and a half episodes: what is drawn for the later ones is also that of the env alone."""
    chosen = actions(shared, 15)
    first, _ = shared.reset(seed=SEEDS)
    steps = [shared.step(action) for action in chosen]
    for env, seed in enumerate(SEEDS):
        observation, _ = alone.reset(seed=seed)
        assert_same(first, env, observation)
        for action, (observations, rewards, terminations, truncations, infos) in zip(chosen, steps, strict=True):
            observation, reward, terminated, truncated, info = alone.step(action[env])
            assert (rewards[env], terminations[env], truncations[env]) == (reward, terminated, truncated)
            if terminated or truncated:
                assert_same({k: v[None] for k, v in infos["final_obs"][env].items()}, 0, observation)
                np.testing.assert_array_equal(infos["final_info"]["commanded"][env], info["commanded"])
                observation, _ = alone.reset()
            else:
                np.testing.assert_array_equal(infos["executed"][env], info["executed"])
            assert_same(observations, env, observation)
    assert sum(truncations.any() for _, _, _, truncations, _ in steps) == 2


def test_the_gymnasium_contract_holds(shared):
    envs = RecordEpisodeStatistics(shared)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    observations, infos = envs.reset(seed=20)
    np.testing.assert_array_equal(infos["seed"], [20, 21, 22])
    assert envs.observation_space.contains(observations)
    for step in range(6):
        action = envs.action_space.sample()
        observations, rewards, terminations, truncations, infos = envs.step(action)
        assert envs.observation_space.contains(observations)
        assert rewards.shape == terminations.shape == truncations.shape == (ENVS,)
        assert rewards.dtype == np.float64
        assert terminations.dtype == truncations.dtype == np.bool_
        assert ("final_obs" in infos) == (step == 5)
    np.testing.assert_array_equal(infos["_final_obs"], [True] * ENVS)
    np.testing.assert_array_equal(infos["episode"]["l"], [6] * ENVS)


def test_what_was_returned_is_not_written_again(shared):
    first, _ = shared.reset(seed=0)
    kept = {name: value.copy() for name, value in first.items()}
    shared.step(actions(shared, 1)[0])
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_with_next_step_an_ended_env_resets_while_others_step():
    envs = ThreadedVectorEnv([lambda: lift(2), lambda: lift(3)], autoreset="NextStep")
    try:
        envs.reset(seed=1)
        steps = [envs.step(action) for action in actions(envs, 4)]
    finally:
        envs.close()
    np.testing.assert_array_equal(np.array([step[3] for step in steps]), [[0, 0], [1, 0], [0, 1], [0, 0]])
    assert all("final_obs" not in step[4] for step in steps)
    np.testing.assert_array_equal(steps[2][4]["_seed"], [True, False])  # reset in the step after its last
    np.testing.assert_array_equal(steps[3][4]["_seed"], [False, True])


def test_with_disabled_the_caller_resets_those_that_ended():
    envs = ThreadedVectorEnv([lambda: lift(1), lambda: lift(9)], autoreset="Disabled")
    try:
        with pytest.raises(gymnasium.error.ResetNeeded):
            envs.step(actions(envs, 1)[0])
        envs.reset(seed=1)
        observations, _, _, truncations, _ = envs.step(actions(envs, 1)[0])
        np.testing.assert_array_equal(truncations, [True, False])
        with pytest.raises(gymnasium.error.ResetNeeded):
            envs.step(actions(envs, 1)[0])
        before, infos = envs.reset(options={"reset_mask": truncations})
        np.testing.assert_array_equal(infos["_seed"], truncations)
        assert not np.array_equal(before["object/cube_pose"][0], observations["object/cube_pose"][0])
        for mask in (np.zeros(2, dtype=np.bool_), np.ones(3, dtype=np.bool_), np.ones(2)):
            with pytest.raises(InvalidArrayError, match="reset_mask"):
                envs.reset(options={"reset_mask": mask})
    finally:
        envs.close()


def test_one_env_diverges_and_the_others_go_on(alone):
    made: dict[int, RobotEnv] = {}
    envs = ThreadedVectorEnv([keeping(made, index) for index in range(ENVS)], threads=THREADS)
    try:
        before, _ = envs.reset(seed=SEEDS)
        chosen = actions(envs, 2)
        made[1].robot.physics.data.qvel[0] = np.nan
        observations, _, terminations, truncations, infos = envs.step(chosen[0])
        np.testing.assert_array_equal(truncations, [False, True, False])
        assert not terminations.any()
        assert "diverged" in infos["final_info"]["fault"][1]
        assert_same(before, 1, infos["final_obs"][1])  # the last that was finite
        assert all(np.isfinite(value).all() for value in observations.values())
        alone.reset(seed=SEEDS[2])
        for action in chosen:
            last, *_ = alone.step(action[2])
        observations, _, _, truncations, _ = envs.step(chosen[1])
        assert_same(observations, 2, last)
        assert not truncations.any()
    finally:
        envs.close()


def keeping(made: dict[int, RobotEnv], index: int) -> Callable[[], RobotEnv]:
    def make() -> RobotEnv:
        made[index] = lift()
        return made[index]

    return make


def test_a_start_that_fails_is_raised_after_the_others_are_done(monkeypatch):
    made: dict[int, RobotEnv] = {}
    envs = ThreadedVectorEnv([keeping(made, index) for index in range(2)])
    try:
        task = made[0]._task
        request = task.reset_request(0)
        object.__setattr__(request, "joint_position", np.full(7, 9.0))
        monkeypatch.setattr(task, "reset_request", lambda seed: request)
        with pytest.raises(ResetError, match="joint position"):
            envs.reset(seed=3)
        assert made[1].robot.read().step == 0
        monkeypatch.undo()
        envs.reset(seed=3)
        envs.step(actions(envs, 1)[0])
    finally:
        envs.close()


def test_wrong_seeds_and_actions_are_refused(shared):
    with pytest.raises(InvalidArrayError, match="2 seeds"):
        shared.reset(seed=[1, 2])
    shared.reset(seed=0)
    with pytest.raises(InvalidArrayError, match="actions have shape"):
        shared.step(np.zeros((ENVS, 2)))


def test_vectors_that_cannot_be_are_refused_and_leave_nothing_open():
    with pytest.raises(ConfigError, match="no envs"):
        ThreadedVectorEnv([])
    made: dict[int, RobotEnv] = {}
    other = configured("reach")[0]
    with pytest.raises(SpecMismatchError, match="env 1"):
        ThreadedVectorEnv([keeping(made, 0), lambda: other])
    for env in (made[0], other):
        assert closed(env)
    with pytest.raises(ConfigError, match="render mode"):
        ThreadedVectorEnv([keeping(made, 0)], render_mode="human")
    assert closed(made[0])


def test_envs_are_closed_once():
    made: dict[int, RobotEnv] = {}
    envs = ThreadedVectorEnv([keeping(made, index) for index in range(2)])
    envs.close()
    envs.close()
    assert all(closed(env) for env in made.values())


def closed(env: RobotEnv) -> bool:
    try:
        assert env.robot.physics is not None
    except RobotConnectionError:
        return True
    return False
