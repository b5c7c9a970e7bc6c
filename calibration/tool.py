"""The tool centre point by pivoting: the tip stays on one point while the arm turns about it.

R_i p + t_i = c for every pose (R_i, t_i) of the arm: linear in the tip p, in the frame of these poses, and the point c.
Solved by iteratively reweighted least squares with Tukey's loss: a pose where the tip had slipped does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration.rotation_spread import RotationSpread, rotation_spread
from calibration.samples import ArmSample
from robot_rl.errors import CalibrationError
from robot_rl.types import Array

_FEWEST = 8
_MAIN_DEG, _SECOND_DEG = 30.0, 20.0  # spans about the two main axes
_TUKEY = 6.0  # standard deviations beyond which a pose does not count
_ROUNDS = 50
_MOST_OUTLIERS = 0.3


@dataclass(frozen=True, eq=False)
class ToolPoint:
    """``position_m`` [3] of the tip in the frame of the poses, ``deviation_m`` [3] its standard deviations.

    ``residuals_mm`` [n] are the distances from the common point; ``held_out_mm`` is the median distance by which the
    tip found without a pose misses the point there. ``outliers`` are numbers of poses that did not count.
    """

    position_m: Array
    deviation_m: Array
    point_base_m: Array
    residuals_mm: Array
    held_out_mm: float
    outliers: tuple[int, ...]
    spread: RotationSpread

    @property
    def rms_mm(self) -> float:
        """Of the poses that count."""
        kept = np.delete(self.residuals_mm, self.outliers)
        return float(np.sqrt(np.mean(kept**2)))


def tool_point(poses: Sequence[ArmSample], *, max_residual_mm: float = 1.5, max_deviation_mm: float = 0.5) -> ToolPoint:
    """The tip from poses of the arm while it stayed in place.

    Raises CalibrationError for too few poses, turns that are too small or about one axis only, a tip that did not stay
    (``max_residual_mm``, root mean square), and a result less certain than ``max_deviation_mm``.
    """
    transforms = np.array([pose.T_base_tcp for pose in poses]).reshape(-1, 4, 4)
    if len(poses) < _FEWEST:
        raise CalibrationError(f"{len(poses)} poses of the tool", limit=f"at least {_FEWEST}", remedy="Take more")
    spread = rotation_spread(transforms)
    _check_spread(spread)
    weights = np.ones(len(poses))
    for _ in range(_ROUNDS):
        updated = _tukey(_distances(transforms, _solve(transforms, weights)))
        change, weights = float(np.abs(updated - weights).max()), updated
        if change < 1e-9:
            break
    solution = _solve(transforms, weights)
    distances = _distances(transforms, solution)
    outliers = tuple(int(i) for i in np.flatnonzero(weights < 1e-3))
    if len(outliers) > _MOST_OUTLIERS * len(poses):
        raise CalibrationError(
            f"the tip was elsewhere in {len(outliers)} of {len(poses)} poses",
            limit=f"{_MOST_OUTLIERS:.0%}",
            remedy="Keep the tip in a small dent, and take no pose while it is off",
        )
    found = ToolPoint(
        solution[:3], _deviation(transforms, weights, distances), solution[3:], np.multiply(1e3, distances),
        _held_out_mm(transforms, weights), outliers, spread,
    )  # fmt: skip
    _check_result(found, max_residual_mm, max_deviation_mm)
    return found


def _check_spread(spread: RotationSpread) -> None:
    main, second = spread.spans_deg[:2]
    if main < _MAIN_DEG:
        raise CalibrationError(
            f"the tool turned by {main:.0f} deg only", limit=f"{_MAIN_DEG:g} deg", remedy="Tilt it further"
        )
    if second < _SECOND_DEG:
        raise CalibrationError(
            f"the tool turned about one axis only, {spread.axis_name} of its own: {main:.0f} deg, and {second:.0f} deg "
            "about others",
            limit=f"{_SECOND_DEG:g} deg about a second axis",
            remedy="Tilt it to other sides as well: the tip is not determined along that axis",
        )


def _check_result(found: ToolPoint, max_residual_mm: float, max_deviation_mm: float) -> None:
    if found.rms_mm > max_residual_mm:
        raise CalibrationError(
            f"the tip did not stay in place: {found.rms_mm:.2f} mm (root mean square)",
            limit=f"{max_residual_mm:g} mm",
            remedy="Pivot in a dent; check that the poses are those of the frame that carries the tool",
        )
    worst_mm = 1e3 * float(found.deviation_m.max())
    if worst_mm > max_deviation_mm:
        raise CalibrationError(
            f"the tip is uncertain by {worst_mm:.2f} mm (standard deviation)",
            limit=f"{max_deviation_mm:g} mm",
            remedy="Take more poses, tilted further",
        )


def _rows(transforms: Array) -> tuple[Array, Array]:
    """[R_i, -1] [3n, 6] and -t_i [3n]."""
    n = len(transforms)
    blocks = np.concatenate((transforms[:, :3, :3], np.tile(-np.eye(3), (n, 1, 1))), axis=2)
    return blocks.reshape(3 * n, 6), -transforms[:, :3, 3].reshape(3 * n)


def _solve(transforms: Array, weights: Array) -> Array:
    blocks, right = _rows(transforms)
    root = np.repeat(np.sqrt(weights), 3)
    return np.linalg.lstsq(blocks * root[:, None], right * root, rcond=None)[0]


def _distances(transforms: Array, solution: Array) -> Array:
    blocks, right = _rows(transforms)
    return np.asarray(np.linalg.norm((blocks @ solution - right).reshape(-1, 3), axis=1))


def _tukey(distances: Array) -> Array:
    """Weights from distances, whose scale is their median (that of a 3-D normal error is 1.54 sigma)."""
    sigma = max(float(np.median(distances)) / 1.54, 1e-7)
    share = np.minimum(distances / (_TUKEY * sigma), 1.0)
    return (1.0 - share**2) ** 2


def _deviation(transforms: Array, weights: Array, distances: Array) -> Array:
    blocks, _ = _rows(transforms)
    information = blocks.T @ (blocks * np.repeat(weights, 3)[:, None])
    free = max(3.0 * weights.sum() - 6.0, 1.0)
    variance = float((weights * distances**2).sum()) / free
    return np.sqrt(np.diag(np.linalg.inv(information))[:3] * variance)


def _held_out_mm(transforms: Array, weights: Array) -> float:
    """Median miss over the poses that count, each with a tip found without it."""
    misses = []
    for out in np.flatnonzero(weights > 1e-3):
        others = weights.copy()
        others[out] = 0.0
        misses.append(float(_distances(transforms[out : out + 1], _solve(transforms, others))[0]))
    return 1e3 * float(np.median(misses))
