"""The Env and Task contracts, for every option of the group task/."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from robot_rl.apps.main import compose, instantiate
from robot_rl.errors import RobotRlError
from robot_rl.interfaces import Env, Task
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ActionKind, Array, Observation, StepResult
from tests.contracts.options import build_env, options


@pytest.fixture(params=options("task"), scope="module")
def env(request: pytest.FixtureRequest) -> Iterator[Env]:
    env = build_env(request.param, "env.max_steps=12")
    yield env
    env.close()


def steady(env: Env) -> Array:
    """An action in the middle of its limits; where that is no rotation, an upright one."""
    spec = env.spec.action
    action = 0.5 * (spec.low + spec.high)
    for part in spec.parts:
        if part.kind is ActionKind.TCP_POSE:
            action[spec.slices[part.name]] = (0.4, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0)
    return action


def run(env: Env, seed: int, actions: Array) -> tuple[Observation, list[StepResult]]:
    """One plan, sent in full at its anchor and then what remains of it."""
    first = env.reset(seed)
    plan, results = env.anchor(actions, first), []
    for i in range(len(actions)):
        results.append(env.step(plan.remaining(first.step + i)))
        if results[-1].terminated or results[-1].truncated:
            break
    return first, results


def test_satisfies_the_protocol(env: Env) -> None:
    assert isinstance(env, Env)


def test_observations_are_exactly_what_the_spec_says(env: Env) -> None:
    first, results = run(env, 3, np.tile(steady(env), (2, 1)))
    for observation in (first, results[-1].observation):
        assert set(observation.state) == set(env.spec.observation)
        for name, array in env.spec.observation.items():
            array.check(name, observation.state[name])
        assert set(observation.frames) == set(env.spec.cameras)


def test_equal_seeds_give_equal_episodes_and_others_differ(env: Env) -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(env.spec.action.low, env.spec.action.high, (4, env.spec.action.size))
    once, again, other = run(env, 5, actions), run(env, 5, actions), run(env, 6, actions)
    for name in env.spec.observation:
        for a, b in zip(
            [once[0], *(r.observation for r in once[1])], [again[0], *(r.observation for r in again[1])], strict=True
        ):
            np.testing.assert_array_equal(a.state[name], b.state[name])
    assert any(not np.array_equal(once[0].state[n], other[0].state[n]) for n in env.spec.observation)


def test_time_and_steps_advance_by_one(env: Env) -> None:
    first, results = run(env, 1, np.tile(steady(env), (3, 1)))
    seen = [first, *(result.observation for result in results)]
    assert [o.step for o in seen] == list(range(first.step, first.step + len(seen)))
    assert all(b.stamp_ns - a.stamp_ns == env.spec.step_period_ns for a, b in itertools.pairwise(seen))


def test_the_time_limit_truncates_and_never_terminates(env: Env) -> None:
    env.reset(2)
    for _ in range(env.max_steps):
        result = env.step(env.hold())
        assert not result.terminated
    assert result.truncated


def test_actions_come_back_in_policy_units(env: Env) -> None:
    _first, results = run(env, 4, np.tile(steady(env), (3, 1)))
    for result in results:
        record = result.action
        assert record.commanded.shape == record.executed.shape == (env.spec.action.size,)
        assert record.valid
        np.testing.assert_allclose(
            record.commanded, steady(env), atol=1e-4 * np.ptp([env.spec.action.low, env.spec.action.high])
        )


def test_a_plan_that_is_not_finite_is_refused_before_it_moves_anything(env: Env) -> None:
    first = env.reset(0)
    actions = np.tile(steady(env), (2, 1))
    actions[1, 0] = np.nan
    with pytest.raises(RobotRlError, match="nan"):
        env.anchor(actions, first)


def test_stop_is_idempotent_and_a_reset_resumes(env: Env) -> None:
    env.reset(0)
    env.stop()
    env.stop()
    with pytest.raises(RobotRlError):
        env.step(env.hold())
    env.reset(0)
    assert env.step(env.hold()).action.valid


# --- the task of a robot env ----------------------------------------------------------------------------------------


@pytest.fixture(params=[name for name in options("task") if "task" in compose("view", [f"task={name}"])])
def task(request: pytest.FixtureRequest) -> Task:
    return instantiate(compose("view", [f"task={request.param}"]).task)


def test_a_task_starts_equal_seeds_equally_and_others_differently(task: Task) -> None:
    once, again, other = task.reset_request(11), task.reset_request(11), task.reset_request(12)
    assert once.simulator_state.keys() == again.simulator_state.keys()
    for name, value in once.simulator_state.items():
        np.testing.assert_array_equal(value, again.simulator_state[name])
    assert any(not np.array_equal(v, other.simulator_state[n]) for n, v in once.simulator_state.items())
    assert once.timeout_s > 0


def test_a_task_judges_by_what_it_says_it_requires(task: Task) -> None:
    """Given exactly those values, the verdict is finite, sparse 0/1, and terminates on success alone."""
    env = build_env(task.name)
    try:
        seen = env.reset(0)
        assert task.requires <= env.spec.observation.keys()
        needed = replace(seen, state={name: seen.state[name] for name in task.requires})
        verdict = task.judge(needed, np.zeros(env.spec.action.size, np.float32), needed)
    finally:
        env.close()
    assert verdict.reward in (0.0, 1.0)
    assert verdict.terminated <= verdict.success


def test_the_tasks_expert_succeeds(task: Task) -> None:
    """Five fresh seeds each; the measured rate over 100 is in the folder's README."""
    config = compose("record", [f"task={task.name}", "teleop=scripted"])
    env, expert = instantiate(config.env), instantiate(config.teleop)
    try:
        ends = [run_episode(env, expert, seed=seed) for seed in range(5000, 5005)]
    finally:
        env.close()
    assert [end.reason for end in ends] == ["success"] * 5
