"""Put a peg that is already grasped into a hole: success when its tip is deep enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robot_rl.geometry import quat_xyzw_rotate
from robot_rl.types import Array, Arrays, Judgement, Observation, ResetRequest
from sim.tasks.reward import RewardRule, nearness
from sim.tasks.starts import Starts, upright_pose

_UPRIGHT_IN_TCP = (1.0, 0.0, 0.0, 0.0)  # the tool points down, the peg's axis up


class PegInsert:
    """The middle of the hole's rim lies within ``hole_spread_m`` of ``centre_m`` along x and y, the block is turned by
    up to ``hole_yaw_rad``; the TCP starts within ``start_spread_m`` of ``start_m`` with the peg in the closed fingers,
    ``grasp_m`` below the TCP and off by up to ``grasp_spread_m`` along x and z.

    Inserted when the tip is ``depth_m`` below the rim and, so that beside the block does not count, within
    ``lateral_m`` of the hole's axis.
    """

    def __init__(
        self,
        peg: str = "peg",
        hole: str = "hole",
        peg_half_length_m: float = 0.03,
        rim_height_m: float = 0.04,
        centre_m: Sequence[float] = (0.52, 0.0),
        hole_spread_m: float = 0.05,
        hole_yaw_rad: float = 0.0,
        start_m: Sequence[float] = (0.48, 0.0, 0.18),
        start_spread_m: float = 0.03,
        grasp_m: float = 0.02,
        grasp_spread_m: float = 0.002,
        narrow: float = 1.0,
        depth_m: float = 0.02,
        lateral_m: float = 0.005,
        reward: str = "sparse",
    ) -> None:
        self._peg, self._held = f"object/{peg}_pose", f"object/{peg}_held"
        self._hole = f"object/{hole}_pose"
        self._half_length, self._rim = peg_half_length_m, rim_height_m
        self._centre, self._hole_spread, self._yaw = tuple(centre_m), hole_spread_m, hole_yaw_rad
        self._start, self._start_spread = tuple(start_m), start_spread_m
        self._grasp, self._grasp_spread = (0.0, grasp_m), grasp_spread_m
        self._depth, self._lateral = depth_m, lateral_m
        self._starts, self._rule = Starts(self.name, narrow), RewardRule(reward, self.progress)

    @property
    def name(self) -> str:
        return "peg_insert"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._peg, self._hole))

    def reset_request(self, seed: int) -> ResetRequest:
        """Hole, TCP and grasp are drawn by ``seed``."""
        draw = self._starts.draw(seed)
        x, y = draw.around(self._centre, self._hole_spread)
        hole = upright_pose((x, y, self._rim), draw.angle(self._yaw))
        tcp = draw.tcp_pose(self._start, self._start_spread)
        beside, below = draw.around(self._grasp, self._grasp_spread)
        return ResetRequest(
            tcp_pose=tcp,
            gripper_opening=0.0,
            simulator_state={self._hole: hole, self._held: np.array([beside, 0.0, below, *_UPRIGHT_IN_TCP])},
            operator_text=f"Peg into the gripper, hole {x:.2f} m in front of and {y:+.2f} m beside the arm's base",
            seed=seed,
        )

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """Success is a tip deep in the hole."""
        beside, depth = self._tip(next_observation.state)
        success = depth >= self._depth and beside <= self._lateral
        return self._rule.judge(success, observation.state, next_observation.state)

    def progress(self, state: Arrays) -> float:
        """Nearness of the tip to the rim's middle, then the share of the depth."""
        beside, depth = self._tip(state)
        above = nearness(math.hypot(beside, min(depth, 0.0)))
        inside = min(max(depth, 0.0) / self._depth, 1.0) if beside <= self._lateral else 0.0
        return 0.5 * above + 0.5 * inside

    def _tip(self, state: Arrays) -> tuple[float, float]:
        """Of the tip: distance from the hole's axis, depth below its rim [m]."""
        peg, hole = state[self._peg], state[self._hole]
        x, y, z = peg[:3] - self._half_length * quat_xyzw_rotate(peg[3:], _UP) - hole[:3]
        return math.hypot(x, y), -float(z)


_UP = np.array([0.0, 0.0, 1.0])
