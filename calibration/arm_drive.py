"""Moves an arm for its calibration, slowly and through ``Robot.command`` only, so that its safety chain holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calibration.arm_stream import ArmStream, Stillness
from robot_rl.errors import ConfigError, RobotError
from robot_rl.geometry import geodesic_angle, pose_from_matrix, pose_interpolate, quat_xyzw_near
from robot_rl.types import ActionKind, Array, Phase, ResetRequest, TargetChunk

_AHEAD_S = 0.4  # of the path in each plan: what the arm still does should this process die
_PEAK = 1.875  # of the mean speed, in a motion of least jerk (Flash and Hogan 1985)
_SHORTEST_S = 0.5
_NEAR_M, _NEAR_RAD = 0.01, 0.05


class ArmDrive:
    """Drives the TCP of the arm behind ``stream``, at most ``speed_m_s`` and ``speed_rad_s`` fast.

    Raises ConfigError for a robot whose TCP cannot be commanded.
    """

    def __init__(
        self,
        stream: ArmStream,
        *,
        speed_m_s: float = 0.12,
        speed_rad_s: float = 0.5,
        stillness: Stillness | None = None,
    ) -> None:
        parts = {part.kind: part for part in stream.spec.action.parts}
        if ActionKind.TCP_POSE not in parts:
            raise ConfigError(
                f"robot '{stream.spec.robot}' takes {', '.join(p.name for p in stream.spec.action.parts)}",
                limit="a pose of the TCP",
                remedy="Choose another controller=, or drive=false and move it by hand",
            )
        self.part = parts[ActionKind.TCP_POSE]
        self._gripper = [p.name for p in stream.spec.action.parts if p.kind is ActionKind.GRIPPER]
        self._stream, self._speed, self._stillness = stream, (speed_m_s, speed_rad_s), stillness or Stillness()
        self._opening: dict[str, Array] = {}

    def start(self) -> Array:
        """Reset the robot, which moves to its start; returns T_base_tcp [4, 4] there. Raises ResetError."""
        self._stream.restart(self._stream.robot.reset(ResetRequest()))
        state = self._stream.latest.state
        self._opening = {name: np.asarray(state[f"{name}_opening"], dtype=np.float64) for name in self._gripper}
        self._stream.settle(self._stillness)
        return self._stream.here.T_base_tcp

    def move(self, T_base_tcp: Array) -> bool:
        """Go there in a straight line and stand; False where the arm ends elsewhere (a limit held it back)."""
        start, goal = pose_from_matrix(self._stream.here.T_base_tcp), pose_from_matrix(T_base_tcp)
        way = float(np.linalg.norm(goal[:3] - start[:3])), float(geodesic_angle(start[3:], goal[3:]))
        duration = max(_SHORTEST_S, *(_PEAK * w / s for w, s in zip(way, self._speed, strict=True)))

        def path(time_s: float) -> Array:
            u = min(max(time_s / duration, 0.0), 1.0)
            return pose_interpolate(start, goal, u**3 * (10.0 - 15.0 * u + 6.0 * u**2))

        self.follow(path, duration + 0.3)
        stands = self._stream.settle(self._stillness)
        here = pose_from_matrix(self._stream.here.T_base_tcp)
        near = np.linalg.norm(here[:3] - goal[:3]) < _NEAR_M and geodesic_angle(here[3:], goal[3:]) < _NEAR_RAD
        return bool(stands and near)

    def follow(self, path: Callable[[float], Array], duration_s: float) -> list[tuple[int, Array]]:
        """Follow ``path``, time [s] -> pose [7] of the TCP in the base; returns what was told: stamp at which it is due
        [ns], pose [7]. Raises RobotError when a person takes over or the arm no longer listens."""
        stream, period = self._stream, self._stream.spec.step_period_ns
        ahead = max(round(_AHEAD_S * stream.spec.step_rate_hz), 1)
        start_ns, told, observation, last = stream.latest.stamp_ns, [], stream.latest, None
        while observation.stamp_ns < start_ns + duration_s * 1e9:
            due = observation.stamp_ns + period * np.arange(1, ahead + 1)
            rows = np.array([path(1e-9 * (stamp - start_ns)) for stamp in due])
            for row in rows:
                row[3:] = quat_xyzw_near(row[3:], rows[0, 3:] if last is None else last)
                last = row[3:]
            targets = {self.part.name: rows, **{n: np.tile(v, (ahead, 1)) for n, v in self._opening.items()}}
            stream.robot.command(TargetChunk(targets, observation.step, observation.stamp_ns, Phase.SCRIPTED))
            told.append((int(due[0]), rows[0]))
            observation = stream.step()
            if observation.report is not None and observation.report.source is Phase.HUMAN:
                raise RobotError("a person took over", remedy="Start the calibration anew when the arm is free")
            if observation.mode != "tracking":
                raise RobotError(f"the arm went to mode '{observation.mode}'", remedy="Reset it, then calibrate anew")
        return told
