"""Grasp a cube, carry it over the wall of a bin, let it drop inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robot_rl.types import Array, Arrays, ArraySpec
from sim.experts.lift import CubeGrasp
from sim.experts.stride import FINGERS, MOTION, Stride, bodies, motion, opening_of, position_of, set_point


@dataclass(frozen=True)
class PickPlaceExpert:
    """Heights in m are those of the cube's middle above the bin's floor."""

    cube: str = "cube"
    bin: str = "bin"
    carry_m: float = 0.11
    release_m: float = 0.05  # fingers that open there pass above the walls
    release_radius_m: float = 0.015  # this near to the middle of the bin
    open_opening: float = 0.9
    retreat_m: float = 0.12
    lift_speed_m_s: float = 0.3
    grasp: CubeGrasp = field(default_factory=CubeGrasp)
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {**MOTION, **FINGERS, **bodies(self.cube, self.bin)}

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        cube, box = position_of(state, f"object/{self.cube}_pose"), position_of(state, f"object/{self.bin}_pose")
        opening = opening_of(state)
        tcp, velocity = motion(state)
        if self._delivered(cube - box):
            goal, wanted = self._retreat(tcp, box, opening), 1.0
        elif self.grasp.around(tcp - cube, opening):
            goal, wanted = self._carry(tcp, cube, box, opening), 0.0
        else:
            goal, wanted = self.grasp.approach(tcp, cube, opening), 1.0
        return set_point(self.stride.towards(goal, tcp, velocity), wanted)

    def _delivered(self, offset: Array) -> bool:
        """Whether the cube, ``offset`` [3] from the bin, is to be let go, or already lies there."""
        return bool(np.abs(offset[:2]).max() < 3.0 * self.release_radius_m and offset[2] < self.release_m)

    def _retreat(self, tcp: Array, box: Array, opening: float) -> Array:
        """Stay while the fingers open, then straight up."""
        return np.array([tcp[0], tcp[1], box[2] + self.retreat_m]) if opening > self.open_opening else tcp

    def _carry(self, tcp: Array, cube: Array, box: Array, opening: float) -> Array:
        """Up, over the bin the faster the higher, down above its middle."""
        firm = self.grasp.firmness(opening)
        if firm == 0.0:
            return cube
        beside = box[:2] - tcp[:2]
        if math.hypot(*beside) < self.release_radius_m:
            return np.array([box[0], box[1], box[2] + self.release_m - 0.01])
        high = min(max((tcp[2] - box[2]) / self.carry_m, 0.0), 1.0) ** 3
        rise = min(box[2] + self.carry_m + 0.01 - tcp[2], firm * self.lift_speed_m_s / self.stride.gain_1_s)
        return np.array([*(tcp[:2] + high * beside), tcp[2] + rise])
