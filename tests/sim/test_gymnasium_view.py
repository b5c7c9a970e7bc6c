"""Every task of ours as a gymnasium.Env: gymnasium's own checker, and that it is the same env."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RescaleAction

from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.types import DEPTH_CODEC, CameraSpec
from sim.adapted_env import AdaptedEnv
from sim.gymnasium_view import GymnasiumView
from tests.contracts.options import build_env, options
from tests.sim.test_adapted_env import RAW, Counter, Full

ID = "robot_rl_test/View-v0"
# What the checker advises against, and why it stays so
EXPECTED = (
    "A Box observation space m.* value is -?infinity",  # measurements have no limits
    "we recommend using a symmetric and normalized space",  # actions are in physical units; RescaleAction turns them
)


def settings(task: str) -> list[str]:
    """Short episodes, and nothing compiled twice."""
    return ["env.max_steps=12", *(["env.hard_reset=false"] if task.startswith("robosuite") else [])]


@pytest.fixture
def registered() -> Iterator[Any]:
    """Registers a creator of envs under ``ID``, as the checker wants to make more of them."""

    def register(creator: Any) -> None:
        gymnasium.register(ID, entry_point=creator)

    yield register
    gymnasium.registry.pop(ID, None)


@pytest.mark.parametrize("task", options("task"))
def test_gymnasiums_checker_passes(task: str, registered: Any) -> None:
    """With all its checks but drawing, which the cameras' tests cover; any other warning is an error."""
    registered(lambda render_mode=None: GymnasiumView(build_env(task, *settings(task)), render_mode))
    made = gymnasium.make(ID, disable_env_checker=True)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            check_env(made.unwrapped, skip_render_check=True)
    finally:
        made.close()
    said = [str(warning.message) for warning in heard]
    assert [text for text in said if not any(re.search(pattern, text) for pattern in EXPECTED)] == []


def test_images_are_bytes_and_depth_is_millimetres() -> None:
    simulator = Counter(RAW)
    cameras = {"eye": CameraSpec(8, 6, 10.0), "far": CameraSpec(8, 6, 10.0, 1, codec=DEPTH_CODEC)}
    simulator.spec = replace(simulator.spec, cameras=cameras)
    space = GymnasiumView(AdaptedEnv(simulator, 5)).observation_space
    assert space["images/eye"] == gymnasium.spaces.Box(0, 255, (8, 6, 3), np.uint8)
    assert space["images/far"] == gymnasium.spaces.Box(0, 65535, (8, 6, 1), np.uint16)


def test_the_checker_passes_with_drawing_and_images(registered: Any) -> None:
    registered(lambda render_mode=None: GymnasiumView(build_env("pusht", "env.image_size_px=32"), render_mode))
    made = gymnasium.make(ID, disable_env_checker=True, render_mode="rgb_array")
    with warnings.catch_warnings():
        for pattern in EXPECTED:
            warnings.filterwarnings("ignore", f".*{pattern}")
        check_env(made.unwrapped)
    observation, _ = made.reset(seed=1)
    assert observation["images/board"].shape == (32, 32, 3)
    assert made.render().shape == (512, 512, 3)  # type: ignore[union-attr]
    made.close()


def test_it_is_the_env_itself() -> None:
    env, view = build_env("pusht"), GymnasiumView(build_env("pusht"))
    first = env.reset(7)
    seen, info = view.reset(seed=7)
    assert info == {"seed": 7}
    for action in ([100.0, 200.0], [300.0, 900.0]):
        result = env.step(env.anchor(np.array([action]), first))
        first = result.observation
        seen, reward, terminated, truncated, info = view.step(np.array(action, np.float32))
        for name, value in first.state.items():
            np.testing.assert_array_equal(seen[name], value)
        assert (reward, terminated, truncated) == (result.reward, result.terminated, result.truncated)
        assert info["is_success"] is result.success
        assert info["coverage"] == result.info["coverage"]
    np.testing.assert_array_equal(info["commanded"], [300.0, 512.0])  # clipped to the board


def test_an_end_keeps_its_kind() -> None:
    success, limit = (GymnasiumView(AdaptedEnv(Counter(RAW), steps)) for steps in (9, 2))
    for view, wanted in ((success, (True, False)), (limit, (False, True))):
        view.reset(seed=0)
        ends = [(False, False)]
        while not any(ends[-1]):
            *_, terminated, truncated, _ = view.step(np.array([1.0, 0.5], np.float32))
            ends.append((terminated, truncated))
        assert ends[-1] == wanted
        with pytest.raises(RobotRlError, match="has ended"):
            view.step(np.array([1.0, 0.5], np.float32))


def test_resets_without_a_seed_go_on_from_the_last_one() -> None:
    one, other = (GymnasiumView(AdaptedEnv(Counter(RAW), 5)) for _ in range(2))
    one.reset(seed=3)
    other.reset(seed=3)
    drawn = [[view.reset()[1]["seed"] for _ in range(3)] for view in (one, other)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 3


def test_a_learner_gets_normalised_actions_by_gymnasiums_wrapper() -> None:
    view = RescaleAction(GymnasiumView(AdaptedEnv(Counter(RAW), 5)), np.float32(-1), np.float32(1))
    view.reset(seed=0)
    *_, info = view.step(np.array([0.5, 0.0], np.float32))
    np.testing.assert_allclose(info["commanded"], [0.5, 1.25])


def test_render_modes_are_those_the_env_offers() -> None:
    assert GymnasiumView(AdaptedEnv(Full(RAW), 5), "rgb_array").render() is not None
    assert GymnasiumView(AdaptedEnv(Full(RAW), 5)).render() is None
    for env, mode in ((AdaptedEnv(Counter(RAW), 5), "rgb_array"), (AdaptedEnv(Full(RAW), 5), "human")):
        with pytest.raises(ConfigError, match=f"no render mode '{mode}'"):
            GymnasiumView(env, mode)


def test_a_step_before_the_first_reset_is_gymnasiums_error() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        GymnasiumView(AdaptedEnv(Counter(RAW), 5)).step(np.zeros(2, np.float32))
