"""Straight to a point in the air."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robot_rl.types import Array, Arrays, ArraySpec
from sim.experts.stride import MOTION, Stride, markers, motion, position_of, set_point


@dataclass(frozen=True)
class ReachExpert:
    """Straight to the marker ``target``, gripper closed."""

    target: str = "target"
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {**MOTION, **markers(self.target)}

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        goal = position_of(state, f"object/{self.target}_position")
        return set_point(self.stride.towards(goal, *motion(state)), 0.0)
