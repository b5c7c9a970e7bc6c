"""Lift a cube off the table: success when it is held high enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

from robot_rl.types import Array, Arrays, Judgement, Observation, ResetRequest
from sim.tasks.reward import RewardRule, distance, nearness, seconds
from sim.tasks.starts import Starts, upright_pose


class Lift:
    """The cube starts anywhere within ``spread_m`` of ``centre_m`` along x and y, turned by any angle; it counts as
    lifted ``lift_m`` above its rest while it is held: within ``reach_m`` of the TCP, keeping the fingers apart and
    slipping between them at ``max_slip_m_s`` at most, so that a throw does not count."""

    def __init__(
        self,
        cube: str = "cube",
        half_edge_m: float = 0.02,
        centre_m: Sequence[float] = (0.5, 0.0),
        spread_m: float = 0.1,
        start_m: Sequence[float] = (0.48, 0.0, 0.2),
        start_spread_m: float = 0.02,
        narrow: float = 1.0,
        lift_m: float = 0.05,
        reach_m: float = 0.03,
        min_opening: float = 0.3,
        max_slip_m_s: float = 0.04,
        reward: str = "sparse",
    ) -> None:
        self._pose = f"object/{cube}_pose"
        self._half, self._centre, self._spread = half_edge_m, tuple(centre_m), spread_m
        self._start, self._start_spread = tuple(start_m), start_spread_m
        self._lift, self._reach, self._min_opening, self._max_slip = lift_m, reach_m, min_opening, max_slip_m_s
        self._starts, self._rule = Starts(self.name, narrow), RewardRule(reward, self.progress)

    @property
    def name(self) -> str:
        return "lift"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._pose, "arm0/tcp_pose", "arm0/gripper_opening"))

    def reset_request(self, seed: int) -> ResetRequest:
        """Cube, its yaw and the TCP are drawn by ``seed``."""
        draw = self._starts.draw(seed)
        x, y = draw.around(self._centre, self._spread)
        cube = upright_pose((x, y, self._half), draw.angle())
        return ResetRequest(
            tcp_pose=draw.tcp_pose(self._start, self._start_spread),
            simulator_state={self._pose: cube},
            operator_text=f"Put the cube {x:.2f} m in front of and {y:+.2f} m beside the arm's base",
            seed=seed,
        )

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """Success is a cube held high."""
        state = next_observation.state
        success = float(state[self._pose][2]) >= self._half + self._lift and self._held(observation, next_observation)
        return self._rule.judge(success, observation.state, state)

    def progress(self, state: Arrays) -> float:
        """Nearness of the TCP to the cube, then the share of the lift."""
        risen = min(max(float(state[self._pose][2]) - self._half, 0.0) / self._lift, 1.0)
        return 0.5 * nearness(distance(state[self._pose], state["arm0/tcp_pose"])) + 0.5 * risen

    def _held(self, observation: Observation, next_observation: Observation) -> bool:
        """Whether there is something between the fingers, near the TCP, that moves with it."""
        apart = float(next_observation.state["arm0/gripper_opening"][0]) >= self._min_opening
        offset = self._offset(next_observation.state)
        slip = math.dist(offset, self._offset(observation.state))
        firm = slip <= self._max_slip * seconds(observation, next_observation)
        return apart and firm and math.hypot(*offset) <= self._reach

    def _offset(self, state: Arrays) -> Array:
        """From the TCP to the cube [3] m."""
        return state[self._pose][:3] - state["arm0/tcp_pose"][:3]
