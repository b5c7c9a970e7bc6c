"""A live MuJoCo window as a listener of the loop."""

from __future__ import annotations

import time
from typing import Any

from robot_rl.errors import RobotError
from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, StepRow


class MujocoWindow:
    """Shows the world after every step, no faster than real time, until somebody closes it. Needs a display."""

    def __init__(self, physics: Any) -> None:
        import mujoco.viewer

        try:
            self._viewer = mujoco.viewer.launch_passive(physics.model, physics.data)
        except RuntimeError as error:  # macOS
            raise RobotError(f"no window: {error}", remedy="Run with mjpython, or show=rerun") from error
        self._due_s, self._period_s = 0.0, 0.0

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None:
        self._due_s, self._period_s = time.monotonic(), 1.0 / spec.step_rate_hz
        self._show()

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        self._due_s += self._period_s
        if self._viewer.is_running():
            time.sleep(max(0.0, self._due_s - time.monotonic()))
        self._show()

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None:
        self._show()

    def close(self) -> None:
        """Close the window; idempotent."""
        self._viewer.close()

    def _show(self) -> None:
        if self._viewer.is_running():
            self._viewer.sync()
