"""Push-T behind the Env contract: gym-pusht's physics with the resets of the original diffusion policy code.

One control step is 0.1 s of simulated time, ten physics steps under a PD law that drives the agent to its target. Three
facts of the original are kept because published numbers rest on them: seeds draw from ``RandomState`` (so that seeds
100000 and up mean the same starts), the tee is placed position first and then turned about its centre of mass, and
one physics step runs at reset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from robot_rl.data.pusht import coverage_reward, pusht_spec, tee_keypoints
from robot_rl.errors import ConfigError, RobotError
from robot_rl.types import Array, Arrays, EnvSpec
from sim.adapted_env import AdaptedEnv, Outcome, Seen

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
try:
    from gym_pusht.envs.pusht import PushTEnv as PushTPhysics
except ImportError as error:
    raise ConfigError(f"task 'pusht' needs gym-pusht: {error}", remedy="pip install 'robot-rl[pusht]'") from error

_PART = "agent/target"
_VIDEO_PX = 512


def pusht_env(max_steps: int = 300, image_size_px: int | None = None, side_by_side: int = 50) -> AdaptedEnv:
    """Env of task ``pusht``; ``image_size_px`` adds the camera ``board``."""
    return AdaptedEnv(PushT(image_size_px), max_steps, side_by_side)


def initial_state(seed: int) -> Array:
    """Start of the episode of ``seed``: agent x, y, tee x, y [px] and angle [rad], [5] (the original's generator)."""
    random = np.random.RandomState(seed)
    agent = random.randint(50, 450), random.randint(50, 450)
    tee = random.randint(100, 400), random.randint(100, 400)
    return np.array([*agent, *tee, random.randn() * 2 * np.pi - np.pi])


class PushT:
    """Simulator of Push-T: reward is coverage / 0.95 clipped to [0, 1], success a coverage above 0.95, which ends."""

    def __init__(self, image_size_px: int | None = None) -> None:
        if image_size_px is not None and image_size_px < 1:
            raise ConfigError(f"image_size_px={image_size_px}", limit="at least 1")
        self._spec = pusht_spec(image_size_px)
        size = image_size_px or 96
        self._physics = PushTPhysics(
            render_mode="rgb_array",
            observation_width=size,
            observation_height=size,
            visualization_width=_VIDEO_PX,
            visualization_height=_VIDEO_PX,
        )
        self._physics.reset()

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    def reset(self, seed: int) -> Seen:
        """Start where the original env starts for that seed."""
        return self._start(initial_state(seed))

    def restore(self, state: Arrays) -> Seen:
        """Start from recorded ``agent/position`` [2] and ``tee/pose`` [3]: the start of a demonstration without a seed.

        The original's placement turns the tee about its centre of mass after putting its origin somewhere, so the
        place asked for is moved by what that turn will move it.
        """
        pose = np.asarray(state["tee/pose"], dtype=np.float64)
        centre = np.array(self._physics.block.center_of_gravity)
        cosine, sine = np.cos(pose[2]), np.sin(pose[2])
        turned = np.array([cosine * centre[0] - sine * centre[1], sine * centre[0] + cosine * centre[1]])
        return self._start(np.array([*state["agent/position"], *(pose[:2] - centre + turned), pose[2]]))

    def step(self, targets: Arrays) -> Outcome:
        """Ten physics steps towards the target."""
        _, _, _, _, info = self._physics.step(np.asarray(targets[_PART], dtype=np.float64))
        success, coverage = bool(info["is_success"]), float(info["coverage"])
        about: Mapping[str, float] = {"coverage": coverage}
        return Outcome(
            self._seen(), float(coverage_reward(np.asarray(coverage))), success, terminated=success, info=about
        )

    def render(self) -> Array:
        """The board as RGB [512, 512, 3] uint8, the last target marked."""
        return _pixels(self._physics.render())

    def close(self) -> None:
        """Release the renderer."""
        self._physics.close()

    def _start(self, state: Array) -> Seen:
        """Agent x, y, tee x, y [px], angle [rad] set as the original does, [5]."""
        self._physics.reset(options={"reset_to_state": np.asarray(state, dtype=np.float64)})
        return self._seen()

    def _seen(self) -> Seen:
        agent, tee = self._physics.agent, self._physics.block
        pose = np.array([*tee.position, tee.angle % (2 * np.pi)])
        state = {"agent/position": np.array([*agent.position]), "tee/pose": pose, "tee/keypoints": tee_keypoints(pose)}
        return Seen(state, {name: _pixels(self._physics._render()) for name in self._spec.cameras})


def _pixels(image: Array | None) -> Array:
    if image is None:
        raise RobotError("gym-pusht gave no image", remedy="Its render mode must be rgb_array")
    return image
