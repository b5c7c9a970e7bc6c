"""Any gymnasium environment behind the Env contract."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # asked by environments that draw with pygame
if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # else it looks for a screen, and complains
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator

from robot_rl.errors import ConfigError, RobotError
from robot_rl.types import ActionSpec, Array, Arrays, EnvSpec
from sim.adapted_env import AdaptedEnv, Outcome, Seen
from sim.gymnasium_spaces import ActionVector, camera, is_image, leaves, values, vector

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
    if "mujoco" in sys.modules:  # the environment's physics, or that of another one
        from sim.mujoco_library import log_warnings

        log_warnings()
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

    An observation is ``state``, a Dict or Tuple one array per entry, nested ones joined by ``/``, choices one-hot;
    images (uint8, [h, w, 1 or 3]) are cameras. The action is one raw part, of choices a score each (ActionVector).
    Success is what ``info`` says under ``is_success`` or ``success``, or a reward of at least ``success_reward``.
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
            self._action = ActionVector(env.action_space)
            parts = list(leaves(env.observation_space))
            images = {name or CAMERA: space for name, space in parts if is_image(space)}
            self._vectors = {name or STATE: space for name, space in parts if not is_image(space)}
            rate_hz = step_rate_hz or _rate_hz(env)
            self._spec = EnvSpec(
                robot="gymnasium",
                task=task,
                step_rate_hz=rate_hz,
                observation={name: vector(name, space) for name, space in self._vectors.items()},
                action=ActionSpec((self._action.part(ACTION),)),
                cameras={name: camera(space, rate_hz) for name, space in images.items()},
                arm_parts=(),
            )
        except BaseException:  # whatever it was, an interrupt too: nothing stays open
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
        action = self._action.action(targets[ACTION])
        observation, reward, terminated, truncated, info = self._env.step(action)
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
        found = dict(values(observation))
        images = {name: np.asarray(found[name if name in found else ""]) for name in self._spec.cameras}
        state = {
            name: np.asarray(spaces.flatten(space, found[name if name in found else ""]))
            for name, space in self._vectors.items()
        }
        return Seen(state, images)


def _drawing(registered: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with off-screen drawing where the environment offers it."""
    entry = registered.entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    modes = getattr(creator, "metadata", {}).get("render_modes", ())
    return {**({"render_mode": "rgb_array"} if "rgb_array" in modes else {}), **options}


def _rate_hz(env: gymnasium.Env) -> float:
    """Control steps per simulated second: by the environment's ``dt``, else the frame rate that it is drawn at."""
    dt = getattr(env.unwrapped, "dt", None)
    rate = 1.0 / float(dt) if dt else env.metadata.get("render_fps")
    if not rate:
        raise ConfigError("the environment does not tell its time step", remedy="Give it: env.step_rate_hz=...")
    return float(rate)
