"""Bring the TCP to a point in the air."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.types import Array, Arrays, Judgement, Observation, ResetRequest
from sim.tasks.reward import RewardRule, distance, nearness
from sim.tasks.starts import Starts


class Reach:
    """The target lies anywhere in a box; reached within ``tolerance_m`` at less than ``max_speed_m_s``."""

    def __init__(
        self,
        target: str = "target",
        lower_m: Sequence[float] = (0.4, -0.2, 0.08),
        upper_m: Sequence[float] = (0.62, 0.2, 0.35),
        start_m: Sequence[float] = (0.48, 0.0, 0.2),
        start_spread_m: float | Sequence[float] = 0.02,
        narrow: float = 1.0,
        tolerance_m: float = 0.02,
        max_speed_m_s: float = 0.2,
        reward: str = "sparse",
    ) -> None:
        self._target = f"object/{target}_position"
        lower, upper = np.asarray(lower_m), np.asarray(upper_m)
        self._centre, self._spread = 0.5 * (lower + upper), 0.5 * (upper - lower)
        self._start, self._start_spread = tuple(start_m), start_spread_m
        self._tolerance, self._max_speed = tolerance_m, max_speed_m_s
        self._starts, self._rule = Starts(self.name, narrow), RewardRule(reward, self.progress)

    @property
    def name(self) -> str:
        return "reach"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._target, "arm0/tcp_pose", "arm0/tcp_velocity"))

    def reset_request(self, seed: int) -> ResetRequest:
        """Target and TCP are drawn by ``seed``."""
        draw = self._starts.draw(seed)
        target = draw.around(self._centre, self._spread)
        return ResetRequest(
            tcp_pose=draw.tcp_pose(self._start, self._start_spread),
            gripper_opening=0.0,
            simulator_state={self._target: target},
            operator_text=f"Target at {target.round(2).tolist()} m from the arm's base",
            seed=seed,
        )

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """Success is being there, slow."""
        state = next_observation.state
        near = distance(state[self._target], state["arm0/tcp_pose"]) <= self._tolerance
        slow = np.linalg.norm(state["arm0/tcp_velocity"][:3]) <= self._max_speed
        return self._rule.judge(bool(near and slow), observation.state, state)

    def progress(self, state: Arrays) -> float:
        """Nearness of the TCP to the target."""
        return nearness(distance(state[self._target], state["arm0/tcp_pose"]))
