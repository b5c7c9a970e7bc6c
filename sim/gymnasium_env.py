"""Any gymnasium environment with a Box action behind the Env contract."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # asked by environments that draw with pygame
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator

from robot_rl.errors import ConfigError, RobotError
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, Arrays, ArraySpec, CameraSpec, EnvSpec
from sim.adapted_env import AdaptedEnv, Outcome, Seen

ACTION = "action"
STATE, CAMERA = "state", "camera"  # what a Box observation is called: it has no name
_SUCCESS_KEYS = ("is_success", "success")


def gymnasium_env(
    id: str,
    max_steps: int | None = None,
    step_rate_hz: float | None = None,
    options: Mapping[str, Any] | None = None,
    wrappers: Sequence[Callable[[gymnasium.Env], gymnasium.Env]] = (),
    success_reward: float | None = None,
    side_by_side: int = 50,
) -> AdaptedEnv:
    """Env of the registered environment ``id``; ``options`` go to its constructor, ``wrappers`` around it in order.

    ``max_steps`` and ``step_rate_hz`` default to its registered time limit and to what it tells of its time step.
    ``success_reward`` is for environments that tell no success: a step with at least this reward is one.
    Raises ConfigError for an unknown id, missing packages, or spaces that have no place in the contract.
    """
    try:
        registered = gymnasium.spec(id)
        # the one time limit is that of AdaptedEnv; a TimeLimit inside would truncate a second time
        made = gymnasium.make(id, max_episode_steps=-1, disable_env_checker=True, **_drawing(registered, options or {}))
    except (gymnasium.error.Error, ImportError, TypeError) as error:
        raise ConfigError(
            f"cannot make '{id}': {error}", remedy="Check env.id, env.options and what it needs"
        ) from error
    for wrap in wrappers:
        made = wrap(made)
    limit = max_steps or registered.max_episode_steps
    if limit is None:
        made.close()
        raise ConfigError(f"'{id}' is registered without a time limit", remedy="Give one: env.max_steps=...")
    simulator = Gymnasium(made, id.rpartition("/")[2], step_rate_hz, success_reward)
    return AdaptedEnv(simulator, limit, side_by_side)


class Gymnasium:
    """Simulator over an environment object, which it owns.

    A Box observation is ``state``, a Dict one array per entry, nested ones joined by ``/``; images (uint8, [h, w, 1 or
    3]) are cameras. The action is one raw part. Success is what ``info`` says under ``is_success`` or ``success``, or
    a reward of at least ``success_reward``.
    """

    def __init__(
        self,
        env: gymnasium.Env,
        task: str,
        step_rate_hz: float | None = None,
        success_reward: float | None = None,
    ) -> None:
        """Raises ConfigError for spaces without a place in the contract; ``env`` is closed then."""
        self._env, self._success_reward = env, success_reward
        try:
            self._box = _action_box(env.action_space)
            leaves = list(_leaves(env.observation_space))
            images = {name or CAMERA: space for name, space in leaves if _is_image(space)}
            vectors = {name or STATE: space for name, space in leaves if not _is_image(space)}
            rate_hz = step_rate_hz or _rate_hz(env)
            self._spec = EnvSpec(
                robot="gymnasium",
                task=task,
                step_rate_hz=rate_hz,
                observation={name: _vector(name, space) for name, space in vectors.items()},
                action=ActionSpec((_raw(self._box),)),
                cameras={name: _camera(box, rate_hz) for name, box in images.items()},
                arm_parts=(),
            )
        except BaseException:
            env.close()
            raise
        if env.render_mode == "rgb_array":
            self.render = self._render  # listeners look for the method

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Seen:
        """Reset with ``seed``, which gymnasium's environments must make reproducible."""
        observation, _ = self._env.reset(seed=seed)
        return self._seen(observation)

    def step(self, targets: Arrays) -> Outcome:
        """One step of the environment; its own truncation, if any, stays one."""
        box = self._box
        action = targets[ACTION].reshape(box.shape).astype(box.dtype)
        observation, reward, terminated, truncated, info = self._env.step(np.clip(action, box.low, box.high))
        told = any(bool(info.get(key, False)) for key in _SUCCESS_KEYS)
        success = told or (self._success_reward is not None and float(reward) >= self._success_reward)
        return Outcome(self._seen(observation), float(reward), success, bool(terminated), bool(truncated))

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _render(self) -> Array:
        """RGB [h, w, 3] uint8."""
        image = self._env.render()
        if not isinstance(image, np.ndarray):
            raise RobotError(f"{self._spec.task} gave no image", remedy="Its render mode must be rgb_array")
        return image

    def _seen(self, observation: Any) -> Seen:
        values = dict(_values(observation))
        images = {name: values[name if name in values else ""] for name in self._spec.cameras}
        state = {name: values[name if name in values else ""] for name in self._spec.observation}
        return Seen(state, images)


def _drawing(registered: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with off-screen drawing where the environment offers it."""
    entry = registered.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    modes = getattr(creator, "metadata", {}).get("render_modes", ())
    return {**({"render_mode": "rgb_array"} if "rgb_array" in modes else {}), **options}


def _leaves(space: spaces.Space, path: str = "") -> Iterator[tuple[str, spaces.Box]]:
    if isinstance(space, spaces.Dict):
        for key, child in space.items():
            yield from _leaves(child, f"{path}/{key}" if path else str(key))
    elif isinstance(space, spaces.Box):
        yield path, space
    else:
        raise ConfigError(
            f"observation '{path or STATE}' is a {type(space).__name__}",
            limit="Box, or Dict of Boxes",
            remedy="Turn it into one with gymnasium.wrappers.TransformObservation in env.wrappers",
        )


def _values(observation: Any, path: str = "") -> Iterator[tuple[str, Array]]:
    if isinstance(observation, Mapping):
        for key, child in observation.items():
            yield from _values(child, f"{path}/{key}" if path else str(key))
    else:
        yield path, np.asarray(observation)


def _is_image(box: spaces.Box) -> bool:
    return box.dtype == np.uint8 and len(box.shape) == 3 and box.shape[2] in (1, 3)


def _camera(box: spaces.Box, rate_hz: float) -> CameraSpec:
    height, width, channels = box.shape
    return CameraSpec(height, width, rate_hz, channels)


def _vector(name: str, box: spaces.Box) -> ArraySpec:
    if not np.prod(box.shape, dtype=int):
        raise ConfigError(f"observation '{name}' of shape {list(box.shape)} is empty")
    return ArraySpec((int(np.prod(box.shape, dtype=int)),))


def _action_box(space: spaces.Space) -> spaces.Box:
    if not isinstance(space, spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise ConfigError(
            f"the action is {space}",
            limit="a Box of floating-point numbers",
            remedy="Map it to one with gymnasium.wrappers.TransformAction in env.wrappers",
        )
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise ConfigError(
            f"the action has no limits: {space}",
            limit="finite bounds",
            remedy="Bound it with gymnasium.wrappers.RescaleAction or TransformAction in env.wrappers",
        )
    return space


def _raw(box: spaces.Box) -> ActionPart:
    return ActionPart(ACTION, ActionKind.RAW, tuple(box.low.reshape(-1).tolist()), tuple(box.high.reshape(-1).tolist()))


def _rate_hz(env: gymnasium.Env) -> float:
    """Control steps per simulated second: by the environment's ``dt``, else the frame rate that it is drawn at."""
    dt = getattr(env.unwrapped, "dt", None)
    rate = 1.0 / float(dt) if dt else env.metadata.get("render_fps")
    if not rate:
        raise ConfigError("the environment does not tell its time step", remedy="Give it: env.step_rate_hz=...")
    return float(rate)
