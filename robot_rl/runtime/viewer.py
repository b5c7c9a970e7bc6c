"""A live MuJoCo window as a listener of the loop."""

from __future__ import annotations

import time
from typing import Any, Protocol, runtime_checkable

from robot_rl.interfaces import Env
from robot_rl.runtime.env import RobotEnv
from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, StepRow


@runtime_checkable
class MujocoSimulated(Protocol):
    """A robot that lives in MuJoCo."""

    @property
    def physics(self) -> Any:
        """Object with ``model`` (MjModel) and ``data`` (MjData)."""
        ...


def physics_of(env: Env) -> Any | None:
    """The MuJoCo world behind an env, if there is one."""
    robot = env.robot if isinstance(env, RobotEnv) else None
    return robot.physics if isinstance(robot, MujocoSimulated) else None


class MujocoWindow:
    """Shows the world after every step, no faster than real time. Needs a display."""

    def __init__(self, physics: Any) -> None:
        import mujoco.viewer

        self._viewer = mujoco.viewer.launch_passive(physics.model, physics.data)
        self._due_s, self._period_s = 0.0, 0.0

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._due_s, self._period_s = time.monotonic(), 1.0 / spec.step_rate_hz
        self._viewer.sync()

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        self._due_s += self._period_s
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._viewer.sync()

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        self._viewer.sync()
