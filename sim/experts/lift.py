"""Grasp a cube and lift it; the grasp also serves the tasks that carry it somewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robot_rl.types import Array, Arrays, ArraySpec
from sim.experts.stride import FINGERS, MOTION, Stride, bodies, funnel, motion, opening_of, position_of, set_point


@dataclass(frozen=True)
class CubeGrasp:
    """Over the cube, down a funnel, close. Lengths in m, openings 0 to 1."""

    hover_m: float = 0.08  # above the grasp while the cube is still beside
    funnel_slope: float = 8.0  # height per distance beside the cube
    funnel_radius_m: float = 0.006
    grasp_radius_m: float = 0.01
    grasp_height_m: float = 0.012
    closing_opening: float = 0.97  # below it the fingers are closing and the grasp region is wider
    gripped_opening: float = 0.78  # wider than the diagonal of the cube
    firm_opening: float = 0.55
    empty_opening: float = 0.3
    wide_opening: float = 0.85  # fingers that are less open would land on the cube

    def around(self, offset: Array, opening: float) -> bool:
        """Whether the cube, from which the TCP is ``offset`` [3] away, is between the fingers."""
        wide = 2.0 if self.empty_opening < opening < self.closing_opening else 1.0
        beside, above = math.hypot(offset[0], offset[1]), abs(offset[2])
        return (
            beside < wide * self.grasp_radius_m and above < wide * self.grasp_height_m and opening > self.empty_opening
        )

    def firmness(self, opening: float) -> float:
        """0 while the fingers are still closing to 1 when they hold."""
        firm = (self.gripped_opening - opening) / (self.gripped_opening - self.firm_opening)
        return min(max(firm, 0.0), 1.0)

    def approach(self, tcp: Array, cube: Array, opening: float) -> Array:
        """Where to go [3] with opening fingers: above the cube first, down when right above and they are wide open."""
        if opening < self.wide_opening:
            return cube + np.array([0.0, 0.0, self.hover_m])
        return funnel(tcp, cube, self.hover_m, self.funnel_slope, self.funnel_radius_m)


@dataclass(frozen=True)
class LiftExpert:
    """Grasp the cube, then rise the faster the firmer the fingers hold."""

    cube: str = "cube"
    lift_speed_m_s: float = 0.25
    grasp: CubeGrasp = field(default_factory=CubeGrasp)
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {**MOTION, **FINGERS, **bodies(self.cube)}

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        cube, opening = position_of(state, f"object/{self.cube}_pose"), opening_of(state)
        tcp, velocity = motion(state)
        if not self.grasp.around(tcp - cube, opening):
            return set_point(self.stride.towards(self.grasp.approach(tcp, cube, opening), tcp, velocity), 1.0)
        rise = self.lift_speed_m_s * self.grasp.firmness(opening) / self.stride.gain_1_s
        goal = np.array([tcp[0], tcp[1], tcp[2] + rise]) if rise > 0.0 else cube
        return set_point(self.stride.towards(goal, tcp, velocity), 0.0)
