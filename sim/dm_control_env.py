"""The tasks of dm_control, control suite and manipulation, behind the Env contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dm_env
import numpy as np
from dm_control import manipulation, suite
from dm_control.composer import EpisodeInitializationError
from dm_control.rl.control import PhysicsError
from dm_env import specs

from robot_rl.errors import ConfigError, ResetError, SimulationDivergedError, valid_choices
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, Arrays, ArraySpec, EnvSpec
from sim.adapted_env import AdaptedEnv, Outcome, Seen
from sim.model_cameras import ModelCameras

ACTION = "action"
MANIPULATION = "manipulation"
_VIDEO_PX = 320
# Units of the manipulation tasks' observations, by the end of their names; the suite's tell none.
_UNITS = {
    "joints_vel": "rad/s",
    "joints_torque": "N m",
    "pinch_site_pos": "m",
    "linear_velocity": "m/s",
    "angular_velocity": "rad/s",
    "orientation": "quat_wxyz",
    "position": "m",
}


def dm_control_env(
    domain: str,
    task: str,
    max_steps: int,
    success_reward: float | None = None,
    cameras: Mapping[str, str] | None = None,
    image_size_px: int = 84,
    side_by_side: int = 50,
) -> AdaptedEnv:
    """Env of ``task`` of a ``domain`` of the suite, or of the domain ``manipulation``.

    Reward is the task's own, in [0, 1] per step; dm_control knows no success, so a step counts as one when its reward
    reaches ``success_reward`` (null: never). ``cameras`` are {our name: the model's name}. The suite's time limits are
    lifted, the manipulation tasks keep theirs of 10 s (250 steps), which truncates.
    Raises ConfigError naming the nearest domain or task.
    """
    environment = _load(domain, task)
    try:
        simulator = DmControl(environment, f"dm_{domain}_{task}", success_reward, cameras or {}, image_size_px)
    except BaseException:  # whatever it was, an interrupt too: nothing stays open
        environment.close()
        raise
    return AdaptedEnv(simulator, max_steps, side_by_side)


class DmControl:
    """Simulator over an environment of dm_control, which it owns. Observations keep their names, the action is raw."""

    def __init__(
        self,
        environment: Any,
        task: str,
        success_reward: float | None = None,
        cameras: Mapping[str, str] | None = None,
        image_size_px: int = 84,
    ) -> None:
        self._environment, self._success_reward = environment, success_reward
        self._cameras = ModelCameras(cameras or {}, image_size_px)
        self._film = ModelCameras({}, _VIDEO_PX)
        with _reported_divergence(task):
            environment.reset()  # composer's tasks have no compiled model before
        self._cameras.check(self._model)
        rate_hz = 1.0 / environment.control_timestep()
        self._spec = EnvSpec(
            robot="dm_control",
            task=task,
            step_rate_hz=round(rate_hz, 9),
            observation={name: _vector(name, spec) for name, spec in environment.observation_spec().items()},
            action=ActionSpec((_raw(environment.action_spec()),)),
            cameras=self._cameras.specs(rate_hz),
            arm_parts=(),
        )

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Seen:
        """Start from the random state of ``seed``. Raises ResetError where the task finds no start."""
        self._random.seed(seed % 2**32)
        try:
            with _reported_divergence(self._spec.task):
                return self._seen(self._environment.reset())
        except EpisodeInitializationError as error:
            raise ResetError(
                f"{self._spec.task} finds no start for seed {seed}: {error}", remedy="Take another seed"
            ) from error

    def step(self, targets: Arrays) -> Outcome:
        """One control step. An end with discount 0 is the task's own, any other a time limit."""
        with _reported_divergence(self._spec.task):
            now: dm_env.TimeStep = self._environment.step(targets[ACTION])
        reward = float(now.reward or 0.0)
        success = self._success_reward is not None and reward >= self._success_reward
        terminated = now.last() and now.discount == 0.0
        return Outcome(self._seen(now), reward, success, terminated, truncated=now.last() and not terminated)

    def render(self) -> Array:
        """RGB uint8 [320, 320, 3] from the model's first camera."""
        return self._film.image(self._model, self._data, self._model.camera(0).name)

    def close(self) -> None:
        """Release renderers and physics."""
        self._cameras.close()
        self._film.close()
        self._environment.close()

    @property
    def _random(self) -> np.random.RandomState:
        if hasattr(self._environment, "random_state"):  # composer
            return self._environment.random_state
        return self._environment.task.random

    @property
    def _model(self) -> Any:
        return self._environment.physics.model.ptr

    @property
    def _data(self) -> Any:
        return self._environment.physics.data.ptr

    def _seen(self, now: dm_env.TimeStep) -> Seen:
        images = self._cameras.images(self._model, self._data)
        return Seen({name: np.asarray(value) for name, value in now.observation.items()}, images)


def _load(domain: str, task: str) -> Any:
    if domain == MANIPULATION:
        if task not in manipulation.ALL:
            raise ConfigError(f"manipulation has no task '{task}'", remedy=valid_choices(task, manipulation.ALL))
        return manipulation.load(task, seed=0)
    if domain not in suite.TASKS_BY_DOMAIN:
        known = [*suite.TASKS_BY_DOMAIN, MANIPULATION]
        raise ConfigError(f"dm_control has no domain '{domain}'", remedy=valid_choices(domain, known))
    known = suite.TASKS_BY_DOMAIN[domain]
    if task not in known:
        raise ConfigError(f"domain '{domain}' has no task '{task}'", remedy=valid_choices(task, known))
    # some models are drawn at construction: the same one in every process
    return suite.load(domain, task, task_kwargs={"time_limit": float("inf"), "random": 0})


@contextmanager
def _reported_divergence(task: str) -> Iterator[None]:
    try:
        yield
    except PhysicsError as error:
        raise SimulationDivergedError(
            f"{task}: {error}", remedy="Reset it; smaller actions may keep it stable"
        ) from error


def _vector(name: str, spec: specs.Array) -> ArraySpec:
    if np.dtype(spec.dtype) == np.uint8:
        raise ConfigError(
            f"observation '{name}' is an image", remedy="Choose the _features task and name cameras: env.cameras"
        )
    unit = next((unit for end, unit in _UNITS.items() if "/" in name and name.endswith(f"/{end}")), "")
    return ArraySpec((max(1, int(np.prod(spec.shape, dtype=int))),), unit=unit)


def _raw(spec: specs.BoundedArray) -> ActionPart:
    low, high = (np.broadcast_to(bound, spec.shape) for bound in (spec.minimum, spec.maximum))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ConfigError(f"the action has no limits: {spec}", limit="finite bounds")
    return ActionPart(ACTION, ActionKind.RAW, tuple(low.tolist()), tuple(high.tolist()))
