"""A simulated arm with what calibration looks for: cameras with lenses, boards, images that come late, encoders that
are off. All of it is known, so that what calibration finds can be held against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.geometry import pose_inverse, pose_multiply
from robot_rl.types import (
    Array,
    Arrays,
    CameraSpec,
    CommandReport,
    EnvSpec,
    Frame,
    Observation,
    ResetRequest,
    TargetChunk,
)
from sim.calibration_cell import CalibrationCell
from sim.mujoco_robot import MujocoRobot, SimulationClock
from sim.world import TCP

_JOINTS, _SPEEDS, _TCP = "arm0/joint_position", "arm0/joint_velocity", "arm0/tcp_pose"
_KEPT_S = 2.0


class CalibrationRobot:
    """``robot`` seen by the cameras of ``cell``, and with its encoders.

    The joints are at q + ``joint_offset_rad`` where the encoders say q; the TCP's pose is told, and followed, by the
    encoders. An image stamped t shows the arm at t - ``delay_s``; cameras take ``camera_rate_hz`` images a second, each
    drawn when it is looked at. Raises ConfigError for offsets of another number of joints.
    """

    def __init__(
        self, robot: MujocoRobot, cell: CalibrationCell, *, delay_s: float = 0.0, camera_rate_hz: float = 30.0,
        joint_offset_rad: Sequence[float] = (),
    ) -> None:  # fmt: skip
        dof = cell.chain.dof
        if len(joint_offset_rad) not in (0, dof):
            raise ConfigError(f"{len(joint_offset_rad)} joint offsets", limit=f"none or {dof}")
        self.cell, self.delay_s = cell, delay_s
        self.joint_offset_rad = np.array(joint_offset_rad or [0.0] * dof)
        self._robot, self._period_ns = robot, round(1e9 / camera_rate_hz)
        self._past: list[Observation] = []
        self._spec: EnvSpec | None = None

    @property
    def clock(self) -> SimulationClock:
        return self._robot.clock

    def connect(self) -> EnvSpec:
        """Compile scene and laws, once."""
        if self._spec is None:
            cameras = {
                name: CameraSpec(
                    c.lens.height, c.lens.width, 1e9 / self._period_ns, codec="raw", frame=f"{name}_optical"
                )
                for name, c in self.cell.cameras.items()
            }
            self._spec = replace(self._robot.connect(), robot="sim_calibration", cameras=cameras)
        return self._spec

    def read(self) -> Observation:
        """What encoders and cameras tell of the running step."""
        true = self._robot.read()
        if not self._past or true.stamp_ns > self._past[-1].stamp_ns:
            self._past = [seen for seen in self._past if seen.stamp_ns > true.stamp_ns - _KEPT_S * 1e9] + [true]
        told = np.asarray(true.state[_JOINTS], dtype=np.float64) - self.joint_offset_rad
        state = {**true.state, _JOINTS: told.astype(np.float32)}
        report = true.report
        if self.joint_offset_rad.any():
            state[_TCP] = self.cell.chain.pose(told).astype(np.float32)
            report = None if report is None else _told(report, pose_inverse(self._error()))
        taken_ns = true.stamp_ns - true.stamp_ns % self._period_ns
        return replace(true, state=state, report=report, frames=_Frames(self, taken_ns))

    def command(self, chunk: TargetChunk) -> None:
        """Targets by the encoders, as those that bring the true arm there. Raises CommandRefusedError."""
        if self.joint_offset_rad.any() and TCP in chunk.targets:
            chunk = replace(chunk, targets=_moved(chunk.targets, self._error()))
        self._robot.command(chunk)

    def reset(self, request: ResetRequest) -> Observation:
        """As the arm itself does. Raises ResetError."""
        self._past.clear()
        self._robot.reset(request)
        return self.read()

    def stop(self) -> None:
        """Brake to hold."""
        self._robot.stop()

    def close(self) -> None:
        """Stop and release world and renderers."""
        self._robot.close()
        self.cell.close()

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def draw(self, camera: str, taken_ns: int) -> Frame:
        """The image of a camera stamped ``taken_ns``."""
        image = self.cell.draw(camera, self._joints_at(taken_ns - round(1e9 * self.delay_s)))
        height, width = image.shape[:2]
        return Frame(image.tobytes(), taken_ns, taken_ns // self._period_ns, height, width, codec="raw")

    def _joints_at(self, stamp_ns: int) -> Array:
        """True positions [n] rad at a time of the last seconds: cubic between what was measured (Hermite)."""
        stamps = [seen.stamp_ns for seen in self._past]
        after = int(np.searchsorted(stamps, stamp_ns))
        if after in (0, len(stamps)):
            return np.asarray(self._past[min(after, len(stamps) - 1)].state[_JOINTS], dtype=np.float64)
        one, other = self._past[after - 1], self._past[after]
        span_s = (other.stamp_ns - one.stamp_ns) * 1e-9
        u = (stamp_ns - one.stamp_ns) * 1e-9 / span_s
        (p0, v0), (p1, v1) = (
            (np.asarray(seen.state[_JOINTS], dtype=np.float64), np.asarray(seen.state[_SPEEDS], dtype=np.float64))
            for seen in (one, other)
        )
        ease = u * u * (3.0 - 2.0 * u)
        return p0 + ease * (p1 - p0) + span_s * u * (1.0 - u) * ((1.0 - u) * v0 - u * v1)

    def _error(self) -> Array:
        """The pose [7] of the true TCP in the one that the encoders tell."""
        true = np.asarray(self._robot.read().state[_JOINTS], dtype=np.float64)
        told = self.cell.chain.pose(true - self.joint_offset_rad)
        return pose_multiply(pose_inverse(told), self.cell.chain.pose(true))


class _Frames(Mapping[str, Frame]):
    """The images of one observation, each drawn when it is asked for."""

    def __init__(self, robot: CalibrationRobot, taken_ns: int) -> None:
        self._robot, self._taken_ns, self._drawn = robot, taken_ns, dict[str, Frame]()

    def __getitem__(self, camera: str) -> Frame:
        if camera not in self._robot.cell.cameras:
            raise KeyError(camera)
        if camera not in self._drawn:
            self._drawn[camera] = self._robot.draw(camera, self._taken_ns)
        return self._drawn[camera]

    def __iter__(self) -> Iterator[str]:
        return iter(self._robot.cell.cameras)

    def __len__(self) -> int:
        return len(self._robot.cell.cameras)


def _moved(targets: Arrays, error: Array) -> dict[str, Array]:
    """Targets {part: [..., k]} with the TCP's poses [..., 7] composed with ``error`` [7]."""
    poses = np.asarray(targets[TCP], dtype=np.float64)
    return {**targets, TCP: pose_multiply(poses, np.broadcast_to(error, poses.shape))}


def _told(report: CommandReport, error: Array) -> CommandReport:
    """A report in terms of the encoders."""
    human = None if report.human is None else _moved(report.human, error)
    commanded, executed = _moved(report.commanded, error), _moved(report.executed, error)
    return replace(report, commanded=commanded, executed=executed, human=human)
