"""Put a cube into a bin: success when it lies there and the hand is away."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.types import Array, Arrays, Judgement, Observation, ResetRequest
from sim.tasks.reward import RewardRule, distance, nearness, seconds
from sim.tasks.starts import Starts, upright_pose


class PickPlace:
    """The cube starts within ``cube_spread_m`` of ``cube_centre_m`` along x and y, turned by any angle; the bin, open
    to the top, within ``bin_spread_m`` of ``bin_centre_m``. Placed when the cube's middle is within ``inside_m`` of
    the bin's along x and y and below ``rim_m``, slower than ``max_speed_m_s`` and ``clear_m`` from the TCP."""

    def __init__(
        self,
        cube: str = "cube",
        bin: str = "bin",
        half_edge_m: float = 0.02,
        cube_centre_m: Sequence[float] = (0.5, -0.13),
        cube_spread_m: Sequence[float] = (0.1, 0.07),
        bin_centre_m: Sequence[float] = (0.5, 0.16),
        bin_spread_m: Sequence[float] = (0.08, 0.06),
        start_m: Sequence[float] = (0.48, 0.0, 0.2),
        start_spread_m: float = 0.02,
        narrow: float = 1.0,
        inside_m: float = 0.065,
        rim_m: float = 0.03,
        clear_m: float = 0.05,
        max_speed_m_s: float = 0.02,
        reward: str = "sparse",
    ) -> None:
        self._cube, self._bin = f"object/{cube}_pose", f"object/{bin}_pose"
        self._half, self._cube_range = half_edge_m, (tuple(cube_centre_m), tuple(cube_spread_m))
        self._bin_range, self._start = (tuple(bin_centre_m), tuple(bin_spread_m)), (tuple(start_m), start_spread_m)
        self._inside, self._rim, self._clear, self._max_speed = inside_m, rim_m, clear_m, max_speed_m_s
        self._starts, self._rule = Starts(self.name, narrow), RewardRule(reward, self.progress)

    @property
    def name(self) -> str:
        return "pick_place"

    @property
    def requires(self) -> frozenset[str]:
        return frozenset((self._cube, self._bin, "arm0/tcp_pose"))

    def reset_request(self, seed: int) -> ResetRequest:
        """Cube, its yaw, bin and TCP are drawn by ``seed``."""
        draw = self._starts.draw(seed)
        x, y = draw.around(*self._cube_range)
        cube = upright_pose((x, y, self._half), draw.angle())
        box = upright_pose((*draw.around(*self._bin_range), 0.0), 0.0)
        return ResetRequest(
            tcp_pose=draw.tcp_pose(*self._start),
            simulator_state={self._cube: cube, self._bin: box},
            operator_text=f"Cube at ({x:.2f}, {y:+.2f}) m, bin at ({box[0]:.2f}, {box[1]:+.2f}) m from the arm's base",
            seed=seed,
        )

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        """Success is a cube that lies in the bin, let go."""
        before, after = observation.state, next_observation.state
        moved = distance(before[self._cube], after[self._cube])
        rests = moved <= self._max_speed * seconds(observation, next_observation)
        clear = distance(after[self._cube], after["arm0/tcp_pose"]) >= self._clear
        return self._rule.judge(rests and clear and self._lies_inside(after), before, after)

    def progress(self, state: Arrays) -> float:
        """Nearness of the TCP to the cube, share of the height at which it passes the wall, nearness to the bin; the
        first two are kept once the cube is over the bin, where it is let go."""
        cube, box = state[self._cube], state[self._bin]
        there = self._over(state)
        reached = 1.0 if there else nearness(distance(cube, state["arm0/tcp_pose"]))
        risen = 1.0 if there else min(max(float(cube[2]) - self._half, 0.0) / (self._rim + self._half), 1.0)
        near = nearness(float(abs(cube[:2] - box[:2]).max()), 0.2)
        return 0.3 * reached + 0.3 * risen + 0.3 * near + 0.1 * self._lies_inside(state)

    def _over(self, state: Arrays) -> bool:
        offset = state[self._cube] - state[self._bin]
        return bool(max(abs(offset[0]), abs(offset[1])) <= self._inside)

    def _lies_inside(self, state: Arrays) -> bool:
        return self._over(state) and bool(state[self._cube][2] - state[self._bin][2] <= self._rim)
