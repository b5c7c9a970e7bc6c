"""Environments of gymnasium: names, limits and ends; parity with the environment itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import RescaleAction

from robot_rl.errors import ConfigError
from robot_rl.runtime.frame_codec import decode
from robot_rl.runtime.replay import Restoring
from robot_rl.runtime.video import Rendering
from robot_rl.types import ActionKind
from sim.gymnasium_env import gymnasium_env
from sim.gymnasium_spaces import ActionVector


class Odd(gymnasium.Env[Any, Any]):
    """Nested observations, an image, an action of two axes; ends by itself at a sum of 2, or of -2 by truncation."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": [], "render_fps": 5}
    observation_space = spaces.Dict(
        {
            "arm": spaces.Dict({"q": spaces.Box(-9, 9, (2, 2)), "count": spaces.Box(0, 9, (), np.float64)}),
            "eye": spaces.Box(0, 255, (6, 4, 3), np.uint8),
        }
    )
    action_space = spaces.Box(-1, 1, (2, 1), np.float64)

    def __init__(self, action_space: spaces.Space[Any] | None = None, told: str = "is_success") -> None:
        self.action_space, self._told = action_space or self.action_space, told

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._sum = np.zeros((2, 1))
        self._start = self.np_random.uniform()
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action in self.action_space
        self._sum = self._sum + action
        total = float(self._sum.sum())
        return self._observation(), total, total >= 2, total <= -2, {self._told: np.bool_(total >= 2)}

    def _observation(self) -> dict[str, Any]:
        q = np.array([[self._start, 1], self._sum[:, 0]], np.float32)
        return {"arm": {"q": q, "count": np.array(3.0)}, "eye": np.full((6, 4, 3), 90, np.uint8)}


@pytest.fixture
def registered() -> Iterator[Callable[..., str]]:
    """Registers an environment under an id of its own; returns that."""
    ids: list[str] = []

    def register(creator: Callable[..., gymnasium.Env[Any, Any]], max_episode_steps: int | None = 7) -> str:
        ids.append(f"robot_rl_test/Odd{len(ids)}-v3")
        gymnasium.register(ids[-1], entry_point=creator, max_episode_steps=max_episode_steps)
        return ids[-1]

    yield register
    for name in ids:
        gymnasium.registry.pop(name)


def test_boxes_become_vectors_images_cameras_and_the_action_one_raw_part(registered: Callable[..., str]) -> None:
    env = gymnasium_env(registered(Odd))
    spec = env.spec
    assert (spec.task, spec.step_rate_hz, env.max_steps) == ("Odd0-v3", 5.0, 7)
    assert {name: array.shape for name, array in spec.observation.items()} == {"arm/q": (4,), "arm/count": (1,)}
    assert (spec.cameras["eye"].height, spec.cameras["eye"].width) == (6, 4)
    assert [(part.name, part.kind, part.low, part.high) for part in spec.action.parts] == [
        ("action", ActionKind.RAW, (-1.0, -1.0), (1.0, 1.0))
    ]
    first = env.reset(3)
    assert abs(int(decode(first.frames["eye"]).mean()) - 90) <= 2
    result = env.step(env.anchor(np.array([[0.25, -0.5]]), first))
    np.testing.assert_array_equal(result.observation.state["arm/q"][1:], [1.0, 0.25, -0.5])
    assert result.reward == -0.25
    assert not isinstance(env, Rendering | Restoring)  # it has no render mode


def test_ends_keep_their_kind_and_the_time_limit_is_counted_once(registered: Callable[..., str]) -> None:
    env = gymnasium_env(registered(Odd))
    up, down, still = np.ones((1, 2)), -np.ones((1, 2)), np.zeros((7, 2))
    result = env.step(env.anchor(up, env.reset(0)))
    assert (result.terminated, result.truncated, result.success) == (True, False, True)
    result = env.step(env.anchor(down, env.reset(0)))
    assert (result.terminated, result.truncated, result.success) == (False, True, False)
    plan = env.anchor(still, env.reset(0))
    assert [env.step(plan).truncated for _ in range(7)] == [False] * 6 + [True]
    longer = gymnasium_env(registered(Odd), max_steps=9)  # than it is registered with
    longer.reset(0)
    assert [longer.step(longer.hold()).truncated for _ in range(9)] == [False] * 8 + [True]


def test_success_is_what_the_info_or_the_reward_tells(registered: Callable[..., str]) -> None:
    for options, wanted in (
        ({"options": {"told": "success"}}, True),
        ({"options": {"told": "other"}}, False),
        ({"options": {"told": "other"}, "success_reward": 2.0}, True),
    ):
        env = gymnasium_env(registered(Odd), **options)
        assert env.step(env.anchor(np.ones((1, 2)), env.reset(0))).success is wanted


def test_pendulum_gives_gymnasiums_own_numbers() -> None:
    env, reference = gymnasium_env("Pendulum-v1", max_steps=50), gymnasium.make("Pendulum-v1")
    assert (env.spec.step_rate_hz, gymnasium_env("Pendulum-v1").max_steps) == (20.0, 200)
    actions = np.random.default_rng(0).uniform(-2, 2, (50, 1))
    plan = env.anchor(actions, env.reset(11))
    reference.reset(seed=11)
    for action in actions:
        result = env.step(plan)
        observation, reward, *_ = reference.step(action.astype(np.float32))
        np.testing.assert_array_equal(result.observation.state["state"], observation)
        assert result.reward == float(reward)
    assert isinstance(env, Rendering)
    assert env.render().dtype == np.uint8
    env.close()
    reference.close()


def test_wrappers_go_around_in_order() -> None:
    def halved(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
        return RescaleAction(env, np.float32(-0.5), np.float32(0.5))

    env = gymnasium_env("Pendulum-v1", wrappers=[halved])
    assert (env.spec.action.low[0], env.spec.action.high[0]) == (-0.5, 0.5)
    plain = gymnasium_env("Pendulum-v1")
    scaled = env.step(env.anchor(np.array([[0.25]]), env.reset(1))).observation.state["state"]
    np.testing.assert_allclose(
        scaled, plain.step(plain.anchor(np.array([[1.0]]), plain.reset(1))).observation.state["state"], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("space", "low", "vector", "action"),
    [
        (spaces.Discrete(3), 0.0, [0.2, 0.9, 0.4], 1),
        (spaces.Discrete(3, start=5), 0.0, [0.0, 0.0, 0.0], 5),
        (spaces.MultiDiscrete([2, 3]), 0.0, [0.1, 0.2, 0.3, 0.9, 0.8], [1, 1]),
        (spaces.MultiBinary(3), 0.0, [0.9, 0.5, 0.1], [1, 0, 0]),
        (spaces.Box(-2.0, 1.0, (1, 2)), -2.0, [-3.0, 0.5], [[-2.0, 0.5]]),
    ],
)
def test_choices_are_the_highest_scores(space: Any, low: float, vector: list[float], action: Any) -> None:
    made = ActionVector(space)
    part = made.part("action")
    assert (part.kind, part.low, part.high) == (ActionKind.RAW, (low,) * len(vector), (1.0,) * len(vector))
    chosen = made.action(np.array(vector))
    np.testing.assert_array_equal(chosen, action)
    assert chosen in space


def test_cart_pole_is_pushed_by_the_higher_score() -> None:
    env, reference = gymnasium_env("CartPole-v1", max_steps=20), gymnasium.make("CartPole-v1")
    assert (env.spec.action.size, env.spec.observation["state"].shape) == (2, (4,))
    first = env.reset(0)
    reference.reset(seed=0)
    scores = np.random.default_rng(0).uniform(0, 1, (10, 2))
    plan = env.anchor(scores, first)
    for row in scores:
        expected, reward, terminated, *_ = reference.step(int(row.argmax()))
        result = env.step(plan)
        np.testing.assert_array_equal(result.observation.state["state"], expected)
        assert (result.reward, result.terminated) == (reward, terminated)
    env.close()
    reference.close()


def test_choices_that_are_observed_are_one_hot(registered: Callable[..., str]) -> None:
    env = gymnasium_env("FrozenLake-v1", max_steps=3, step_rate_hz=1.0, options={"is_slippery": False})
    np.testing.assert_array_equal(env.reset(0).state["state"], np.eye(16)[0])
    right = env.step(env.anchor(np.eye(4)[[2]], env.reset(0)))
    np.testing.assert_array_equal(right.observation.state["state"], np.eye(16)[1])
    env.close()

    class Pair(Odd):
        observation_space: spaces.Space[Any] = spaces.Tuple((spaces.Discrete(2), spaces.MultiBinary(2)))

        def _observation(self) -> Any:
            return 1, np.array([1, 0], np.int8)

    seen = gymnasium_env(registered(Pair)).reset(0).state
    assert {name: value.tolist() for name, value in seen.items()} == {"0": [0.0, 1.0], "1": [1.0, 0.0]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"id": "Pendulm-v1"}, "Did you mean: `Pendulum`"),
        ({"id": "Pendulum-v1", "options": {"gravty": 1}}, "gravty"),
        ({"id": "Pendulum-v1", "max_steps": -3}, "max_steps=-3"),
    ],
)
def test_mistakes_are_named(given: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        gymnasium_env(**given)


def test_spaces_without_limits_and_environments_without_time_are_refused(registered: Callable[..., str]) -> None:
    with pytest.raises(ConfigError, match=r"the action is Text.*TransformAction"):
        gymnasium_env(registered(Odd), options={"action_space": spaces.Text(3)})
    with pytest.raises(ConfigError, match="no limits"):
        gymnasium_env(registered(Odd), options={"action_space": spaces.Box(-np.inf, np.inf, (2, 1))})
    with pytest.raises(ConfigError, match="without a time limit"):
        gymnasium_env(registered(Odd, None))

    class Timeless(Odd):
        metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    with pytest.raises(ConfigError, match="step_rate_hz"):
        gymnasium_env(registered(Timeless))
    assert gymnasium_env(registered(Timeless), step_rate_hz=3.0).spec.step_rate_hz == 3.0
