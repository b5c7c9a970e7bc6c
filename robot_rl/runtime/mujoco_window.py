"""A live MuJoCo window as a listener of the loop."""

from __future__ import annotations

import threading
import time
from typing import Any

from robot_rl.errors import RobotError
from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, StepRow

_AZIMUTH_DEG, _ELEVATION_DEG, _DISTANCE = 140.0, -25.0, 0.85  # of the first view; the last in extents of the model
_AIMED_STEPS = 20  # the window turns to a view of its own once it is up, some time after it was asked for
_AMBIENT, _DIFFUSE = 0.45, 0.55  # of the lamp on the viewer's head: a model for physics alone has no other
_CLOSING_S = 5.0


class MujocoWindow:
    """Shows the world after every step, no faster than real time, until somebody closes it. Needs a display."""

    def __init__(self, physics: Any) -> None:
        import mujoco.viewer

        model = physics.model
        model.vis.headlight.ambient[:], model.vis.headlight.diffuse[:] = _AMBIENT, _DIFFUSE
        before = set(threading.enumerate())
        try:
            self._viewer = mujoco.viewer.launch_passive(model, physics.data, show_left_ui=False, show_right_ui=False)
        except RuntimeError as error:  # macOS
            raise RobotError(f"no window: {error}", remedy="Run with mjpython, or show=rerun") from error
        self._threads = set(threading.enumerate()) - before
        self._centre, self._distance_m = model.stat.center.copy(), _DISTANCE * model.stat.extent
        self._aimed = 0
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
        """Close the window; idempotent. Waits for its threads: the interpreter crashes when it ends before them."""
        self._viewer.close()
        for thread in self._threads:
            thread.join(_CLOSING_S)

    def _show(self) -> None:
        if not self._viewer.is_running():
            return
        if self._aimed < _AIMED_STEPS:
            self._aimed += 1
            self._aim()
        self._viewer.sync()

    def _aim(self) -> None:
        with self._viewer.lock():
            camera = self._viewer.cam
            camera.lookat[:], camera.distance = self._centre, self._distance_m
            camera.azimuth, camera.elevation = _AZIMUTH_DEG, _ELEVATION_DEG
