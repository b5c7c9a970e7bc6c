"""Straight to a point in the air."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from robot_rl.types import Array, Arrays, ArraySpec
from sim.experts.stride import MARKER_POSITION, TCP_POSE, TCP_TWIST, Stride, motion, position_of, set_point


@dataclass(frozen=True)
class ReachExpert:
    """Straight to the marker ``target``, gripper closed."""

    target: str = "target"
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {
            "arm0/tcp_pose": TCP_POSE,
            "arm0/tcp_velocity": TCP_TWIST,
            f"object/{self.target}_position": MARKER_POSITION,
        }

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        goal = position_of(state, f"object/{self.target}_position")
        return set_point(self.stride.towards(goal, *motion(state)), 0.0)
