"""Lift a cube off the table: success when it is held high enough."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robot_rl.types import Array, Judgement, Observation, ResetRequest
from sim.tasks.starts import start_generator, start_pose


class Lift:
    """The cube starts anywhere within ``spread_m`` of ``centre_m`` along x and y, turned by any angle; it counts as
    lifted ``lift_m`` above its rest while it is held: within ``reach_m`` of the TCP, keeping the fingers apart and its
    place between them within ``max_slip_m`` per step, so that a throw does not count."""

    def __init__(
        self,
        cube: str = "cube",
        half_edge_m: float = 0.02,
        centre_m: Sequence[float] = (0.5, 0.0),
        spread_m: float = 0.1,
        start_m: Sequence[float] = (0.48, 0.0, 0.2),
        start_spread_m: float = 0.02,
        lift_m: float = 0.05,
        reach_m: float = 0.03,
        min_opening: float = 0.3,
        max_slip_m: float = 0.002,
    ) -> None:
        self._pose = f"object/{cube}_pose"
        self._half, self._centre, self._spread = half_edge_m, tuple(centre_m), spread_m
        self._start, self._start_spread = tuple(start_m), start_spread_m
        self._lift, self._reach, self._min_opening, self._max_slip = lift_m, reach_m, min_opening, max_slip_m

    @property
    def name(self) -> str:
        return "lift"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._pose, "arm0/tcp_pose", "arm0/gripper_opening"))

    def reset_request(self, seed: int) -> ResetRequest:
        """Cube, its yaw and the TCP are drawn by ``seed``."""
        rng = start_generator(self.name, seed)
        x, y = np.asarray(self._centre) + rng.uniform(-self._spread, self._spread, size=2)
        yaw = rng.uniform(-math.pi, math.pi)
        cube = np.array([x, y, self._half, 0.0, 0.0, math.sin(0.5 * yaw), math.cos(0.5 * yaw)])
        return ResetRequest(
            tcp_pose=start_pose(rng, self._start, self._start_spread),
            simulator_state={self._pose: cube},
            operator_text=f"Put the cube {x:.2f} m in front of and {y:+.2f} m beside the arm's base",
            seed=seed,
        )

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """1 at success, which ends the episode."""
        state, offset = next_observation.state, self._offset(next_observation)
        high = state[self._pose][2] >= self._half + self._lift
        apart = state["arm0/gripper_opening"][0] >= self._min_opening
        slip = np.linalg.norm(offset - self._offset(observation))
        success = bool(high and apart and np.linalg.norm(offset) <= self._reach and slip <= self._max_slip)
        return Judgement(float(success), success, success)

    def _offset(self, observation: Observation) -> Array:
        """From the TCP to the cube [3] m."""
        return observation.state[self._pose][:3] - observation.state["arm0/tcp_pose"][:3]
