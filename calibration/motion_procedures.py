"""Procedures that live on motion: how late a camera's images and the arm's actions are, and where the tool's tip is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration import figures
from calibration.action_latency import ActionLatency, action_latency, chirp
from calibration.arm_stream import Stillness
from calibration.boards import MIN_CORNERS, CharucoBoard
from calibration.outcome import Line, Outcome
from calibration.pose_plan import apart
from calibration.procedure import Bench, Kinematics, recorded_sight, sight_facts
from calibration.recording import Recording
from calibration.rig import Mount
from calibration.samples import ArmSample, BoardPose, BoardView
from calibration.storage import Calibration, FrameTransform
from calibration.time_offset import TimeOffset, time_offset
from calibration.tool import tool_point
from calibration.view_taking import Sight, detected, encoded, image_name
from robot_rl.errors import CalibrationError
from robot_rl.geometry import pose_from_matrix, pose_multiply, se3_exp
from robot_rl.types import Array, Observation

_HZ = np.array([0.31, 0.47, 0.23, 0.37, 0.53, 0.41])  # of x y z and turns about them: no two have a common period
_REST_S = 1.0  # before and after a motion
_KEPT_IMAGES = 12
_AXIS = 1  # of the base, along which the chirp runs
_CHIRP_HZ = (0.3, 1.5)
_DIFFERENT = 0.2  # poses of a pivoted tool


@dataclass(frozen=True)
class TimeProcedure:
    """How late the images of a camera are stamped, and how late the arm follows its targets.

    The arm swings by ``swing_m`` and ``swing_rad`` to all sides for ``duration_s``, then follows a chirp of
    ``chirp_m`` (0: it does not).
    """

    board: CharucoBoard
    camera: str = "wrist"
    camera_on: Mount = Mount.TCP
    duration_s: float = 14.0
    swing_m: float = 0.02
    swing_rad: float = 0.12
    chirp_m: float = 0.03
    chirp_s: float = 8.0

    @property
    def subject(self) -> str:
        return f"{self.camera}_time"

    def collect(self, bench: Bench) -> Recording:
        """Images and joints of one motion, by the arm itself or by hand. Raises CalibrationError where the camera has
        no calibrated lens or does not see the board at the start."""
        lens = bench.lens(self.camera)
        if lens is None:
            raise CalibrationError(
                f"camera '{self.camera}' has no calibrated lens",
                remedy=f"First: robot-rl calibrate camera procedure.camera={self.camera}",
            )
        sight = Sight(self.camera, Mount(self.camera_on), f"{self.camera}_board", self.board, lens)
        watch = _Watch(bench, sight, self.duration_s)
        told: list[tuple[int, Array]] = []
        if bench.drive:
            drive = bench.arm_drive(f"The arm will swing around where it starts for {self.duration_s:.0f} s")
            start = pose_from_matrix(drive.start())
            watch.check()
            with watch:
                drive.follow(self._swing(start), self.duration_s + 2.0 * _REST_S)
            if self.chirp_m > 0.0:
                bench.display.tell("measuring how late the arm follows")
                told = drive.follow(self._chirp(start), self.chirp_s + 2.0 * _REST_S)
        else:
            bench.display.tell("Turn the tool to and fro about all its axes, irregularly, with the board in view")
            watch.check()
            with watch:
                _pass(bench, self.duration_s + 2.0 * _REST_S)
        boards = {sight.board_name: self.board}
        facts = {**sight_facts(sight, True), "duration_s": self.duration_s}
        return Recording(
            "time", bench.spec.robot, self.camera, bench.stream.samples, watch.views, boards, watch.images, told, facts
        )

    def solve(self, recording: Recording, kinematics: Kinematics | None = None) -> Outcome:
        """Solve for the offset of images, and for the latency of actions where there was a chirp."""
        sight = recorded_sight(recording)
        poses = [
            BoardPose(view.camera, view.stamp_ns, sight.lens.board_pose(view, sight.board), view.board)
            for view in recording.views
            if len(view.corner_ids) >= MIN_CORNERS + 2
        ]
        found = time_offset(poses, recording.arm, sight.camera_on)
        values = {"time_offset_s": {recording.camera: found.offset_s}}
        residuals = {"deviation_ms": 1e3 * found.deviation_s, "residual_mm": found.residual_mm,
                     "residual_deg": found.residual_deg}  # fmt: skip
        lines, latency = _time_lines(found), _latency(recording)
        shown = [
            figures.curve("Correlation of what camera and arm turned with", "shift s", "correlation",
                          found.peak.lags_s, found.peak.correlation, found.offset_s)
        ]  # fmt: skip
        if latency is not None:
            values["action_latency_s"] = {"arm0/tcp": latency.latency_s}
            lines.append(Line("the arm follows its targets after", f"{1e3 * latency.latency_s:.0f} ms"))
            shown.append(figures.curve("Correlation of targets and motion", "shift s", "correlation",
                                       latency.peak.lags_s, latency.peak.correlation, latency.latency_s))  # fmt: skip
        shown += [] if (seen := figures.pictures("What the camera saw", recording)) is None else [seen]
        calibration = Calibration(recording.robot, {}, {}, residuals, values)
        title = f"Time: camera '{recording.camera}' against the joints"
        return Outcome(f"{recording.camera}_time", title, calibration, lines, shown)

    def _swing(self, start: Array) -> Callable[[float], Array]:
        """Sines of frequencies without a common period about ``start`` [7], fading in and out."""
        size = np.repeat([self.swing_m, self.swing_rad], 3)

        def path(time_s: float) -> Array:
            t = min(max(time_s - _REST_S, 0.0), self.duration_s)
            fade = min(t, self.duration_s - t, 1.0)
            waves = np.sin(2.0 * np.pi * _HZ * t) + 0.4 * np.sin(4.4 * np.pi * _HZ * t)
            return pose_multiply(start, se3_exp(fade * size * waves))

        return path

    def _chirp(self, start: Array) -> Callable[[float], Array]:
        def path(time_s: float) -> Array:
            pose = start.copy()
            pose[_AXIS] += chirp(np.array([time_s - _REST_S]), self.chirp_m, *_CHIRP_HZ, self.chirp_s)[0]
            return pose

        return path


@dataclass(frozen=True)
class ToolProcedure:
    """The tip of the tool in the TCP's frame: a person keeps it in a dent and tilts the arm about it."""

    poses: int = 16
    timeout_s: float = 600.0
    max_residual_mm: float = 1.5

    @property
    def subject(self) -> str:
        return "tool"

    def collect(self, bench: Bench) -> Recording:
        """Poses in which the arm stands, each another tilt. Raises CalibrationError when they are not there in time."""
        end_ns = bench.stream.here.stamp_ns + round(1e9 * self.timeout_s)
        kept: list[ArmSample] = []
        while len(kept) < self.poses:
            if bench.stream.step().stamp_ns > end_ns:
                raise CalibrationError(f"{len(kept)} of {self.poses} poses within {self.timeout_s:.0f} s")
            here = bench.stream.here
            if not bench.stream.still(Stillness()):
                continue
            if all(apart(here.T_base_tcp, other.T_base_tcp) > _DIFFERENT for other in kept):
                kept.append(here)
                bench.display.progress(len(kept), self.poses)
            bench.display.tell("Tilt the tool to another side, its tip in the dent, and let it stand")
        return Recording("tool", bench.spec.robot, "", kept)

    def solve(self, recording: Recording, kinematics: Kinematics | None = None) -> Outcome:
        """Solve for the tip."""
        found = tool_point(recording.arm, max_residual_mm=self.max_residual_mm)
        tip = np.eye(4)
        tip[:3, 3] = found.position_m
        deviation_mm = 1e3 * float(np.linalg.norm(found.deviation_m))
        transforms = {"T_tcp_tip": FrameTransform("tcp", "tip", tip, deviation_mm, 0.0)}
        residuals = {"rms_mm": found.rms_mm, "held_out_mm": found.held_out_mm}
        turns = ", ".join(f"{span:.0f}" for span in found.spread.spans_deg)
        lines = [
            Line("tip in the TCP's frame", ", ".join(f"{1e3 * value:+.2f}" for value in found.position_m) + " mm"),
            Line("standard deviation", f"{deviation_mm:.2f} mm", "at most 0.5 mm", deviation_mm <= 0.5),
            Line("the tip stayed within", f"{found.rms_mm:.2f} mm rms", "at most 0.7 mm", found.rms_mm <= 0.7),
            Line("held-out error", f"{found.held_out_mm:.2f} mm", "at most 1 mm", found.held_out_mm <= 1.0),
            Line("turns about its axes", f"{turns} deg", "40 deg about two or more", found.spread.spans_deg[1] >= 40.0),
            Line("poses left out", ", ".join(map(str, found.outliers)) or "none"),
        ]
        shown = [figures.bars("Distance of the tip from its point (grey: left out)", "mm",
                              {"tip": found.residuals_mm}, found.outliers)]  # fmt: skip
        calibration = Calibration(recording.robot, transforms, {}, residuals)
        return Outcome("tool", "Tool centre point", calibration, lines, shown)


class _Watch:
    """Takes every new image of a camera while its ``with`` block runs."""

    def __init__(self, bench: Bench, sight: Sight, duration_s: float) -> None:
        self._bench, self._sight = bench, sight
        self._wanted = round(duration_s * bench.spec.step_rate_hz)
        self.views: list[BoardView] = []
        self.images: dict[str, bytes] = {}

    def check(self) -> None:
        """Raise CalibrationError unless the board is seen from here."""
        frame = self._bench.stream.frame(self._sight.camera)
        if len(detected(self._sight, frame).corner_ids) < MIN_CORNERS + 2:
            raise CalibrationError(
                f"camera '{self._sight.camera}' does not see the board", remedy="Put it into the middle of the image"
            )

    def __enter__(self) -> None:
        self._bench.stream.listener = self._hear

    def __exit__(self, *exception: Any) -> None:
        self._bench.stream.listener = None

    def _hear(self, observation: Observation) -> None:
        frame = self._bench.stream.frame(self._sight.camera)
        if self.views and frame.stamp_ns <= self.views[-1].stamp_ns:
            return
        name = image_name(self._sight.camera, len(self.views), frame)
        self.views.append(detected(self._sight, frame, name))
        if len(self.views) % max(self._wanted // _KEPT_IMAGES, 1) == 0:
            self.images[name] = encoded(frame)
        self._bench.display.progress(min(len(self.views), self._wanted), self._wanted)


def _pass(bench: Bench, duration_s: float) -> None:
    end_ns = bench.stream.here.stamp_ns + round(1e9 * duration_s)
    while bench.stream.here.stamp_ns < end_ns:
        bench.stream.step()


def _time_lines(found: TimeOffset) -> list[Line]:
    return [
        Line("images are stamped late by", f"{1e3 * found.offset_s:.2f} ms"),
        Line("standard deviation", f"{1e3 * found.deviation_s:.2f} ms", "at most 2.5 ms", found.deviation_s <= 0.0025),
        Line("correlation at its peak", f"{found.peak.value:.3f}", "0.8 or more", found.peak.value >= 0.8),
        Line("sharpness: it falls by a tenth within", f"{1e3 * found.peak.half_width_s:.0f} ms", "at most 250 ms",
             found.peak.half_width_s <= 0.25),
        Line("speeds and poses disagree by", f"{found.disagreement_ms:.2f} ms", "at most 10 ms",
             found.disagreement_ms <= 10.0),
        Line("motion not explained", f"{found.residual_mm:.2f} mm, {found.residual_deg:.2f} deg"),
        Line("images", str(found.images)),
    ]  # fmt: skip


def _latency(recording: Recording) -> ActionLatency | None:
    """From the chirp, if there was one."""
    if not recording.told:
        return None
    zero_ns = recording.told[0][0]
    due_s = np.array([1e-9 * (stamp - zero_ns) for stamp, _ in recording.told])
    during = [s for s in recording.arm if -0.5 < 1e-9 * (s.stamp_ns - zero_ns) < due_s[-1] + 0.5]
    measured_s = np.array([1e-9 * (sample.stamp_ns - zero_ns) for sample in during])
    there = np.array([sample.T_base_tcp[_AXIS, 3] for sample in during])
    asked = np.array([pose[_AXIS] for _, pose in recording.told])
    return action_latency(due_s, asked, measured_s, there)
