"""The scripted person: when it takes over, when it lets go, and on a simulated Panda what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from robot_rl.apps.main import compose, instantiate
from robot_rl.errors import ConfigError
from robot_rl.runtime.handover import Handover
from robot_rl.runtime.rollout import run_episode
from robot_rl.teleop.scripted_human import ScriptedHuman
from robot_rl.types import (
    ActContext,
    ActionChunk,
    Array,
    Arrays,
    ArraySpec,
    EnvSpec,
    Observation,
    Phase,
    PolicySpec,
)
from tests.runtime.counting import DELTA, Tape

HERE = np.array([0.5, 0.0, 0.2, 1, 0, 0, 0], dtype=np.float32)


class Forward:
    """An expert that goes 0.01 m along x."""

    observation: Mapping[str, ArraySpec] = {"arm0/tcp_pose": ArraySpec((7,))}

    def set_point(self, state: Arrays) -> dict[str, Array]:
        pose = np.array(state["arm0/tcp_pose"], dtype=np.float64)
        pose[0] += 0.01
        return {"arm0/tcp": pose, "arm0/gripper": np.array([0.0])}


@dataclass
class Told:
    """A task whose progress is the observation ``progress``."""

    def progress(self, state: Arrays) -> float:
        return float(state["progress"][0])


def person(**options: Any) -> ScriptedHuman:
    chosen = {"noise_m": 0.0, "patience_s": 1.0, "reaction_s": 0.0, "least_s": 0.2, "most_s": 0.5, "regain": 0.1}
    return ScriptedHuman(Forward(), DELTA, Told(), **{**chosen, **options})  # type: ignore[arg-type]


def helped(human: ScriptedHuman, progress: list[float], seed: int = 0) -> list[int]:
    """Steps of 100 ms in which the person acts."""
    human.reset(seed)
    return [step for step, value in enumerate(progress) if act(human, step, value) is not None]


def act(human: ScriptedHuman, step: int, progress: float = 0.0) -> Array | None:
    state = {"arm0/tcp_pose": HERE, "progress": np.array([progress], dtype=np.float32)}
    return human.action(Observation(step, step * 100_000_000, state))


def test_a_stall_is_helped_for_a_bounded_time_again_and_again() -> None:
    """1 s of patience, at most 0.5 s of help, then patience anew."""
    assert helped(person(), [0.3] * 32) == [10, 11, 12, 13, 14, 25, 26, 27, 28, 29]


def test_progress_is_not_disturbed() -> None:
    assert not helped(person(), [0.02 * step for step in range(50)])
    # slower than 0.05 a second is standing still
    assert helped(person(), [0.004 * step for step in range(14)]) == [10, 11, 12, 13]


def test_what_was_reached_before_is_no_progress() -> None:
    """Up to 0.5 at step 5, then down and up again: from step 15 on it is a stall."""
    up_and_down = [0.1 * step for step in range(6)] + [0.2, 0.3, 0.4, 0.5] * 3
    assert helped(person(), up_and_down)[0] == 15


def test_the_person_lets_go_once_it_gets_on_but_not_at_once() -> None:
    stalled = [0.0] * 11  # help begins at step 10
    assert helped(person(), [*stalled, 0.2, 0.2, 0.2, 0.2]) == [10, 11]
    assert helped(person(), [*stalled, 0.05, 0.05, 0.12, 0.2]) == [10, 11, 12]


def test_reactions_differ_and_are_the_episodes_own() -> None:
    human = person(reaction_s=1.0)
    starts = [helped(human, [0.0] * 22, seed)[0] for seed in range(12)]
    assert len(set(starts)) > 3
    assert min(starts) >= 15 and max(starts) <= 20
    assert starts == [helped(person(reaction_s=1.0), [0.0] * 22, seed)[0] for seed in range(12)]


def test_the_expert_acts_with_noise_that_follows_from_seed_episode_and_step() -> None:
    def actions(seed: int, episode: int) -> Array:
        human = person(noise_m=0.002, seed=seed)
        human.reset(episode)
        given = [act(human, step) for step in range(14)]
        return np.array([action for action in given if action is not None])

    first = actions(0, 7)
    np.testing.assert_allclose(first[:, 0], 0.01, atol=0.01)
    assert np.std(first[:, 0]) > 0.0
    np.testing.assert_array_equal(first, actions(0, 7))
    assert not np.array_equal(first, actions(0, 8)) and not np.array_equal(first, actions(1, 7))


def test_a_task_without_expert_or_progress_is_refused() -> None:
    for expert, task in ((None, Told()), (Forward(), None), (Forward(), object())):
        with pytest.raises(ConfigError, match="scripted human needs"):
            ScriptedHuman(expert, DELTA, task)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"for 0\.9 s"):
        person(least_s=0.9)


# --- on a simulated arm


class Idle:
    """A policy that stays where it is and presses its fingers together: nothing ever gets on."""

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = PolicySpec({}, spec.action)

    def reset(self, rows: Array, seeds: Array) -> None: ...

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        return ActionChunk(np.array([[[0.0, 0.0, 0.0, 0.0]]], dtype=np.float32), 1)


def lifting(*words: str) -> tuple[Any, Handover]:
    config = compose("session", ["task=lift", "teleop=scripted_human", "demos=none", *words])
    return instantiate(config.env), instantiate(config.teleop)


def test_a_simulated_panda_is_taken_over_without_a_bump_and_the_cube_is_lifted() -> None:
    env, human = lifting("teleop.device.patience_s=0.5", "teleop.device.most_s=1.0")
    tape = Tape()
    end = run_episode(env, Idle(env.spec), [tape], seed=3, human=human)
    env.close()
    assert end.reason == "success"
    rows = tape.rows
    source = np.array([row.action.source for row in rows])
    commanded = np.array([row.action.human is not None for row in rows])
    assert human.steps == commanded.sum() > 20
    assert (source[commanded] == Phase.HUMAN).all()
    assert all(row.action.valid for row in rows if row.action.human is not None)
    gaps = (source == Phase.HUMAN) & ~commanded  # held between letting go and hand-back
    assert gaps.any() and not any(row.action.valid for row in np.array(rows)[gaps])
    for row in rows:
        asked = row.action.human if row.action.human is not None else row.action.policy
        if row.action.valid and row.action.source is not Phase.HOLD:
            np.testing.assert_allclose(row.action.commanded, asked, atol=1e-6)
    velocity = np.array([row.observation.state["arm0/tcp_velocity"][:3] for row in rows])
    change = np.linalg.norm(np.diff(velocity, axis=0), axis=1)
    edges = np.flatnonzero(np.diff(source) != 0)
    assert len(edges) >= 3  # taken over, handed back, taken over
    assert change[edges].max() < 1.2 * np.delete(change, edges).max()  # no more than while one of them commands


def test_an_episode_is_its_seeds_alone() -> None:
    env, human = lifting("teleop.device.patience_s=0.5", "env.max_steps=40")

    def poses(seed: int) -> Array:
        tape = Tape()
        run_episode(env, Idle(env.spec), [tape], seed=seed, human=human)
        return np.array([row.observation.state["arm0/tcp_pose"] for row in tape.rows])

    first = poses(5)
    poses(6)
    np.testing.assert_array_equal(poses(5), first)
    env.close()
