"""The pinhole camera with lens distortion.

A point (x, y, z) m of the optical frame is seen at K (x', y', 1), where x', y' are x / z, y / z after the distortion of
``plumb_bob`` (Brown-Conrady: k1 k2 p1 p2 k3) or ``rational_polynomial`` (k1 k2 p1 p2 k3 k4 k5 k6), as OpenCV and ROS
define them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import cv2
import numpy as np

from calibration.boards import MIN_CORNERS, CharucoBoard
from calibration.samples import BoardView
from robot_rl.errors import CalibrationError, InvalidArrayError, valid_choices
from robot_rl.geometry import matrix_from_rotvec
from robot_rl.types import Array

PARAMETERS = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")


class Distortion(StrEnum):
    PLUMB_BOB = "plumb_bob"
    RATIONAL = "rational_polynomial"


COEFFICIENTS = {Distortion.PLUMB_BOB: 5, Distortion.RATIONAL: 8}


@dataclass(frozen=True, eq=False)
class Intrinsics:
    """What a camera does to a point: ``matrix`` K [3, 3] px, ``coefficients`` [5] or [8] of ``model``.

    Raises CalibrationError for a K of zeros, by which ROS says "not calibrated", and InvalidArrayError for shapes.
    """

    matrix: Array
    coefficients: Array
    image_size_px: tuple[int, int]  # width, height of the images that it holds for
    model: Distortion = Distortion.PLUMB_BOB

    def __post_init__(self) -> None:
        if self.model not in list(Distortion):
            raise CalibrationError(
                f"distortion model '{self.model}'", remedy=valid_choices(str(self.model), list(Distortion))
            )
        model = Distortion(self.model)
        matrix, coefficients = np.array(self.matrix, dtype=np.float64), np.array(self.coefficients, dtype=np.float64)
        count = COEFFICIENTS[model]
        if matrix.shape != (3, 3) or coefficients.shape != (count,):
            raise InvalidArrayError(
                f"camera matrix {list(matrix.shape)}, distortion {list(coefficients.shape)}",
                limit=f"[3, 3] and [{count}] for {model}",
            )
        if not (np.isfinite(matrix).all() and np.isfinite(coefficients).all()):
            raise InvalidArrayError("camera matrix or distortion is not finite")
        if matrix[0, 0] <= 0.0 or matrix[1, 1] <= 0.0:
            raise CalibrationError(
                f"the camera is not calibrated: K has the focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} px",
                limit="> 0",
                remedy="Calibrate it; drivers publish a K of zeros until a calibration is loaded",
            )
        width, height = (int(v) for v in self.image_size_px)
        for name, value in (("model", model), ("matrix", matrix), ("coefficients", coefficients)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "image_size_px", (width, height))

    def check_size(self, size_px: tuple[int, int], what: str) -> None:
        """Raise CalibrationError unless ``what`` has images of the size that this holds for."""
        width, height = self.image_size_px
        if tuple(size_px) == (width, height):
            return
        scaled = size_px[0] * height == size_px[1] * width
        raise CalibrationError(
            f"{what} has {size_px[0]} x {size_px[1]} px, its calibration is for {width} x {height} px",
            limit="the same size",
            remedy="Use Intrinsics.scaled if the whole image was resized"
            if scaled
            else "It was cropped or is of another mode of the camera: calibrate in that mode",
        )

    def scaled(self, size_px: tuple[int, int]) -> Intrinsics:
        """Of the same camera whose whole image was resized. Raises CalibrationError for another aspect ratio."""
        width, height = self.image_size_px
        if size_px[0] * height != size_px[1] * width:
            raise CalibrationError(
                f"intrinsics of {width} x {height} px for {size_px[0]} x {size_px[1]} px",
                limit="one aspect ratio",
                remedy="A cropped image needs a calibration of its own",
            )
        factor = size_px[0] / width
        matrix = self.matrix.copy()
        matrix[:2] *= factor
        matrix[:2, 2] += 0.5 * factor - 0.5  # the centre of the first pixel is (0, 0) at every size
        return replace(self, matrix=matrix, image_size_px=size_px)

    def project(self, points: Array) -> Array:
        """Pixels [..., 2] of points [..., 3] m of the optical frame, which lie before the camera."""
        x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
        k1, k2, p1, p2, k3, k4, k5, k6 = np.pad(self.coefficients, (0, 8 - len(self.coefficients)))
        r2 = x * x + y * y
        radial = (1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1.0 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        u = x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x)
        v = y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y
        fx, skew, cx = self.matrix[0]
        return np.stack((fx * u + skew * v + cx, self.matrix[1, 1] * v + self.matrix[1, 2]), axis=-1)

    def board_pose(self, view: BoardView, board: CharucoBoard) -> Array:
        """T_camera_board [4, 4] with the least reprojection error. Raises CalibrationError for a view of another size
        of image or of too few corners."""
        self.check_size(view.image_size_px, str(view))
        if len(view.corner_ids) < MIN_CORNERS:
            raise CalibrationError(f"{view} shows {len(view.corner_ids)} corners", limit=f">= {MIN_CORNERS}")
        points, pixels = board.points(view.corner_ids), view.corners_px
        found, rotations, translations, errors = cv2.solvePnPGeneric(
            points, pixels, self.matrix, self.coefficients, flags=cv2.SOLVEPNP_IPPE
        )
        if not found:
            raise CalibrationError(f"{view}: no pose of the board explains its corners")
        best = int(np.argmin(errors))
        rotvec, position = cv2.solvePnPRefineLM(
            points, pixels, self.matrix, self.coefficients, rotations[best], translations[best]
        )
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = matrix_from_rotvec(np.ravel(rotvec)), np.ravel(position)
        return pose

    def reprojection(self, view: BoardView, board: CharucoBoard, T_camera_board: Array) -> Array:
        """Where corners are seen less where they should be, [n, 2] px."""
        points = board.points(view.corner_ids) @ T_camera_board[:3, :3].T + T_camera_board[:3, 3]
        return view.corners_px - self.project(points)
