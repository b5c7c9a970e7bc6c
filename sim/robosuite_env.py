"""robosuite's benchmark tasks behind the Env contract.

Observations and action are those of imported demonstrations, so that a policy trained on human ones runs here: the
layout ``named`` is what format=robosuite_demos writes, the others what format=robomimic reads, of robosuite up to 1.4
and since 1.5.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from robot_rl.data.formats.robosuite_names import robot_of, task_of
from robot_rl.data.formats.robosuite_view import RobosuiteView, quiet_robosuite, view_spec
from robot_rl.errors import ConfigError, ResetError, SimulationDivergedError, valid_choices
from robot_rl.geometry import pose_multiply
from robot_rl.types import ActionSpec, Array, Arrays, EnvSpec
from sim.adapted_env import AdaptedEnv, Outcome, Seen
from sim.model_cameras import ModelCameras
from sim.mujoco_library import log_warnings
from sim.robomimic_layout import LAYOUTS, RobomimicLayout
from sim.robosuite_action import check_action, controller_action

REWARDS = ("sparse", "dense")
_COLLISION_GROUP = 0
_VIDEO_PX, _VIDEO_CAMERA = 320, "agentview"
_DIVERGED = [getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}") for what in ("QPOS", "QVEL", "QACC")]  # type: ignore[attr-defined]
_GLOBAL_DRAWS = threading.Lock()  # robosuite draws from numpy's global generator


def robosuite_env(
    name: str,
    action: ActionSpec,
    max_steps: int,
    robots: str | Sequence[str] = "Panda",
    layout: str = "named",
    reward: str = "sparse",
    control_rate_hz: float = 20.0,
    cameras: Mapping[str, str] | None = None,
    image_size_px: int = 128,
    hard_reset: bool = True,
    options: Mapping[str, Any] | None = None,
    side_by_side: int = 8,
) -> AdaptedEnv:
    """Env of robosuite's environment ``name`` (Lift, Door, ...).

    ``reward`` is 0/1 success or robosuite's dense one; the first success ends the episode either way. ``cameras`` are
    {our name: robosuite's}. ``hard_reset`` compiles the model at every reset, as robosuite does by default, because
    sizes are drawn with it. ``options`` are further arguments of the environment. One takes about 110 MB, and 250 more
    once it draws in software.
    Raises ConfigError for names that robosuite does not know and for an action that cannot drive it.
    """
    for given, known in ((layout, ("named", *LAYOUTS)), (reward, REWARDS)):
        if given not in known:
            raise ConfigError(f"'{given}' is no choice", remedy=valid_choices(given, known))
    arms = [robots] if isinstance(robots, str) else list(robots)
    more = {**(options or {}), "control_freq": control_rate_hz, "reward_shaping": reward == "dense"}
    env = _made(name, arms, more)
    try:
        simulator = Robosuite(
            env, name, arms, action, layout, ModelCameras(cameras or {}, image_size_px, [_COLLISION_GROUP])
        )
    except BaseException:  # whatever it was, an interrupt too: nothing stays open
        env.close()
        raise
    env.hard_reset = hard_reset  # not before the first reset, which draws the model from a seed
    return AdaptedEnv(simulator, max_steps, side_by_side)


class Robosuite:
    """Simulator over an environment of robosuite, which it owns."""

    def __init__(
        self, env: Any, name: str, robots: Sequence[str], action: ActionSpec, layout: str, cameras: ModelCameras
    ) -> None:
        self._env, self._name, self._cameras = env, name, cameras
        self._film = ModelCameras({}, _VIDEO_PX, [_COLLISION_GROUP])
        self._view = RobosuiteView(env)
        self._layout = RobomimicLayout(env, name, layout) if layout in LAYOUTS else None
        check_action(env, action)
        cameras.check(self._model)
        self._last = self._reset(0)
        rate_hz = float(env.control_freq)
        self._spec = EnvSpec(
            robot=robot_of(robots),
            task=task_of(name),
            step_rate_hz=rate_hz,
            observation=self._layout.specs(self._last)
            if self._layout
            else {key: view_spec(key, value, len(robots)) for key, value in self._view.observe(self._last).items()},
            action=action,
            cameras=cameras.specs(rate_hz),
            arm_parts=tuple(f"arm{i}" for i in range(len(robots))),
        )

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Seen:
        """robosuite's own random start, drawn from ``seed`` alone. Raises ResetError where it finds none."""
        self._last = self._reset(seed)
        return self._seen()

    def step(self, targets: Arrays) -> Outcome:
        """One control step (25 of physics at 20 Hz). Raises SimulationDivergedError."""
        vector = controller_action(self._env, self._view, self._last, targets)
        _, reward, _, _ = self._env.step(np.asarray(vector, dtype=np.float64))
        if any(self._data.warning[kind].number for kind in _DIVERGED):
            raise SimulationDivergedError(
                f"{self._spec.task}: MuJoCo reports values that are not finite", remedy="Reset it"
            )
        self._last = self._present()
        success = bool(self._env._check_success())
        reward = float(reward) if self._env.reward_shaping else float(success)
        return Outcome(self._seen(), reward, success, terminated=success)

    def restore(self, state: Arrays) -> Seen:
        """Start where the named observations ``state`` were made: joints, fingers and free objects, at rest.

        Raises ResetError for an environment whose observations do not tell its whole state (Door), or another layout.
        """
        joints = {body.name: body.joints for body in self._env.model.mujoco_objects}
        if self._layout or not self._view.objects or not all(joints.get(name) for name in self._view.objects):
            raise ResetError(f"{self._spec.task} cannot start from an observation", remedy="Only by seed")
        self._reset(0)
        data, base = self._env.sim.data, self._view.base_pose(0)
        for i, robot in enumerate(self._env.robots):
            data.qpos[robot._ref_joint_pos_indexes] = state[f"arm{i}/joint_position"]
            for joint, travel in self._view.finger_travel(i).items():
                data.set_joint_qpos(joint, travel * float(state[f"arm{i}/gripper_opening"][0]))
        for name in self._view.objects:
            if f"object/{name}_pose" in state:  # those that a single-object task leaves out lie where they are
                pose = pose_multiply(base, np.asarray(state[f"object/{name}_pose"], dtype=np.float64))
                data.set_joint_qpos(joints[name][0], pose[[0, 1, 2, 6, 3, 4, 5]])  # MuJoCo's quaternions are wxyz
        data.qvel[:] = 0.0
        self._env.sim.forward()
        self._last = self._present()
        return self._seen()

    def render(self) -> Array:
        """RGB uint8 [320, 320, 3] from robosuite's front camera."""
        return self._film.image(self._model, self._data, _VIDEO_CAMERA)

    def close(self) -> None:
        """Release renderers and physics."""
        self._cameras.close()
        self._film.close()
        self._env.close()

    @property
    def _model(self) -> Any:
        return self._env.sim.model._model

    @property
    def _data(self) -> Any:
        return self._env.sim.data._data

    def _reset(self, seed: int) -> dict[str, Any]:
        with _drawn_from(self._env, seed):
            self._env.reset()
        return self._present()

    def _present(self) -> dict[str, Any]:
        """robosuite's observations of now. Those that its step returns were sampled when the step began, and places lag
        behind the joints by a step of physics; demonstrations are imported without either."""
        for update in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_comVel):  # type: ignore[attr-defined]
            update(self._model, self._data)
        return self._env._get_observations(force_update=True)

    def _seen(self) -> Seen:
        reader = self._layout or self._view
        return Seen(reader.observe(self._last), self._cameras.images(self._model, self._data))


def _made(name: str, robots: Sequence[str], arguments: Mapping[str, Any]) -> Any:
    log_warnings()
    with quiet_robosuite():
        try:
            import robosuite
        except ImportError as error:
            raise ConfigError(f"robosuite is missing: {error}", remedy="pip install 'robot-rl[sim]'") from error
        logging.getLogger("robosuite_logs").setLevel(logging.ERROR)  # it tells of every model it loads
        for given, known in ((name, robosuite.ALL_ENVIRONMENTS), *((robot, robosuite.ALL_ROBOTS) for robot in robots)):
            if given not in known:
                raise ConfigError(f"robosuite knows no '{given}'", remedy=valid_choices(given, known))
        try:
            with _GLOBAL_DRAWS, _kept_draws(0):
                return robosuite.make(
                    name,
                    robots=list(robots),
                    has_renderer=False,
                    has_offscreen_renderer=False,  # ModelCameras draws
                    use_camera_obs=False,
                    ignore_done=True,
                    **arguments,
                )
        except (TypeError, ValueError, AssertionError) as error:
            raise ConfigError(f"robosuite cannot make '{name}': {error}", remedy="Check robots and options") from error


@contextmanager
def _drawn_from(env: Any, seed: int) -> Iterator[None]:
    """Everything that robosuite draws in here comes from ``seed``; numpy's global state is as before afterwards."""
    from robosuite.utils import RandomizationError

    with _GLOBAL_DRAWS, _kept_draws(seed):
        env.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state  # its parts share the generator
        try:
            yield
        except RandomizationError as error:
            raise ResetError(
                f"robosuite finds no start for seed {seed}: {error}", remedy="Take another seed"
            ) from error


@contextmanager
def _kept_draws(seed: int) -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(state)
