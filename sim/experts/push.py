"""Go behind a puck, seen from its goal, and push it there with closed fingers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from robot_rl.types import Array, Arrays, ArraySpec
from sim.experts.stride import MOTION, Stride, bodies, funnel, markers, motion, position_of, set_point


@dataclass(frozen=True)
class PushExpert:
    """Down a funnel to where the fingers are ``gap_m`` behind the puck, then towards the goal for as long as the TCP
    stays behind; where the puck slips aside, up and behind again. A round puck rolls along a flat finger, so that a
    push across is one with the finger's edge."""

    puck: str = "puck"
    goal: str = "goal"
    radius_m: float = 0.03  # of the puck
    fingers_m: tuple[float, float] = (0.01, 0.012)  # half the width of the closed fingers along x and y
    height_m: float = 0.024  # of the TCP when pushing: fingertips below it stay off the table
    gap_m: float = 0.015
    hover_m: float = 0.07
    funnel_slope: float = 5.0
    funnel_radius_m: float = 0.008
    max_aside_m: float = 0.02  # beside the line of the push
    low_m: float = 0.012  # above the height of the push: higher up the fingers would tilt the puck
    arrived_m: float = 0.006  # this near to the goal nothing is left to push
    push_speed_m_s: float = 0.12
    steer: float = 1.0  # how far to the other side of the line the TCP aims, per distance beside it
    stride: Stride = field(default_factory=Stride)

    @property
    def observation(self) -> Mapping[str, ArraySpec]:
        """What it reads."""
        return {**MOTION, **bodies(self.puck), **markers(self.goal)}

    def set_point(self, state: Arrays) -> dict[str, Array]:
        """Absolute targets {part: [k]} of the next step."""
        puck, goal = position_of(state, f"object/{self.puck}_pose"), position_of(state, f"object/{self.goal}_position")
        tcp, velocity = motion(state)
        way = (goal - puck)[:2]
        left = math.hypot(*way)
        if left < self.arrived_m:
            return set_point(tcp, 0.0)
        ahead = way / left
        touch = self._touch(puck, ahead)
        if self._is_behind(tcp, touch, ahead):
            aim = self._push(tcp, touch, ahead, left)
        else:
            start = touch - self.gap_m * np.array([*ahead, 0.0])
            aim = funnel(tcp, start, self.hover_m, self.funnel_slope, self.funnel_radius_m)
        return set_point(self.stride.towards(aim, tcp, velocity), 0.0)

    def _touch(self, puck: Array, ahead: Array) -> Array:
        """Where the TCP is [3] when the fingers touch the puck right behind its middle: with a side where the push goes
        along an axis, with an edge where it goes across."""
        edge = np.clip(3.0 * ahead, -1.0, 1.0) * self.fingers_m
        return np.array([*(puck[:2] - self.radius_m * ahead - edge), self.height_m])

    def _is_behind(self, tcp: Array, touch: Array, ahead: Array) -> bool:
        """Whether the TCP is low and near to where it touches the puck, not much past it."""
        offset = (tcp - touch)[:2]
        behind, beside = -float(offset @ ahead), abs(float(offset[0] * ahead[1] - offset[1] * ahead[0]))
        near = -self.gap_m < behind < self.gap_m + 2.0 * self.funnel_radius_m
        return near and beside < self.max_aside_m and tcp[2] < self.height_m + self.low_m

    def _push(self, tcp: Array, touch: Array, ahead: Array, left: float) -> Array:
        """Ahead of the touch by what is left, at most by what gives the speed; to the other side of the line where the
        TCP is beside it, as a puck pushed off its middle turns away further."""
        reach = min(left, self.push_speed_m_s / self.stride.gain_1_s)
        offset = (tcp - touch)[:2]
        aside = offset - (offset @ ahead) * ahead
        return touch + np.array([*(reach * ahead - self.steer * aside), 0.0])
