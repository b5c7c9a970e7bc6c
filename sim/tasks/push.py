"""Push a puck over the table to a goal: success when it rests there."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robot_rl.types import Array, Arrays, Judgement, Observation, ResetRequest
from sim.tasks.reward import RewardRule, distance, nearness, seconds
from sim.tasks.starts import Starts, upright_pose

_LYING_M = 0.005  # from its height when it lies flat; on its edge it is higher


class Push:
    """Puck and goal start within ``spread_m`` of ``puck_centre_m`` and ``goal_centre_m`` along x and y, the fingers
    closed. Pushed when the puck lies flat, its middle within ``tolerance_m`` of the goal along x and y, and moves
    no faster than ``max_speed_m_s``: neither one that slides past nor one that is held over the goal counts."""

    def __init__(
        self,
        puck: str = "puck",
        goal: str = "goal",
        half_height_m: float = 0.015,
        puck_centre_m: Sequence[float] = (0.45, 0.0),
        goal_centre_m: Sequence[float] = (0.6, 0.0),
        spread_m: Sequence[float] = (0.04, 0.12),
        start_m: Sequence[float] = (0.4, 0.0, 0.15),
        start_spread_m: float = 0.02,
        narrow: float = 1.0,
        tolerance_m: float = 0.015,
        max_speed_m_s: float = 0.06,
        reward: str = "sparse",
    ) -> None:
        self._puck, self._goal = f"object/{puck}_pose", f"object/{goal}_position"
        self._half, self._spread = half_height_m, tuple(spread_m)
        self._puck_centre, self._goal_centre = tuple(puck_centre_m), tuple(goal_centre_m)
        self._start = (tuple(start_m), start_spread_m)
        self._tolerance, self._max_speed = tolerance_m, max_speed_m_s
        self._starts, self._rule = Starts(self.name, narrow), RewardRule(reward, self.progress)

    @property
    def name(self) -> str:
        return "push"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._puck, self._goal, "arm0/tcp_pose"))

    def reset_request(self, seed: int) -> ResetRequest:
        """Puck, goal and TCP are drawn by ``seed``."""
        draw = self._starts.draw(seed)
        puck = upright_pose((*draw.around(self._puck_centre, self._spread), self._half), 0.0)
        x, y = draw.around(self._goal_centre, self._spread)
        return ResetRequest(
            tcp_pose=draw.tcp_pose(*self._start),
            gripper_opening=0.0,
            simulator_state={self._puck: puck, self._goal: puck[:3] * 0.0 + (x, y, 0.001)},
            operator_text=f"Puck at ({puck[0]:.2f}, {puck[1]:+.2f}) m, goal at ({x:.2f}, {y:+.2f}) m from the base",
            seed=seed,
        )

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """Success is a puck at rest on the goal."""
        before, after = observation.state, next_observation.state
        moved = distance(before[self._puck], after[self._puck])
        rests = moved <= self._max_speed * seconds(observation, next_observation)
        lies = bool(abs(after[self._puck][2] - self._half) <= _LYING_M)
        return self._rule.judge(rests and lies and self._off_goal(after) <= self._tolerance, before, after)

    def progress(self, state: Arrays) -> float:
        """Nearness of the TCP to the puck, and of the puck to the goal."""
        reached = nearness(distance(state[self._puck], state["arm0/tcp_pose"]))
        return 0.2 * reached + 0.8 * nearness(self._off_goal(state), 0.2)

    def _off_goal(self, state: Arrays) -> float:
        puck, goal = state[self._puck], state[self._goal]
        return math.hypot(puck[0] - goal[0], puck[1] - goal[1])
