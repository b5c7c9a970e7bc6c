"""Procedures that live on views of a board from an arm that stands: the camera's lens, hand and eye, joint offsets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration import figures
from calibration.boards import CharucoBoard
from calibration.camera_model import Distortion, Intrinsics
from calibration.exports import camera_info_yaml, mjcf_camera, static_transform_publisher, urdf_fragment
from calibration.hand_eye import HandEye, calibrate_hand_eye
from calibration.hand_eye_start import hand_eye_start
from calibration.intrinsics import IntrinsicsReport, calibrate_intrinsics, coverage_map
from calibration.joint_offsets import JointOffsets, joint_offsets
from calibration.outcome import Figure, Line, Outcome
from calibration.procedure import (
    Bench,
    Kinematics,
    image_size,
    nominal_lens,
    recorded_sight,
    stamped_pairs,
    take_views,
)
from calibration.recording import Recording
from calibration.rig import Mount
from calibration.samples import pair
from calibration.storage import Calibration
from calibration.view_taking import Sight
from robot_rl.errors import CalibrationError

_GOOD_HELD_OUT_PX, _GOOD_COVERED = 0.5, 0.7
_GOOD_MM, _GOOD_DEG, _GOOD_DISAGREEMENT_MM = 1.0, 0.57, 3.0
_NOT_ABOVE = 1.05  # where nothing is off, offsets only follow the noise


@dataclass(frozen=True)
class CameraProcedure:
    """The lens of a camera. ``camera_on`` is what it is fastened to (tcp or base), the board being on the other."""

    board: CharucoBoard
    camera: str = "wrist"
    camera_on: Mount = Mount.TCP
    model: Distortion = Distortion.PLUMB_BOB
    views: int = 25
    min_covered: float = 0.4
    seed: int = 0

    @property
    def subject(self) -> str:
        return f"{self.camera}_camera"

    def collect(self, bench: Bench) -> Recording:
        """Views with a nominal lens, which is good enough to plan with."""
        lens = nominal_lens(image_size(bench.spec, self.camera))
        sight = Sight(self.camera, Mount(self.camera_on), f"{self.camera}_board", self.board, lens)
        return take_views(bench, sight, "camera", self.views, self.seed, known_lens=False)

    def solve(self, recording: Recording, kinematics: Kinematics | None = None) -> Outcome:
        """Solve for the lens."""
        report = _lens(recording, Distortion(self.model), self.min_covered)
        lens, camera = report.intrinsics, recording.camera
        focal = 100.0 * report.deviation["fx"] / lens.matrix[0, 0]
        lines = [
            Line("views used", f"{len(recording.views) - len(report.outliers)} of {len(recording.views)}"),
            Line("error", f"{report.rms_px:.3f} px rms"),
            Line("held-out error", f"{report.held_out_px:.3f} px rms", f"at most {_GOOD_HELD_OUT_PX} px",
                 report.held_out_px <= _GOOD_HELD_OUT_PX),
            Line("focal length known to", f"{focal:.3f} %", "at most 0.5 %", focal <= 0.5),
            Line("image covered", f"{100 * report.covered:.0f} %", f"{100 * _GOOD_COVERED:.0f} % or more",
                 report.covered >= _GOOD_COVERED),
            Line("largest tilt", f"{np.degrees(report.largest_tilt_rad):.0f} deg", "20 deg or more",
                 report.largest_tilt_rad >= np.radians(20.0)),
        ]  # fmt: skip
        residuals = {"rms_px": report.rms_px, "held_out_px": report.held_out_px}
        calibration = Calibration(recording.robot, {}, {camera: lens}, residuals, weak=report.weak)
        shown = [figures.coverage("Corners seen in each part of the image", report.coverage)]
        shown += [_view_errors(report), _field(recording, lens, report), *_pictures(recording)]
        exports = {f"{camera}.camera_info.yaml": camera_info_yaml(lens, camera)}
        return Outcome(f"{camera}_camera", f"Camera '{camera}'", calibration, lines, shown, exports)


@dataclass(frozen=True)
class HandEyeProcedure:
    """Where a camera is fastened. ``camera_on`` is what to (tcp or base), the board being on the other. A camera
    without a calibrated lens gets one from the same views."""

    board: CharucoBoard
    camera: str = "wrist"
    camera_on: Mount = Mount.TCP
    views: int = 20
    seed: int = 0

    @property
    def subject(self) -> str:
        return f"{self.camera}_hand_eye"

    def collect(self, bench: Bench) -> Recording:
        """Views from poses that turn much."""
        return take_views(bench, _sight(self, bench), "hand_eye", self.views, self.seed, _known(bench, self.camera))

    def solve(self, recording: Recording, kinematics: Kinematics | None = None) -> Outcome:
        """Solve for camera and board."""
        sight = recorded_sight(recording, _own_lens(recording))
        captures = pair(recording.views, recording.arm, **stamped_pairs(recording))
        forward = None if kinematics is None else kinematics.pose
        found = calibrate_hand_eye(captures, sight.rig(), forward_kinematics=forward)
        if not recording.facts.get("lens"):
            found = replace(found, weak=(*found.weak, "the lens was calibrated from the same views: do camera first"))
        calibration = Calibration.of(found, recording.robot, "")
        camera = found.rig.transform_name(recording.camera)
        item = calibration.transforms[camera]
        shown = [
            figures.bars(
                "What the closed loop through arm, camera and board misses (grey: left out)", "",
                {"mm": found.residual_mm, "deg": found.residual_deg}, list(found.outliers),
            ),
            figures.coverage("Corners seen in each part of the image", coverage_map(recording.views)),
            *_pictures(recording),
        ]  # fmt: skip
        exports = {
            "static_transform_publisher": static_transform_publisher(item), "urdf": urdf_fragment(item),
            "mjcf": mjcf_camera(item, sight.lens, recording.camera),
        }  # fmt: skip
        title = f"Hand and eye: camera '{recording.camera}' on the {sight.camera_on}"
        return Outcome(
            f"{recording.camera}_hand_eye", title, calibration, _hand_eye_lines(found, camera), shown, exports
        )


@dataclass(frozen=True)
class JointsProcedure:
    """Zero offsets of the joints, from views of a board in many postures."""

    board: CharucoBoard
    camera: str = "wrist"
    camera_on: Mount = Mount.TCP
    views: int = 25
    seed: int = 1

    @property
    def subject(self) -> str:
        return "joints"

    def collect(self, bench: Bench) -> Recording:
        """Views from poses that turn much."""
        return take_views(bench, _sight(self, bench), "joints", self.views, self.seed, _known(bench, self.camera))

    def solve(self, recording: Recording, kinematics: Kinematics | None = None) -> Outcome:
        """Solve for offsets, camera and board. Raises ConfigError without ``kinematics``."""
        if kinematics is None:
            raise CalibrationError("joint offsets need the arm's kinematics", remedy="Name it with kinematics=")
        sight = recorded_sight(recording, _own_lens(recording))
        rig = sight.rig()
        captures = pair(recording.views, recording.arm, **stamped_pairs(recording))
        start = hand_eye_start(captures, rig, rig.board_poses(captures))
        found = joint_offsets(captures, kinematics.pose, rig, start, names=kinematics.names)
        offsets = dict(zip(found.names, found.offset_rad.tolist(), strict=True))
        weak = [f"{direction} cannot be told from another mounting" for direction in found.unseen]
        residuals = {"held_out_px": found.held_out, "without_offsets_px": found.before}
        calibration = Calibration(recording.robot, {}, {}, residuals, {"joint_offset_rad": offsets}, weak)
        shown = [
            figures.intervals("Offsets with two standard deviations", "rad", found.names, found.offset_rad,
                              np.where(np.isin(found.names, found.unseen_joints), 0.0, found.deviation_rad)),
            figures.bars("Error of each view", "px", {"rms": found.view_errors}), *_pictures(recording),
        ]  # fmt: skip
        return Outcome("joints", "Joint offsets", calibration, _joint_lines(found), shown)


def _sight(procedure: HandEyeProcedure | JointsProcedure, bench: Bench) -> Sight:
    lens = bench.lens(procedure.camera) or nominal_lens(image_size(bench.spec, procedure.camera))
    board = f"{procedure.camera}_board"
    return Sight(procedure.camera, Mount(procedure.camera_on), board, procedure.board, lens)


def _known(bench: Bench, camera: str) -> bool:
    return bench.lens(camera) is not None


def _lens(recording: Recording, model: Distortion = Distortion.PLUMB_BOB, covered: float = 0.3) -> IntrinsicsReport:
    return calibrate_intrinsics(recording.views, recording.boards, model=model, min_covered=covered)


def _own_lens(recording: Recording) -> Intrinsics | None:
    """From the views themselves, where no lens was known."""
    return None if recording.facts.get("lens") else _lens(recording).intrinsics


def _hand_eye_lines(found: HandEye, camera: str) -> list[Line]:
    deviation, worst = found.deviation[camera], found.leave_one_out[camera]
    turns = next(iter(found.turns_deg.values()))
    lines = [
        Line("captures used", f"{len(found.residual_mm) - len(found.outliers)} of {len(found.residual_mm)}"),
        Line("held-out error", f"{found.held_out_mm:.2f} mm, {found.held_out_deg:.3f} deg",
             f"at most {_GOOD_MM} mm, {_GOOD_DEG} deg",
             found.held_out_mm <= _GOOD_MM and found.held_out_deg <= _GOOD_DEG),
        Line("standard deviation", f"{deviation[0]:.3f} mm, {deviation[1]:.4f} deg"),
        Line("one capture moves it by at most", f"{worst[0]:.3f} mm, {worst[1]:.4f} deg"),
        Line("turns about its axes", ", ".join(f"{turn:.0f}" for turn in turns) + " deg", "30 deg about two or more",
             turns[1] >= 30.0),
    ]  # fmt: skip
    for name, methods in found.disagreement.items():
        for method, (mm, deg) in methods.items():
            close = mm <= _GOOD_DISAGREEMENT_MM
            limit = f"at most {_GOOD_DISAGREEMENT_MM} mm"
            lines.append(Line(f"{method} (OpenCV) differs, {name}", f"{mm:.2f} mm, {deg:.3f} deg", limit, close))
    lines += [Line(f"capture {i} left out", why) for i, why in found.outliers.items()]
    return lines + [Line(f"capture {i} corrected", why) for i, why in found.corrected.items()]


def _joint_lines(found: JointOffsets) -> list[Line]:
    lines = [
        Line("held-out error", f"{found.held_out:.3f}", f"not above {found.before:.3f}, as it is without offsets",
             found.held_out < _NOT_ABOVE * found.before),
    ]  # fmt: skip
    for name, offset, deviation in zip(found.names, found.offset_rad, found.deviation_rad, strict=True):
        seen = name not in found.unseen_joints
        value = f"{1e3 * offset:+.2f} mrad" if seen else "cannot be seen: another mounting looks the same"
        lines.append(Line(name, value + (f" ± {2e3 * deviation:.2f}" if seen else "")))
    return lines


def _view_errors(report: IntrinsicsReport) -> Figure:
    errors = np.nan_to_num(np.array(report.view_rms_px), posinf=0.0)
    return figures.bars("Error of each view (grey: left out)", "px", {"rms": errors}, list(report.outliers))


def _field(recording: Recording, lens: Intrinsics, report: IntrinsicsReport) -> Figure:
    used = [view for i, view in enumerate(recording.views) if i not in report.outliers]
    boards = [recording.boards[view.board] for view in used]
    errors = [lens.reprojection(v, b, lens.board_pose(v, b)) for v, b in zip(used, boards, strict=True)]
    pixels = np.concatenate([view.corners_px for view in used])
    return figures.residual_field("Where corners are missed, and to which side", lens, pixels, np.concatenate(errors))


def _pictures(recording: Recording) -> list[Figure]:
    shown = figures.pictures("What the camera saw", recording)
    return [] if shown is None else [shown]
