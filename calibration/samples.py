"""What a calibration is solved from: views of boards, states of the arm, and pairs of both.

Transforms are ``T_a_b`` [4, 4], the pose of frame b in frame a [m]. A camera's frame is its optical one: z forward, x
right, y down. Pixels count from the centre of the upper left one, as in OpenCV. Stamps are ns of one clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from robot_rl.errors import CalibrationError, InvalidArrayError
from robot_rl.types import Array

_GAP_MS = 20.0
_STILL_MS = 150.0
_STILL_RAD = 0.002


@dataclass(frozen=True, eq=False)
class BoardView:
    """What one image shows of a board: its corners by number."""

    camera: str
    stamp_ns: int
    image_size_px: tuple[int, int]  # width, height
    corner_ids: Array  # [n] int
    corners_px: Array  # [n, 2] x, y
    board: str = "board"
    image: str = ""  # by which messages name it

    def __post_init__(self) -> None:
        ids, corners = np.asarray(self.corner_ids, dtype=np.int64), np.asarray(self.corners_px, dtype=np.float64)
        if ids.ndim != 1 or corners.shape != (len(ids), 2) or not np.isfinite(corners).all():
            raise InvalidArrayError(
                f"{self}: {list(ids.shape)} corner numbers for corners {list(corners.shape)}", limit="[n] and [n, 2]"
            )
        if len(np.unique(ids)) != len(ids):
            raise InvalidArrayError(f"{self}: a corner appears twice")
        width, height = self.image_size_px
        if len(corners) and not ((corners > -1.0).all() and (corners < [width + 1.0, height + 1.0]).all()):
            raise InvalidArrayError(f"{self}: a corner lies outside the image", limit=f"{width} x {height} px")
        object.__setattr__(self, "corner_ids", ids)
        object.__setattr__(self, "corners_px", corners)
        object.__setattr__(self, "image_size_px", (int(width), int(height)))

    def __str__(self) -> str:
        return f"image {self.image or self.stamp_ns} of camera '{self.camera}'"


@dataclass(frozen=True, eq=False)
class BoardPose:
    """The pose of a board as a detector of others measured it, without its corners."""

    camera: str
    stamp_ns: int
    T_camera_board: Array  # [4, 4]
    board: str = "board"
    image: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "T_camera_board", transform(self.T_camera_board, f"{self}: T_camera_board"))

    def __str__(self) -> str:
        return f"image {self.image or self.stamp_ns} of camera '{self.camera}'"


@dataclass(frozen=True, eq=False)
class ArmSample:
    """The measured state of the arm at one instant."""

    stamp_ns: int
    joint_position: Array  # [n] rad
    T_base_tcp: Array  # [4, 4]

    def __post_init__(self) -> None:
        position = np.asarray(self.joint_position, dtype=np.float64)
        if position.ndim != 1 or not np.isfinite(position).all():
            raise InvalidArrayError(f"joint positions {list(position.shape)} at {self.stamp_ns} ns", limit="finite [n]")
        object.__setattr__(self, "joint_position", position)
        object.__setattr__(self, "T_base_tcp", transform(self.T_base_tcp, f"T_base_tcp at {self.stamp_ns} ns"))


@dataclass(frozen=True, eq=False)
class Capture:
    """One view and the state of the arm when it was taken."""

    arm: ArmSample
    view: BoardView | BoardPose


def transform(value: Array, name: str) -> Array:
    """A copy of a rigid transform [4, 4]. Raises InvalidArrayError where it is none."""
    matrix = np.array(value, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise InvalidArrayError(f"{name} is {list(matrix.shape)}", limit="finite [4, 4]")
    rotation = matrix[:3, :3]
    rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4) and np.linalg.det(rotation) > 0.0
    if not rigid or not np.allclose(matrix[3], [0.0, 0.0, 0.0, 1.0]):
        raise InvalidArrayError(f"{name} is no rigid transform", limit="a right-handed rotation and a translation")
    return matrix


def pair(
    views: Sequence[BoardView | BoardPose],
    arm: Sequence[ArmSample],
    *,
    max_gap_ms: float = _GAP_MS,
    still_ms: float = _STILL_MS,
    still_rad: float = _STILL_RAD,
) -> list[Capture]:
    """Each view with the arm's sample that is nearest by stamp.

    The joints may differ by ``still_rad`` from ``still_ms`` before the view to as long after it. Raises
    CalibrationError where no sample lies within ``max_gap_ms`` of a view, or the arm moved then.
    """
    if not arm:
        raise CalibrationError("there are views of boards, but no sample of the arm")
    stamps = np.array([sample.stamp_ns for sample in arm])
    late = next((after for before, after in pairwise(stamps) if after < before), None)
    if late is not None:
        raise CalibrationError(f"the arm's stamps go backwards at {late} ns", remedy="Record them with one clock")
    joints = np.array([sample.joint_position for sample in arm])
    captures = []
    for view in views:
        nearest = int(np.argmin(np.abs(stamps - view.stamp_ns)))
        gap_ms = abs(int(stamps[nearest]) - view.stamp_ns) / 1e6
        if gap_ms > max_gap_ms:
            raise CalibrationError(
                f"{view}: the nearest sample of the arm is {gap_ms:.0f} ms away",
                limit=f"{max_gap_ms:g} ms",
                remedy="Stamp images and joints with one clock; the arm's stream may have been silent",
            )
        near = joints[np.abs(stamps - view.stamp_ns) <= still_ms * 1e6]
        moved = float(np.ptp(near, axis=0).max()) if len(near) else 0.0
        if moved > still_rad:
            raise CalibrationError(
                f"{view}: the robot was moving, a joint by {moved:.4f} rad within {2.0 * still_ms:.0f} ms",
                limit=f"{still_rad} rad",
                remedy="Wait for standstill before each image",
            )
        captures.append(Capture(arm[nearest], view))
    return captures
