"""Scripted experts: the next set point from the measured state alone, without clock or memory.

Being functions of the observation they recover from disturbances, and a policy can imitate them. Phases are regions
of the state, joined without jumps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robot_rl.types import Array, Arrays, ArraySpec

_POSE = ArraySpec((7,), unit="m, quat_xyzw", frame="base")
_TWIST = ArraySpec((6,), unit="m/s, rad/s", frame="base")
_TOOL_DOWN = np.array([1.0, 0.0, 0.0, 0.0])


@dataclass(frozen=True)
class Stride:
    """How far a set point goes ahead of the TCP in one control step of ``period_s``: exponential approach of rate
    ``gain_1_s``, bounded in speed and in the gain of speed; what does not lead to the goal stops at once."""

    period_s: float = 0.05
    gain_1_s: float = 5.0
    max_speed_m_s: float = 0.35
    max_acceleration_m_s2: float = 1.5

    def towards(self, goal: Array, position: Array, velocity: Array) -> Array:
        """The set point [3] of this step on the way from ``position``, moving at ``velocity``, to ``goal``."""
        wanted = _bounded(self.gain_1_s * (goal - position), self.max_speed_m_s)
        speed = float(np.linalg.norm(wanted))
        along = max(float(velocity @ wanted) / speed, 0.0) if speed > 0.0 else 0.0
        return position + _bounded(wanted, along + self.max_acceleration_m_s2 * self.period_s) * self.period_s


@dataclass(frozen=True)
class ReachExpert:
    """Straight to the target."""

    target: str = "target"
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        target = ArraySpec((3,), unit="m", frame="base", privileged=True)
        return {"arm0/tcp_pose": _POSE, "arm0/tcp_velocity": _TWIST, f"object/{self.target}_position": target}

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        goal = np.asarray(state[f"object/{self.target}_position"], dtype=np.float64)
        tcp, velocity = _motion(state)
        position = self.stride.towards(goal, tcp, velocity)
        return {"arm0/tcp": np.concatenate((position, _TOOL_DOWN)), "arm0/gripper": np.zeros(1)}


@dataclass(frozen=True)
class LiftExpert:
    """Over the cube, down a funnel, close, up. Lengths in m, openings 0 to 1."""

    cube: str = "cube"
    hover_m: float = 0.08  # above the grasp while the cube is still beside
    funnel_slope: float = 8.0  # height per distance beside the cube
    funnel_radius_m: float = 0.006
    grasp_radius_m: float = 0.01
    grasp_height_m: float = 0.012
    closing_opening: float = 0.97  # below it the fingers are closing and the grasp region is wider
    gripped_opening: float = 0.78  # wider than the diagonal of the cube
    firm_opening: float = 0.55
    empty_opening: float = 0.3
    lift_speed_m_s: float = 0.25
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {
            "arm0/tcp_pose": _POSE,
            "arm0/tcp_velocity": _TWIST,
            "arm0/gripper_opening": ArraySpec((1,), unit="opening"),
            f"object/{self.cube}_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base", privileged=True),
        }

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        cube = np.asarray(state[f"object/{self.cube}_pose"][:3], dtype=np.float64)
        opening = float(state["arm0/gripper_opening"][0])
        tcp, velocity = _motion(state)
        if self._around(tcp - cube, opening):
            position = self._lift(tcp, velocity, cube, opening)
            return self._targets(position, 0.0)
        return self._targets(self._approach(tcp, velocity, cube), 1.0)

    def _around(self, offset: Array, opening: float) -> bool:
        """Whether the cube is between the fingers."""
        wide = 2.0 if self.empty_opening < opening < self.closing_opening else 1.0
        beside, above = math.hypot(offset[0], offset[1]), abs(offset[2])
        return (
            beside < wide * self.grasp_radius_m and above < wide * self.grasp_height_m and opening > self.empty_opening
        )

    def _approach(self, tcp: Array, velocity: Array, cube: Array) -> Array:
        beside = math.hypot(tcp[0] - cube[0], tcp[1] - cube[1])
        height = min(self.hover_m, self.funnel_slope * max(beside - self.funnel_radius_m, 0.0))
        return self.stride.towards(cube + np.array([0.0, 0.0, height]), tcp, velocity)

    def _lift(self, tcp: Array, velocity: Array, cube: Array, opening: float) -> Array:
        """Stay while the fingers close, then rise the faster the firmer they hold."""
        firm = (self.gripped_opening - opening) / (self.gripped_opening - self.firm_opening)
        rise = self.lift_speed_m_s * min(max(firm, 0.0), 1.0) / self.stride.gain_1_s
        goal = np.array([tcp[0], tcp[1], tcp[2] + rise]) if rise > 0.0 else cube
        return self.stride.towards(goal, tcp, velocity)

    def _targets(self, position: Array, opening: float) -> dict[str, Array]:
        return {"arm0/tcp": np.concatenate((position, _TOOL_DOWN)), "arm0/gripper": np.array([opening])}


def _motion(state: Arrays) -> tuple[Array, Array]:
    """Position and velocity [3] of the TCP."""
    return np.asarray(state["arm0/tcp_pose"][:3], np.float64), np.asarray(state["arm0/tcp_velocity"][:3], np.float64)


def _bounded(vector: Array, limit: float) -> Array:
    length = float(np.linalg.norm(vector))
    return vector if length <= limit else vector * (limit / length)
