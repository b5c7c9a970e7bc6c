"""Calibrations on disk: a YAML of what was solved, from which samples, and how far to trust it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from calibration.camera_model import Distortion, Intrinsics
from calibration.hand_eye import HandEye
from calibration.samples import transform
from robot_rl.errors import CalibrationError, RobotRlError
from robot_rl.geometry import matrix_from_pose, pose_from_matrix, quat_xyzw_normalize
from robot_rl.types import Array

_FORMAT, _VERSION = "robot-rl calibration", 1


@dataclass(frozen=True, eq=False)
class FrameTransform:
    """T_parent_child [4, 4] and one standard deviation of it."""

    parent: str
    child: str
    matrix: Array
    deviation_mm: float = float("nan")
    deviation_deg: float = float("nan")

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", transform(self.matrix, f"{self.parent} to {self.child}"))


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is known of a robot's cameras, and from what."""

    robot: str
    transforms: Mapping[str, FrameTransform]  # by name: T_a_b is the pose of b in a
    cameras: Mapping[str, Intrinsics] = field(default_factory=dict)
    residuals: Mapping[str, float] = field(default_factory=dict)  # names carry their unit
    values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # time_offset_s, joint_offset_rad, ...
    weak: Sequence[str] = ()
    samples_sha256: str = ""
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @staticmethod
    def of(result: HandEye, robot: str, samples_sha256: str) -> Calibration:
        """Of a hand-eye solution; the frame of a camera is its optical one."""
        rig = result.rig
        transforms = {}
        for body in rig.bodies:
            name = rig.transform_name(body)
            child = f"{body}_optical" if body in rig.cameras else body
            transforms[name] = FrameTransform(
                str(rig.mount(body)), child, result.transforms[name], *result.deviation[name]
            )
        residuals = {"held_out_mm": result.held_out_mm, "held_out_deg": result.held_out_deg}
        residuals["leave_one_out_mm"] = max(mm for mm, _ in result.leave_one_out.values())
        residuals["leave_one_out_deg"] = max(deg for _, deg in result.leave_one_out.values())
        return Calibration(
            robot, transforms, rig.intrinsics, residuals, weak=result.weak, samples_sha256=samples_sha256
        )


def save_calibration(path: Path, calibration: Calibration) -> str:
    """Write the YAML; returns the SHA-256 of its bytes, by which episodes name it."""
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "robot": calibration.robot,
        "date": calibration.date,
        "samples_sha256": calibration.samples_sha256,
        "transforms": {
            name: {
                "parent": item.parent,
                "child": item.child,
                "xyz": pose_from_matrix(item.matrix)[:3].tolist(),
                "xyzw": pose_from_matrix(item.matrix)[3:].tolist(),
                "deviation_mm": item.deviation_mm,
                "deviation_deg": item.deviation_deg,
            }
            for name, item in calibration.transforms.items()
        },
        "cameras": {name: _intrinsics_fields(camera) for name, camera in calibration.cameras.items()},
        "residuals": dict(calibration.residuals),
        "values": {name: dict(values) for name, values in calibration.values.items()},
        "weak": list(calibration.weak),
    }
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=120)
    _write(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def load_calibration(path: Path) -> Calibration:
    """Inverse of ``save_calibration``. Raises CalibrationError for another file, also for a K of zeros."""
    document = _document(path)
    try:
        transforms = {
            name: FrameTransform(
                str(item["parent"]), str(item["child"]), _matrix(item["xyz"], item["xyzw"]),
                float(item["deviation_mm"]), float(item["deviation_deg"]),
            )
            for name, item in document["transforms"].items()
        }  # fmt: skip
        cameras = {name: _intrinsics(fields) for name, fields in document["cameras"].items()}
        residuals = {name: float(value) for name, value in document["residuals"].items()}
        values = {
            name: {str(key): float(value) for key, value in group.items()}
            for name, group in document.get("values", {}).items()
        }
        weak, samples = [str(line) for line in document["weak"]], str(document["samples_sha256"])
        return Calibration(
            str(document["robot"]), transforms, cameras, residuals, values, weak, samples, str(document["date"])
        )
    except RobotRlError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _malformed(path, error) from error


def sha256(path: Path) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, Mapping) or document.get("format") != _FORMAT:
        raise CalibrationError(f"{path} is no '{_FORMAT}'")
    if document.get("version") != _VERSION:
        raise CalibrationError(
            f"{path} has version {document.get('version')}", limit=f"{_VERSION}", remedy="Update this software"
        )
    return document


def _malformed(path: Path, error: Exception) -> CalibrationError:
    return CalibrationError(f"{path} is damaged: {type(error).__name__} {error}")


def _matrix(xyz: Sequence[float], xyzw: Sequence[float]) -> Array:
    return matrix_from_pose([*xyz, *quat_xyzw_normalize(list(xyzw))])


def _intrinsics_fields(camera: Intrinsics) -> dict[str, Any]:
    return {
        "image_size_px": list(camera.image_size_px),
        "matrix": camera.matrix.ravel().tolist(),
        "distortion_model": str(camera.model),
        "coefficients": camera.coefficients.tolist(),
    }


def _intrinsics(fields: Mapping[str, Any]) -> Intrinsics:
    width, height = fields["image_size_px"]
    matrix = np.reshape(fields["matrix"], (3, 3))
    return Intrinsics(matrix, fields["coefficients"], (width, height), Distortion(fields["distortion_model"]))
