"""Bring the TCP to a point in the air."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.types import Array, Judgement, Observation, ResetRequest
from sim.tasks.starts import start_generator, start_pose


class Reach:
    """The target lies anywhere in a box; reached within ``tolerance_m`` at less than ``max_speed_m_s``."""

    def __init__(
        self,
        target: str = "target",
        lower_m: Sequence[float] = (0.4, -0.2, 0.08),
        upper_m: Sequence[float] = (0.62, 0.2, 0.35),
        start_m: Sequence[float] = (0.48, 0.0, 0.2),
        start_spread_m: float = 0.02,
        tolerance_m: float = 0.02,
        max_speed_m_s: float = 0.2,
    ) -> None:
        self._target = f"object/{target}_position"
        self._lower, self._upper = tuple(lower_m), tuple(upper_m)
        self._start, self._start_spread = tuple(start_m), start_spread_m
        self._tolerance, self._max_speed = tolerance_m, max_speed_m_s

    @property
    def name(self) -> str:
        return "reach"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._target, "arm0/tcp_pose", "arm0/tcp_velocity"))

    def reset_request(self, seed: int) -> ResetRequest:
        """Target and TCP are drawn by ``seed``."""
        rng = start_generator(self.name, seed)
        target = rng.uniform(self._lower, self._upper)
        return ResetRequest(
            tcp_pose=start_pose(rng, self._start, self._start_spread),
            gripper_opening=0.0,
            simulator_state={self._target: target},
            operator_text=f"Target at {target.round(2).tolist()} m from the arm's base",
            seed=seed,
        )

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """1 at success, which ends the episode."""
        state = next_observation.state
        distance = np.linalg.norm(state[self._target] - state["arm0/tcp_pose"][:3])
        speed = np.linalg.norm(state["arm0/tcp_velocity"][:3])
        success = bool(distance <= self._tolerance and speed <= self._max_speed)
        return Judgement(float(success), success, success)
