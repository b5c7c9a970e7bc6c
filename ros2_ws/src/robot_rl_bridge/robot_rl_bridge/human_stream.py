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
        self._velocity: tuple[Array, bool, int] | None = None  # [6], whether in the tool's frame, heard at
        self._grasp: tuple[float, int] | None = None  # opening, heard at
        self._moved_ns = -(10**18)  # of the newest velocity, whatever was let go since

    def hear(self, twist: Array, frame: str, now_ns: int) -> None:
        """Take the newest. Raises CommandRefusedError for what is no velocity, or in a frame not known."""
        twist = np.asarray(twist, dtype=np.float64)
        if TCP not in self._action.by_name:
            raise CommandRefusedError("the arm is commanded by joints", remedy="Start the bridge with part:=tcp")
        if frame not in FRAMES:
            raise CommandRefusedError(f"a velocity in frame '{frame}'", remedy=f"Valid: {', '.join(FRAMES)}")
        if twist.shape != (6,) or not all_finite(twist) or np.abs(twist).max() > 10.0:
            raise CommandRefusedError(f"a velocity of {twist.tolist()}", limit="6 finite numbers in m/s and rad/s")
        self._velocity, self._moved_ns = (twist, frame == "tool", now_ns), now_ns

    def hear_opening(self, opening: float, now_ns: int) -> None:
        """Take the newest opening, 0 closed to 1 open; it says nothing about the velocity."""
        if not (np.isfinite(opening) and 0.0 <= opening <= 1.0):
            raise CommandRefusedError(f"an opening of {opening}", limit="0 to 1")
        self._grasp = (float(opening), now_ns)

    def let_go(self) -> None:
        """The person commands no more; neither velocity nor opening counts for the next time."""
        self._velocity = self._grasp = None

    def alive(self, now_ns: int) -> bool:
        """Whether a velocity or an opening was heard within the time limit."""
        grasp = self._grasp
        return self.steers(now_ns) or (grasp is not None and now_ns - grasp[1] <= self._timeout_ns)

    def steers(self, now_ns: int) -> bool:
        """Whether a velocity was heard within the time limit: the person holds the dead-man."""
        velocity = self._velocity
        return velocity is not None and now_ns - velocity[2] <= self._timeout_ns

    def quiet(self, now_ns: int) -> bool:
        """Whether no velocity was heard within the time limit: the dead-man was released."""
        return now_ns - self._moved_ns > self._timeout_ns

    def still(self, now_ns: int) -> bool:
        """Whether the person holds the arm."""
        return bool(np.abs(self._twist(now_ns)[0]).max() < STILL)

    def plan(self, pose: Array, step: int, now_ns: int) -> TargetChunk:
        """Targets that go on from ``pose`` [7] at this velocity, from ``step`` on."""
        twist, in_tool = self._twist(now_ns)
        linear, angular = twist[:3], twist[3:]
        if in_tool:
            linear, angular = quat_xyzw_rotate(pose[3:], linear), quat_xyzw_rotate(pose[3:], angular)
        row = np.concatenate((linear, angular)) * self._step_s
        targets = {TCP: poses_after(pose, np.tile(row, (_ROWS, 1)))}
        if (grasp := self._grasp) is not None:
            targets[GRIPPER] = np.full((_ROWS, 1), grasp[0])
        return checked_targets(TargetChunk(targets, step, now_ns, Phase.HUMAN), self._action)

    def _twist(self, now_ns: int) -> tuple[Array, bool]:
        velocity = self._velocity  # one look: the thread that hears goes on
        return (np.zeros(6), False) if velocity is None or not self.steers(now_ns) else velocity[:2]
