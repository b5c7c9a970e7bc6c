"""Push-T behind the Env contract: gym-pusht's physics with the resets of the original diffusion policy code.

One control step is 0.1 s of simulated time, ten physics steps under a PD law that drives the agent to its target. Three
facts of the original are kept because published numbers rest on them: seeds draw from ``RandomState`` (so that seeds
100000 and up mean the same starts), the tee is placed position first and then turned about its centre of mass, and
one physics step runs at reset.
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from robot_rl.data.pusht import CAMERA, coverage_reward, pusht_spec, tee_keypoints
from robot_rl.errors import CommandRefusedError, ConfigError, RobotError
from robot_rl.interfaces import Clock
from robot_rl.runtime.action_targets import integrate
from robot_rl.runtime.clock import SimulatedClock
from robot_rl.runtime.frame_codec import compressed
from robot_rl.types import (
    ActionRecord,
    Array,
    Arrays,
    CommandReport,
    EnvSpec,
    Frame,
    Observation,
    Phase,
    StepResult,
    TargetChunk,
)

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
try:
    from gym_pusht.envs.pusht import PushTEnv as PushTPhysics
except ImportError as error:
    raise ConfigError(f"task 'pusht' needs gym-pusht: {error}", remedy="pip install 'robot-rl[pusht]'") from error

_PART = "agent/target"
_VIDEO_PX = 512


def initial_state(seed: int) -> Array:
    """Start of the episode of ``seed``: agent x, y, tee x, y [px] and angle [rad], [5] (the original's generator)."""
    random = np.random.RandomState(seed)
    agent = random.randint(50, 450), random.randint(50, 450)
    tee = random.randint(100, 400), random.randint(100, 400)
    return np.array([*agent, *tee, random.randn() * 2 * np.pi - np.pi])


def _pixels(image: Array | None) -> Array:
    if image is None:
        raise RobotError("gym-pusht gave no image", remedy="Its render mode must be rgb_array")
    return image


class PushTEnv:
    """Env of task ``pusht``; reward is coverage / 0.95 clipped to [0, 1], success a coverage above 0.95, which ends.

    ``image_size_px`` adds the camera ``board``. Raises CommandRefusedError for a step before the first reset.
    """

    def __init__(self, max_steps: int = 300, image_size_px: int | None = None) -> None:
        if max_steps < 1 or (image_size_px is not None and image_size_px < 1):
            raise ConfigError(f"max_steps={max_steps}, image_size_px={image_size_px}", limit="at least 1")
        self._max_steps, self._image_size_px = max_steps, image_size_px
        self._spec = pusht_spec(image_size_px)
        self._clock = SimulatedClock()
        size = image_size_px or 96
        self._physics = PushTPhysics(
            render_mode="rgb_array",
            observation_width=size,
            observation_height=size,
            visualization_width=_VIDEO_PX,
            visualization_height=_VIDEO_PX,
        )
        self._physics.reset()
        self._observation: Observation | None = None
        self._running = False
        self._frames = 0

    @property
    def spec(self) -> EnvSpec:
        return self._spec

    @property
    def max_steps(self) -> int:
        return self._max_steps

    @property
    def clock(self) -> Clock:
        return self._clock

    def reset(self, seed: int) -> Observation:
        """Start where the original env starts for that seed."""
        return self.reset_to(initial_state(seed))

    def reset_to(self, state: Array) -> Observation:
        """Start at agent x, y, tee x, y [px], angle [rad] set as the original does, [5]."""
        self._physics.reset(options={"reset_to_state": np.asarray(state, dtype=np.float64)})
        self._running = True
        self._observation = self._observe(0, None)
        return self._observation

    def restore(self, state: Arrays) -> Observation:
        """Start from recorded ``agent/position`` [2] and ``tee/pose`` [3]: the start of a demonstration without a seed.

        The original's placement turns the tee about its centre of mass after putting its origin somewhere, so the
        place asked for is moved by what that turn will move it.
        """
        pose = np.asarray(state["tee/pose"], dtype=np.float64)
        centre = np.array(self._physics.block.center_of_gravity)
        cosine, sine = np.cos(pose[2]), np.sin(pose[2])
        turned = np.array([cosine * centre[0] - sine * centre[1], sine * centre[0] + cosine * centre[1]])
        return self.reset_to(np.array([*state["agent/position"], *(pose[:2] - centre + turned), pose[2]]))

    def anchor(self, actions: Array, observation: Observation) -> TargetChunk:
        """Actions are absolute already: clipped to the board, [H, 2] px."""
        return TargetChunk(integrate(self._spec.action, actions, {}), observation.step, observation.stamp_ns)

    def hold(self) -> TargetChunk:
        """The target in force once more; after a reset the agent's own position."""
        observation = self._current()
        report = observation.report
        target = observation.state["agent/position"] if report is None else report.executed[_PART]
        return TargetChunk({_PART: np.asarray(target)[None]}, observation.step, observation.stamp_ns, source=Phase.HOLD)

    def step(self, plan: TargetChunk) -> StepResult:
        """Ten physics steps towards the plan's set point of this step."""
        before = self._current()
        if not self._running:
            raise CommandRefusedError("Push-T is stopped", remedy="Reset it first")
        plan = plan.remaining(before.step)
        if plan.length == 0:
            raise CommandRefusedError(f"the plan has no set point for step {before.step}", remedy="Plan further")
        target = np.asarray(plan.targets[_PART][0], dtype=np.float64)
        _, _, _, _, info = self._physics.step(target)
        self._clock.wait_until(before.stamp_ns + self._spec.step_period_ns)
        set_point = {_PART: target}
        after = self._observe(before.step + 1, CommandReport(before.step, plan.source, set_point, set_point))
        self._observation = after
        action = target.astype(np.float32)
        success = bool(info["is_success"])
        return StepResult(
            after,
            ActionRecord(commanded=action, executed=action, policy=action, source=plan.source),
            reward=float(coverage_reward(info["coverage"])),
            terminated=success,
            truncated=not success and after.step >= self._max_steps,
            success=success,
            info={"coverage": float(info["coverage"])},
        )

    def render(self) -> Array:
        """The board as RGB [512, 512, 3] uint8, the last target marked."""
        return _pixels(self._physics.render())

    def stop(self) -> None:
        """No more steps until the next reset."""
        self._running = False

    def close(self) -> None:
        """Stop and release the renderer."""
        self.stop()
        self._physics.close()

    def _current(self) -> Observation:
        if self._observation is None:
            raise CommandRefusedError("Push-T has not been reset", remedy="Call reset(seed) first")
        return self._observation

    def _observe(self, step: int, report: CommandReport | None) -> Observation:
        agent, tee = self._physics.agent, self._physics.block
        pose = np.array([*tee.position, tee.angle % (2 * np.pi)])
        if not np.isfinite(pose).all():
            raise RobotError(f"Push-T diverged at step {step}: tee at {pose}")
        state = {
            "agent/position": np.array([*agent.position], dtype=np.float32),
            "tee/pose": pose.astype(np.float32),
            "tee/keypoints": tee_keypoints(pose),
        }
        observation = Observation(step, self._clock.now_ns(), state, report=report)
        if self._image_size_px is None:
            return observation
        image = _pixels(self._physics._render())
        frame = Frame(image.tobytes(), observation.stamp_ns, self._frames, *image.shape[:2], codec="raw")
        self._frames += 1
        return replace(observation, frames={CAMERA: compressed(frame)})
