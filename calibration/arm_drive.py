"""Moves an arm for its calibration, slowly and through ``Robot.command`` only, so that arbiter and safety chain hold;
as long as its operator lets it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Protocol

import numpy as np

from calibration.arm_stream import ArmStream, Stillness
from robot_rl.errors import ConfigError, ResetError, RobotError, RobotRlError
from robot_rl.geometry import geodesic_angle, pose_from_matrix, pose_interpolate, quat_xyzw_near
from robot_rl.interfaces import Robot
from robot_rl.types import ActionKind, Array, Observation, Phase, ResetRequest, TargetChunk

_AHEAD_S = 0.4  # of the path in each plan: what the arm still does should this process die
_PEAK = 1.875  # of the mean speed, in a motion of least jerk (Flash and Hogan 1985)
_SHORTEST_S = 0.5
_NEAR_M, _NEAR_RAD = 0.01, 0.05
_BRAKE_S = 0.3  # from full pace to rest when the operator lets go, and back
_WATCH_S = 0.02
_GRID_S = 0.01

_log = logging.getLogger(__name__)

Path = Callable[[float], Array]  # time [s] -> pose [7] of the TCP in the base


class Operator(Protocol):
    """Who lets an arm move by itself, as ``robot_rl.teleop.enabling`` does."""

    def ask(self, what: str) -> None:
        """Return once the arm may do ``what``; raising keeps it where it is."""
        ...

    def allows(self, now_ns: int) -> bool:
        """Whether it may move now; never waits. Raises KeyboardInterrupt to end what it does."""
        ...


class ArmDrive:
    """Drives the TCP of the arm behind ``stream``: to poses at most ``speed_m_s`` and ``speed_rad_s`` fast, along given
    paths at most ``path_m_s`` and ``path_rad_s``.

    When the ``operator`` lets go the arm comes to rest on its path, and goes on from there when it may again; without
    one it moves unwatched. Raises ConfigError for a robot whose TCP cannot be commanded.
    """

    def __init__(
        self,
        stream: ArmStream,
        operator: Operator | None = None,
        *,
        speed_m_s: float = 0.12,
        speed_rad_s: float = 0.5,
        path_m_s: float = 0.25,
        path_rad_s: float = 1.25,
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
        self._stream, self._operator, self._stillness = stream, operator, stillness or Stillness()
        self._speed, self._path_speed = (speed_m_s, speed_rad_s), (path_m_s, path_rad_s)
        self._opening: dict[str, Array] = {}

    def start(self) -> Array:
        """Reset the robot, which moves to its start; returns T_base_tcp [4, 4] there. Raises ResetError, also when the
        operator lets go before it is there."""
        with watched(self._stream.robot, self._operator):
            observation = self._stream.robot.reset(ResetRequest())
        self._stream.restart(observation)
        state = self._stream.latest.state
        self._opening = {name: np.asarray(state[f"{name}_opening"], dtype=np.float64) for name in self._gripper}
        self._stream.settle(self._stillness)
        return self._stream.here.T_base_tcp

    def move(self, T_base_tcp: Array) -> bool:
        """Go there in a straight line and stand; False where the arm ends elsewhere (a limit held it back)."""
        self._stream.step()  # whoever planned took time
        start, goal = pose_from_matrix(self._stream.here.T_base_tcp), pose_from_matrix(T_base_tcp)
        way = _apart(start, goal)
        duration = max(_SHORTEST_S, *(_PEAK * w / s for w, s in zip(way, self._speed, strict=True)))

        def path(time_s: float) -> Array:
            u = min(max(time_s / duration, 0.0), 1.0)
            return pose_interpolate(start, goal, u**3 * (10.0 - 15.0 * u + 6.0 * u**2))

        self.follow(path, duration + 0.3)
        stands = self._stream.settle(self._stillness)
        far_m, far_rad = _apart(pose_from_matrix(self._stream.here.T_base_tcp), goal)
        return bool(stands and far_m < _NEAR_M and far_rad < _NEAR_RAD)

    def follow(self, path: Path, duration_s: float) -> list[tuple[int, Array]]:
        """Follow ``path``, slower where it is faster than the arm may be; returns what was told: stamp at which it is
        due [ns], pose [7]. A tick that comes late delays the path and skips nothing of it. Raises RobotError when a
        person takes over or the arm no longer listens."""
        stream, period_s = self._stream, 1.0 / self._stream.spec.step_rate_hz
        ahead = max(round(_AHEAD_S / period_s), 1)
        slower = _stretch(path, duration_s, self._path_speed)
        told, time_s, last = [], 0.0, None
        stream.step()
        pace = float(self._may())
        while time_s < duration_s * slower:
            observation = stream.latest
            paces = self._paces(pace, ahead, period_s)
            times_s = time_s + period_s * np.cumsum(paces)
            rows = np.array([path(t / slower) for t in times_s])
            for row in rows:
                row[3:] = quat_xyzw_near(row[3:], rows[0, 3:] if last is None else last)
                last = row[3:]
            self._command(rows, observation)
            told.append((stream.end_ns(observation.step), rows[0]))
            _check(stream.step())
            time_s, pace = float(times_s[0]), float(paces[0])
        return told

    def _paces(self, pace: float, ahead: int, period_s: float) -> Array:
        """Share of full pace [ahead] in the coming steps, towards 1 or, when the operator lets go, towards 0."""
        towards = 1.0 if self._may() else -1.0
        return np.clip(pace + towards * period_s / _BRAKE_S * np.arange(1, ahead + 1), 0.0, 1.0)

    def _may(self) -> bool:
        return self._operator is None or self._operator.allows(self._stream.robot.clock.now_ns())

    def _command(self, rows: Array, observation: Observation) -> None:
        targets = {self.part.name: rows, **{n: np.tile(v, (len(rows), 1)) for n, v in self._opening.items()}}
        chunk = TargetChunk(targets, observation.step, observation.stamp_ns, Phase.SCRIPTED)
        self._stream.robot.command(chunk)


@contextmanager
def watched(robot: Robot, operator: Operator | None) -> Iterator[None]:
    """While the block runs, ``robot`` is stopped as soon as the operator no longer lets it move; a stop that fails is
    tried again until the block ends. Raises ResetError then, or what the operator raised, however the block ended."""
    if operator is None:
        yield
        return
    ended, why = threading.Event(), list[BaseException]()

    def watch() -> None:
        try:
            while not ended.wait(_WATCH_S):
                if not operator.allows(robot.clock.now_ns()):
                    raise ResetError("the operator let go", remedy="Hold on until the arm stands at its start")
        except BaseException as error:  # the stop key as well
            why.append(error)
            _stop(robot, ended)

    thread = threading.Thread(target=watch, name="operator", daemon=True)
    thread.start()
    try:
        yield
    except RobotRlError as error:
        if why:
            raise why[0] from error
        raise
    finally:
        ended.set()
        thread.join()
    if why:
        raise why[0]


def _stop(robot: Robot, ended: threading.Event) -> None:
    """Stop it, again and again until it does or the motion has ``ended``."""
    while True:
        try:
            robot.stop()
            return
        except Exception as error:  # the arm still moves: whatever it was, the next try may reach it
            _log.warning("the arm was not stopped, trying again: %s", error)
            if ended.wait(_WATCH_S):
                return


def _check(observation: Observation) -> None:
    """Raise RobotError unless the arm does what it is told, or is held after a gap in that and will go on."""
    if observation.report is not None and observation.report.source is Phase.HUMAN:
        raise RobotError("a person took over", remedy="Start the calibration anew when the arm is free")
    if not observation.mode.startswith(("tracking", "holding")):
        raise RobotError(f"the arm went to mode '{observation.mode}'", remedy="Reset it, then calibrate anew")


def _apart(one: Array, other: Array) -> tuple[float, float]:
    """m and rad between two poses [7]."""
    return float(np.linalg.norm(other[:3] - one[:3])), float(geodesic_angle(one[3:], other[3:]))


def _stretch(path: Path, duration_s: float, most: tuple[float, float]) -> float:
    """By how much longer ``path`` has to take so that it is nowhere faster than ``most`` m/s and rad/s; 1 at least."""
    times = np.linspace(0.0, duration_s, max(round(duration_s / _GRID_S), 2))
    poses, step_s = [path(float(t)) for t in times], float(times[1])
    steps = [_apart(one, other) for one, other in pairwise(poses)]
    return max(1.0, *(float(way / (speed * step_s)) for way, speed in zip(np.max(steps, axis=0), most, strict=True)))
