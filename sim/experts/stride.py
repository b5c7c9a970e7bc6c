"""What the experts share: how a set point runs ahead of the TCP, and what is read of the arm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from robot_rl.types import Array, Arrays, ArraySpec

BODY_POSE = ArraySpec((7,), unit="m, quat_xyzw", frame="base", privileged=True)
MARKER_POSITION = ArraySpec((3,), unit="m", frame="base", privileged=True)
# What every expert reads of the arm, and those that grasp.
MOTION = {
    "arm0/tcp_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
    "arm0/tcp_velocity": ArraySpec((6,), unit="m/s, rad/s", frame="base"),
}
FINGERS = {"arm0/gripper_opening": ArraySpec((1,), unit="opening")}
TOOL_DOWN = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Stride:
    """How far a set point goes ahead of the TCP in one control step, ``step_rate_hz`` of them per second: exponential
    approach of rate ``gain_1_s``, bounded in speed and in the gain of speed; what does not lead to the goal stops at
    once."""

    step_rate_hz: float = 20.0
    gain_1_s: float = 5.0
    max_speed_m_s: float = 0.35
    max_acceleration_m_s2: float = 1.5

    def towards(self, goal: Array, position: Array, velocity: Array) -> Array:
        """The set point [3] of this step on the way from ``position``, moving at ``velocity``, to ``goal``."""
        wanted = bounded(self.gain_1_s * (goal - position), self.max_speed_m_s)
        speed = float(np.linalg.norm(wanted))
        along = max(float(velocity @ wanted) / speed, 0.0) if speed > 0.0 else 0.0
        period_s = 1.0 / self.step_rate_hz
        return position + bounded(wanted, along + self.max_acceleration_m_s2 * period_s) * period_s


def bodies(*names: str) -> dict[str, ArraySpec]:
    """What is observed of objects: their poses."""
    return {f"object/{name}_pose": BODY_POSE for name in names}


def markers(*names: str) -> dict[str, ArraySpec]:
    """What is observed of markers: their positions."""
    return {f"object/{name}_position": MARKER_POSITION for name in names}


def motion(state: Arrays) -> tuple[Array, Array]:
    """Position and velocity [3] of the TCP."""
    return np.asarray(state["arm0/tcp_pose"][:3], np.float64), np.asarray(state["arm0/tcp_velocity"][:3], np.float64)


def opening_of(state: Arrays) -> float:
    """How far the fingers are open, 0 to 1."""
    return float(state["arm0/gripper_opening"][0])


def position_of(state: Arrays, name: str) -> Array:
    """Position [3] m of an object or marker."""
    return np.asarray(state[name][:3], dtype=np.float64)


def set_point(position: Array, opening: float, rotation: Array = TOOL_DOWN) -> dict[str, Array]:
    """Targets of arm and gripper: position [3] m, quat_xyzw [4], opening 0 to 1."""
    return {"arm0/tcp": np.concatenate((position, rotation)), "arm0/gripper": np.array([opening])}


def bounded(vector: Array, limit: float) -> Array:
    """``vector`` shortened to the length ``limit`` where it is longer."""
    length = float(np.linalg.norm(vector))
    return vector if length <= limit else vector * (limit / length)


def funnel(tcp: Array, goal: Array, hover_m: float, slope: float, radius_m: float) -> Array:
    """A point [3] above ``goal``, lower the nearer the TCP is to the vertical through it: at most ``hover_m`` high,
    at the goal itself within ``radius_m``."""
    beside = math.hypot(tcp[0] - goal[0], tcp[1] - goal[1])
    height = min(hover_m, slope * max(beside - radius_m, 0.0))
    return goal + np.array([0.0, 0.0, height])
