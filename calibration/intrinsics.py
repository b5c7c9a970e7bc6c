"""Calibration of a camera's lens from views of boards, and what tells how far to trust it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from calibration.boards import MIN_CORNERS, CharucoBoard
from calibration.camera_model import COEFFICIENTS, PARAMETERS, Distortion, Intrinsics
from calibration.samples import BoardView
from robot_rl.errors import CalibrationError, valid_choices
from robot_rl.types import Array

COVERAGE_CELLS = (6, 8)  # rows, columns of the coverage map
_SOLVER_STEPS = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 200, 1e-10)
_OUTLIER_SHARE, _OUTLIER_FACTOR, _OUTLIER_LEAST_PX = 0.4, 3.0, 0.5
_HELD_OUT_SHARE = 0.3
_LEAST_TILT_RAD, _GOOD_TILT_RAD = np.radians(10.0), np.radians(25.0)


@dataclass(frozen=True, eq=False)
class IntrinsicsReport:
    """A camera's calibration and how far to trust it."""

    intrinsics: Intrinsics
    deviation: Mapping[str, float]  # standard deviation of each parameter
    rms_px: float  # of the views that were used
    view_rms_px: Sequence[float]  # of each view given
    outliers: Sequence[int]  # views that were not used
    held_out_px: float  # rms of views that a solution on the others did not see
    coverage: Array  # [6, 8] corners seen in each cell of the image
    largest_tilt_rad: float
    weak: Sequence[str] = ()  # what a better set of views would have

    @property
    def covered(self) -> float:
        """Share of the image's cells that saw a corner."""
        return float(np.mean(self.coverage > 0))


def calibrate_intrinsics(
    views: Sequence[BoardView],
    boards: Mapping[str, CharucoBoard],
    *,
    model: Distortion = Distortion.PLUMB_BOB,
    min_views: int = 10,
    min_covered: float = 0.4,
    max_focal_deviation: float = 0.005,
    max_rms_px: float = 1.5,
    seed: int = 0,
) -> IntrinsicsReport:
    """Solve for one camera from views of one size (Zhang 2000, refined over all corners by OpenCV).

    Views whose error is far above that of the others are set aside, at most two in five. Raises CalibrationError
    where views are too few, too alike or contradict each other: its message says which.
    """
    usable = _usable(views, boards, min_views)
    used, fit = _without_outliers(views, boards, usable, model)
    rms = [_rms(views[i], boards[views[i].board], fit.intrinsics) for i in range(len(views))]
    if fit.rms_px > max_rms_px:
        raise CalibrationError(
            f"no lens explains the views: {fit.rms_px:.2f} px rms",
            limit=f"{max_rms_px} px",
            remedy="Is the board flat, of the declared squares and pattern, and are the images sharp?",
        )
    focal = max(fit.deviation["fx"] / fit.intrinsics.matrix[0, 0], fit.deviation["fy"] / fit.intrinsics.matrix[1, 1])
    coverage = coverage_map([views[i] for i in used])
    tilt = max(_tilt(views[i], boards[views[i].board], fit.intrinsics) for i in used)
    if focal > max_focal_deviation or tilt < _LEAST_TILT_RAD:
        raise CalibrationError(
            f"the focal length is known to {100 * focal:.1f} % only, from boards tilted by up to "
            f"{np.degrees(tilt):.0f} deg",
            limit=f"{100 * max_focal_deviation:g} %, {np.degrees(_LEAST_TILT_RAD):.0f} deg",
            remedy="Tilt the board more, in both directions, and come closer",
        )
    covered = float(np.mean(coverage > 0))
    if covered < min_covered:
        raise CalibrationError(
            f"corners cover {100 * covered:.0f} % of the image",
            limit=f"{100 * min_covered:g} %",
            remedy=f"Show the board at the {_emptiest(coverage)} of the image",
        )
    weak = _weak(len(used), covered, tilt)
    held_out = _held_out(views, boards, used, model, seed)
    outliers = [i for i in range(len(views)) if i not in used]
    return IntrinsicsReport(fit.intrinsics, fit.deviation, fit.rms_px, rms, outliers, held_out, coverage, tilt, weak)


def coverage_map(views: Sequence[BoardView]) -> Array:
    """Corners in each cell of the image, [6, 8]."""
    count = np.zeros(COVERAGE_CELLS, dtype=np.int64)
    for view in views:
        width, height = view.image_size_px
        column = np.clip(view.corners_px[:, 0] * COVERAGE_CELLS[1] // width, 0, COVERAGE_CELLS[1] - 1)
        row = np.clip(view.corners_px[:, 1] * COVERAGE_CELLS[0] // height, 0, COVERAGE_CELLS[0] - 1)
        np.add.at(count, (row.astype(int), column.astype(int)), 1)
    return count


@dataclass(frozen=True, eq=False)
class _Fit:
    intrinsics: Intrinsics
    deviation: Mapping[str, float]
    rms_px: float
    view_rms_px: Array


def _usable(views: Sequence[BoardView], boards: Mapping[str, CharucoBoard], min_views: int) -> list[int]:
    """Views with enough corners. Raises CalibrationError where they are too few or not of one camera."""
    for view in views:
        if view.board not in boards:
            raise CalibrationError(f"{view} shows board '{view.board}'", remedy=valid_choices(view.board, boards))
        if (view.camera, view.image_size_px) != (views[0].camera, views[0].image_size_px):
            raise CalibrationError(
                f"{view} has {view.image_size_px[0]} x {view.image_size_px[1]} px, {views[0]} has "
                f"{views[0].image_size_px[0]} x {views[0].image_size_px[1]} px",
                limit="one camera and one size",
            )
    usable = [i for i, view in enumerate(views) if len(view.corner_ids) >= MIN_CORNERS + 2]
    if len(usable) < min_views:
        raise CalibrationError(
            f"{len(usable)} of {len(views)} views show {MIN_CORNERS + 2} corners or more",
            limit=f">= {min_views} views",
            remedy="Take more images in which the board is seen whole, sharp and well lit",
        )
    return usable


def _without_outliers(
    views: Sequence[BoardView], boards: Mapping[str, CharucoBoard], usable: Sequence[int], model: Distortion
) -> tuple[list[int], _Fit]:
    """Fit, set aside the worst view while it is far from the others, fit again."""
    used = list(usable)
    while True:
        fit = _fit([views[i] for i in used], boards, model)
        worst = int(np.argmax(fit.view_rms_px))
        limit = max(_OUTLIER_FACTOR * float(np.median(fit.view_rms_px)), _OUTLIER_LEAST_PX)
        if fit.view_rms_px[worst] <= limit:
            return used, fit
        if len(usable) - len(used) >= _OUTLIER_SHARE * len(usable):
            raise CalibrationError(
                f"{views[used[worst]]} is the next of many that contradict the others "
                f"({fit.view_rms_px[worst]:.1f} px rms, median {np.median(fit.view_rms_px):.1f} px)",
                limit=f"{100 * _OUTLIER_SHARE:g} % set aside",
                remedy="Are all views of the board that was declared?",
            )
        del used[worst]


def _fit(views: Sequence[BoardView], boards: Mapping[str, CharucoBoard], model: Distortion) -> _Fit:
    points = [boards[view.board].points(view.corner_ids).astype(np.float32) for view in views]
    pixels = [view.corners_px.astype(np.float32) for view in views]
    flags = cv2.CALIB_RATIONAL_MODEL if model is Distortion.RATIONAL else 0
    size = views[0].image_size_px
    start = np.array([[1.2 * max(size), 0.0, 0.5 * size[0]], [0.0, 1.2 * max(size), 0.5 * size[1]], [0.0, 0.0, 1.0]])
    try:
        rms, matrix, coefficients, _, _, deviation, _, per_view = cv2.calibrateCameraExtended(
            points, pixels, size, start, np.zeros(8), flags=flags, criteria=_SOLVER_STEPS
        )
    except cv2.error as error:
        raise CalibrationError(
            "the views do not determine a camera", remedy=f"Tilt the board in both directions ({error.err})"
        ) from error
    intrinsics = Intrinsics(matrix, np.ravel(coefficients)[: COEFFICIENTS[model]], size, model)
    names = PARAMETERS[: 4 + COEFFICIENTS[model]]
    named = {name: float(value) for name, value in zip(names, np.ravel(deviation), strict=False)}
    return _Fit(intrinsics, named, float(rms), np.ravel(per_view))


def _rms(view: BoardView, board: CharucoBoard, intrinsics: Intrinsics) -> float:
    """Of the corners of one view whose pose is fitted; infinite where there are too few."""
    if len(view.corner_ids) < MIN_CORNERS:
        return float("inf")
    error = intrinsics.reprojection(view, board, intrinsics.board_pose(view, board))
    return float(np.sqrt(np.mean(np.sum(error**2, axis=1))))


def _tilt(view: BoardView, board: CharucoBoard, intrinsics: Intrinsics) -> float:
    """Angle between board and image plane [rad]: only tilted boards tell the focal length from the distance."""
    return float(np.arccos(np.clip(abs(intrinsics.board_pose(view, board)[2, 2]), 0.0, 1.0)))


def _held_out(
    views: Sequence[BoardView], boards: Mapping[str, CharucoBoard], used: Sequence[int], model: Distortion, seed: int
) -> float:
    """RMS px of three tenths of the views in a camera that was solved from the others."""
    order = np.random.default_rng(seed).permutation(used)
    count = max(round(_HELD_OUT_SHARE * len(used)), 1)
    fit = _fit([views[i] for i in order[count:]], boards, model)
    errors = [_rms(views[i], boards[views[i].board], fit.intrinsics) for i in order[:count]]
    corners = [len(views[i].corner_ids) for i in order[:count]]
    return float(np.sqrt(np.average(np.square(errors), weights=corners)))


def _emptiest(coverage: Array) -> str:
    """Where in the image the fewest cells saw a corner, in words."""
    rows, columns = (np.array_split(np.arange(n), 3) for n in coverage.shape)
    vertical, horizontal = ("top", "middle", "bottom"), ("left", "centre", "right")
    seen = {
        f"{v} {h}": float(np.mean(coverage[np.ix_(rows[i], columns[j])] > 0))
        for i, v in enumerate(vertical)
        for j, h in enumerate(horizontal)
    }
    return min(seen, key=lambda name: seen[name])


def _weak(count: int, covered: float, tilt_rad: float) -> tuple[str, ...]:
    weak = []
    if count < 15:
        weak.append(f"{count} views; 15 or more are better")
    if covered < 0.7:
        weak.append(f"corners cover {100 * covered:.0f} % of the image; 70 % or more are better")
    if tilt_rad < _GOOD_TILT_RAD:
        weak.append(f"the board was tilted by {np.degrees(tilt_rad):.0f} deg at most; 30 deg are better")
    return tuple(weak)
