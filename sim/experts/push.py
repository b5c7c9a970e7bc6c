"""Go behind a puck, seen from its goal, and push it there with closed fingers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robot_rl.types import Array, Arrays, ArraySpec
from sim.experts.stride import (
    BODY_POSE,
    MARKER_POSITION,
    TCP_POSE,
    TCP_TWIST,
    Stride,
    funnel,
    motion,
    position_of,
    set_point,
)


@dataclass(frozen=True)
class PushExpert:
    """Down a funnel to a point ``behind_m`` from the puck's middle, then towards the goal for as long as the TCP stays
    behind; where the puck slips aside, up and behind again."""

    puck: str = "puck"
    goal: str = "goal"
    height_m: float = 0.018  # of the TCP when pushing
    behind_m: float = 0.055  # from the puck's middle, clear of it
    contact_m: float = 0.042  # from the puck's middle when the fingers touch it
    hover_m: float = 0.07
    funnel_slope: float = 5.0
    funnel_radius_m: float = 0.01
    max_aside: float = 0.5  # share of the distance to the puck that the TCP may be beside the line of the push
    low_m: float = 0.012  # above the height of the push: higher up the fingers would tilt the puck
    arrived_m: float = 0.006  # this near to the goal nothing is left to push
    push_speed_m_s: float = 0.12
    steer: float = 1.0  # how far to the other side of the line the TCP aims, per distance beside it
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {
            "arm0/tcp_pose": TCP_POSE,
            "arm0/tcp_velocity": TCP_TWIST,
            f"object/{self.puck}_pose": BODY_POSE,
            f"object/{self.goal}_position": MARKER_POSITION,
        }

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        puck, goal = position_of(state, f"object/{self.puck}_pose"), position_of(state, f"object/{self.goal}_position")
        tcp, velocity = motion(state)
        way = (goal - puck)[:2]
        left = math.hypot(*way)
        if left < self.arrived_m:
            return set_point(tcp, 0.0)
        ahead = way / left
        if self._is_behind(tcp, puck, ahead):
            aim = self._push(tcp, puck, ahead, left)
        else:
            start = np.array([*(puck[:2] - self.behind_m * ahead), self.height_m])
            aim = funnel(tcp, start, self.hover_m, self.funnel_slope, self.funnel_radius_m)
        return set_point(self.stride.towards(aim, tcp, velocity), 0.0)

    def _is_behind(self, tcp: Array, puck: Array, ahead: Array) -> bool:
        """Whether the TCP is low and behind the puck."""
        offset = tcp - puck
        along = -float(offset[:2] @ ahead)
        aside = abs(float(offset[0] * ahead[1] - offset[1] * ahead[0]))
        near = 0.0 < along < self.behind_m + 2.0 * self.funnel_radius_m
        return near and aside < self.max_aside * along and tcp[2] < self.height_m + self.low_m

    def _push(self, tcp: Array, puck: Array, ahead: Array, left: float) -> Array:
        """On the line through puck and goal, ahead of the contact by what is left, at most by what gives the speed; to
        its other side where the TCP is beside it, as a puck pushed off its middle turns away further."""
        reach = min(left, self.push_speed_m_s / self.stride.gain_1_s)
        offset = (tcp - puck)[:2]
        aside = offset - (offset @ ahead) * ahead
        return np.array([*(puck[:2] + (reach - self.contact_m) * ahead - self.steer * aside), self.height_m])
