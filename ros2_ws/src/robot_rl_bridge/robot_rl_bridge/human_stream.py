"""A person's stream of velocities as plans for the human channel: it commands as long as it is heard, and no longer."""

from __future__ import annotations

import numpy as np

from robot_rl.errors import CommandRefusedError
from robot_rl.geometry import poses_after, quat_xyzw_rotate
from robot_rl.robots.target_check import checked_targets
from robot_rl.types import ActionSpec, Array, Phase, TargetChunk, all_finite
from robot_rl_bridge.arm_description import GRIPPER, TCP

FRAMES = ("base", "tool")
STILL = 1e-6  # m/s, rad/s
_ROWS = 6  # ahead: the stream times out before


class HumanStream:
    """The newest velocity [6] (m/s, rad/s, in the base or the tool frame) and opening that a person asked for."""

    def __init__(self, action: ActionSpec, step_s: float, timeout_s: float = 0.25) -> None:
        self._action, self._step_s, self._timeout_ns = action, step_s, timeout_s * 1e9
        self._twist, self._in_tool, self._opening = np.zeros(6), False, None
        self._heard_ns: int | None = None

    def hear(self, twist: Array, frame: str, now_ns: int) -> None:
        """Take the newest. Raises CommandRefusedError for what is no velocity, or in a frame not known."""
        twist = np.asarray(twist, dtype=np.float64)
        if TCP not in self._action.by_name:
            raise CommandRefusedError("the arm is commanded by joints", remedy="Start the bridge with part:=tcp")
        if frame not in ("", *FRAMES):
            raise CommandRefusedError(f"a velocity in frame '{frame}'", remedy=f"Valid: {', '.join(FRAMES)}")
        if twist.shape != (6,) or not all_finite(twist) or np.abs(twist).max() > 10.0:
            raise CommandRefusedError(f"a velocity of {twist.tolist()}", limit="6 finite numbers in m/s and rad/s")
        self._twist, self._in_tool, self._heard_ns = twist, frame == "tool", now_ns

    def hear_opening(self, opening: float, now_ns: int) -> None:
        """Take the newest opening, 0 closed to 1 open."""
        if not (np.isfinite(opening) and 0.0 <= opening <= 1.0):
            raise CommandRefusedError(f"an opening of {opening}", limit="0 to 1")
        self._opening, self._heard_ns = float(opening), now_ns

    def let_go(self) -> None:
        """The person commands no more."""
        self._heard_ns, self._opening, self._twist = None, None, np.zeros(6)

    def alive(self, now_ns: int) -> bool:
        """Whether the stream was heard within its time limit."""
        return self._heard_ns is not None and now_ns - self._heard_ns <= self._timeout_ns

    @property
    def still(self) -> bool:
        """Whether the person holds the arm."""
        return bool(np.abs(self._twist).max() < STILL)

    def plan(self, pose: Array, step: int, now_ns: int) -> TargetChunk:
        """Targets that go on from ``pose`` [7] at this velocity, from ``step`` on."""
        linear, angular = self._twist[:3], self._twist[3:]
        if self._in_tool:
            linear, angular = quat_xyzw_rotate(pose[3:], linear), quat_xyzw_rotate(pose[3:], angular)
        row = np.concatenate((linear, angular)) * self._step_s
        targets = {TCP: poses_after(pose, np.tile(row, (_ROWS, 1)))}
        if self._opening is not None:
            targets[GRIPPER] = np.full((_ROWS, 1), self._opening)
        return checked_targets(TargetChunk(targets, step, now_ns, Phase.HUMAN), self._action)
