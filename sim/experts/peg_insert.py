"""Lead the tip of a held peg over the hole, align it, press it in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robot_rl.geometry import (
    quat_xyzw_conjugate,
    quat_xyzw_from_rotvec,
    quat_xyzw_multiply,
    quat_xyzw_rotate,
    rotvec_from_quat_xyzw,
)
from robot_rl.types import Array, Arrays, ArraySpec
from sim.experts.stride import MOTION, Stride, bodies, funnel, motion, position_of, set_point

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class PegInsertExpert:
    """The tip comes down a funnel above the hole, touches the rim gently when it is nearly aligned, so that it slides
    on until it falls in, and is pressed once it is aligned or inside; where it went astray the funnel lifts it off.

    ``touch`` and ``aligned`` are distances from the hole's axis as shares of ``clearance_m`` (diametral: the peg fits
    up to half of it). Rotations are corrected where the action has them."""

    peg: str = "peg"
    hole: str = "hole"
    peg_half_length_m: float = 0.03
    clearance_m: float = 0.001
    depth_m: float = 0.03  # where the tip is sent
    hover_m: float = 0.02
    funnel_slope: float = 2.0
    touch: float = 0.65
    aligned: float = 0.35
    gentle: float = 0.05  # share of the speed of pressing at which the rim is touched
    inside_m: float = 0.001  # the tip is in the hole when it is that far below the rim
    press_speed_m_s: float = 0.06
    stride: Stride = field(default_factory=lambda: Stride(max_speed_m_s=0.2, max_acceleration_m_s2=1.0))

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {**MOTION, **bodies(self.peg, self.hole)}

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        rim, tip = position_of(state, f"object/{self.hole}_pose"), self._tip(state)
        tcp, velocity = motion(state)
        position = tcp + self.stride.towards(self._goal(tip, rim), tip, velocity) - tip
        return set_point(position, 0.0, self._rotation(state))

    def _rotation(self, state: Arrays) -> Array:
        """The tool [4] turned so that the peg becomes parallel to the hole, at the rate of the stride."""
        peg, hole = state[f"object/{self.peg}_pose"][3:], state[f"object/{self.hole}_pose"][3:]
        turn = rotvec_from_quat_xyzw(quat_xyzw_multiply(hole, quat_xyzw_conjugate(peg)))
        step = quat_xyzw_from_rotvec(self.stride.gain_1_s / self.stride.step_rate_hz * turn)
        return quat_xyzw_multiply(step, state["arm0/tcp_pose"][3:])

    def _goal(self, tip: Array, rim: Array) -> Array:
        """Where the tip is led [3]."""
        beside, touch = math.hypot(tip[0] - rim[0], tip[1] - rim[1]), self.touch * self.clearance_m
        inside = tip[2] < rim[2] - self.inside_m and beside < self.hover_m
        if beside > touch and not inside:
            return funnel(tip, rim, self.hover_m, self.funnel_slope, touch)
        fit = (touch - beside) / (touch - self.aligned * self.clearance_m)
        speed = self.press_speed_m_s * (1.0 if inside else min(max(fit, self.gentle), 1.0))
        return np.array([rim[0], rim[1], max(rim[2] - self.depth_m, tip[2] - speed / self.stride.gain_1_s)])

    def _tip(self, state: Arrays) -> Array:
        pose = np.asarray(state[f"object/{self.peg}_pose"], dtype=np.float64)
        return pose[:3] - self.peg_half_length_m * quat_xyzw_rotate(pose[3:], _UP)
