"""Calibrations of other tools: ROS camera_info files, and transforms that may turn out to be published inverted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from calibration.camera_model import COEFFICIENTS, Distortion, Intrinsics
from calibration.closed_form import consensus, distances
from calibration.hand_eye_start import closed_loops
from calibration.rig import Rig
from calibration.samples import Capture, transform
from robot_rl.errors import CalibrationError, RobotRlError, valid_choices
from robot_rl.geometry import matrix_from_pose, quat_xyzw_normalize
from robot_rl.types import Array

_CLEARLY = 0.5  # what is inverted closes the loop this much better the other way round


def read_camera_info(path: Path, *, image_size_px: tuple[int, int] | None = None) -> Intrinsics:
    """A camera from a camera_info YAML. Raises CalibrationError for a damaged file, a K of zeros, an unknown
    distortion model, or, given the ``image_size_px`` of the images it is meant for, for another size."""
    fields = _yaml(path)
    try:
        size = (int(fields["image_width"]), int(fields["image_height"]))
        matrix = np.reshape(np.array(fields["camera_matrix"]["data"], dtype=np.float64), (3, 3))
        model = str(fields["distortion_model"])
        coefficients = np.array(fields["distortion_coefficients"]["data"], dtype=np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"{path} is no camera_info file: {type(error).__name__} {error}") from error
    if model not in list(Distortion):
        raise CalibrationError(
            f"{path}: distortion model '{model}'", remedy=valid_choices(model, [str(known) for known in Distortion])
        )
    wanted = COEFFICIENTS[Distortion(model)]
    if len(coefficients) == 4 and wanted == 5:
        coefficients = np.append(coefficients, 0.0)  # plumb_bob without k3
    try:
        camera = Intrinsics(matrix, coefficients, size, Distortion(model))
    except RobotRlError as error:
        raise CalibrationError(f"{path}: {error.what}", limit=error.limit, remedy=error.remedy) from error
    if image_size_px is not None:
        camera.check_size(image_size_px, "the camera")
    return camera


def read_transform(path: Path) -> Array:
    """[4, 4] from a YAML of easy_handeye, easy_handeye2, or with ``xyz`` and ``xyzw``. Raises CalibrationError for
    others. Which way round it is, the file cannot tell: see ``check_direction``."""
    fields = _yaml(path)
    for read in (_easy_handeye, _easy_handeye2, _plain):
        try:
            position, quat_xyzw = read(fields)
        except (KeyError, TypeError):
            continue
        try:
            return transform(matrix_from_pose([*position, *quat_xyzw_normalize(quat_xyzw)]), str(path))
        except ValueError as error:
            raise CalibrationError(f"{path}: {error}") from error
    raise CalibrationError(
        f"{path} holds no transform", remedy="Known: easy_handeye, easy_handeye2, or the keys xyz and xyzw"
    )


def check_direction(
    T_mount_camera: Array, camera: str, rig: Rig, captures: Sequence[Capture], *, invert: bool = False
) -> Array:
    """The transform as it closes the loop through arm, camera and a board that the mount does not carry.

    Raises CalibrationError for one that is inverted, unless ``invert`` lets it be turned round.
    """
    rig.check(captures)
    boards = [name for name, mount in rig.boards.items() if mount is not rig.cameras[camera]]
    own = [c for c in captures if c.view.camera == camera and c.view.board in boards]
    if len(own) < 3:
        raise CalibrationError(
            f"{len(own)} captures of camera '{camera}' to check its transform by", limit=">= 3 of a board that moves"
        )
    eye = rig.board_poses(own)

    def spread(value: Array) -> float:
        loops = closed_loops(own, rig, {camera: value}, eye)
        groups = [[i for i, c in enumerate(own) if c.view.board == board] for board in boards]
        return float(np.concatenate([distances(consensus(loops[g]), loops[g]) for g in groups if g]).mean())

    name = rig.transform_name(camera)
    inverse = np.linalg.inv(T_mount_camera)
    as_given, inverted = spread(T_mount_camera), spread(inverse)
    if inverted >= _CLEARLY * as_given:
        return T_mount_camera
    if invert:
        return inverse
    raise CalibrationError(
        f"what is given as {name} is inverted: with it the board seems to move by {1e3 * as_given:.0f} mm, "
        f"the other way round by {1e3 * inverted:.1f} mm",
        remedy=f"It is the pose of the {rig.mount(camera)} in the camera; invert it",
    )


def _yaml(path: Path) -> Mapping[str, Any]:
    try:
        fields = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CalibrationError(f"{path} cannot be read: {error}") from error
    if not isinstance(fields, Mapping):
        raise CalibrationError(f"{path} holds no mapping")
    return fields


_Pose = tuple[list[float], list[float]]


def _easy_handeye(fields: Mapping[str, Any]) -> _Pose:
    return _of(fields["transformation"], "xyz"), _of(fields["transformation"], ("qx", "qy", "qz", "qw"))


def _easy_handeye2(fields: Mapping[str, Any]) -> _Pose:
    return _of(fields["transform"]["translation"], "xyz"), _of(fields["transform"]["rotation"], "xyzw")


def _plain(fields: Mapping[str, Any]) -> _Pose:
    return [float(value) for value in fields["xyz"]], [float(value) for value in fields["xyzw"]]


def _of(fields: Mapping[str, Any], keys: Sequence[str]) -> list[float]:
    return [float(fields[key]) for key in keys]
