"""Where cameras are fastened: solved from captures, with gates, outliers, causes and what a lab can trust it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from calibration.causes import shifted_pairing, wrong_board_size, wrong_effector_frame
from calibration.closed_form import distances
from calibration.hand_eye_gates import check_expected, check_poses, contradiction
from calibration.hand_eye_start import closed_loops, hand_eye_start
from calibration.hand_eye_trust import Spread, deviations, disagreement, held_out, leave_one_out, loop_residuals
from calibration.refinement import Refined, refine
from calibration.rig import Rig
from calibration.samples import Capture
from robot_rl.errors import CalibrationError, InvalidArrayError
from robot_rl.types import Array

_FEWEST = 5  # captures that a solution is left with
_GOOD_MM, _GOOD_DEG = 1.0, 0.57  # held out; as DROID passes its cameras
_OUTLIER_SCORE, _OUTLIER_LEAST_M, _OUTLIER_SHARE = 4.0, 0.001, 0.3
_SCALE_WEAK = 0.003


@dataclass(frozen=True, eq=False)
class HandEye:
    """The transforms of a rig by name, such as T_tcp_wrist, and how far to trust them. Lengths in mm, angles in deg
    where names say so."""

    rig: Rig
    transforms: Mapping[str, Array]  # by transform name, [4, 4]
    deviation: Mapping[str, Spread]  # one standard deviation of each
    residual_mm: Array  # [n] of each capture: the closed loop through arm, camera and board
    residual_deg: Array
    held_out_mm: float  # rms of closed loops of captures that a solution on the others did not see
    held_out_deg: float
    leave_one_out: Mapping[str, Spread]  # the most that any one capture moves each
    disagreement: Mapping[str, Mapping[str, Spread]]  # camera -> OpenCV's method -> distance from ours
    outliers: Mapping[int, str]  # captures that were not used, and why
    corrected: Mapping[int, str]  # captures that were used otherwise than labelled
    noise: Mapping[str, float]  # corner [px], position [m], rotation [rad]
    turns_deg: Mapping[str, Sequence[float]]  # of each camera, about its principal axes
    weak: Sequence[str]  # what better samples would have


def calibrate_hand_eye(
    captures: Sequence[Capture],
    rig: Rig,
    *,
    forward_kinematics: Callable[[Array], Array] | None = None,
    expected: Mapping[str, Array] | None = None,
    max_residual_mm: float = 5.0,
    max_residual_deg: float = 1.5,
) -> HandEye:
    """Solve for all cameras and boards of ``rig`` at once.

    ``forward_kinematics`` (joints [n] -> pose [7] of the tcp in the base) lets the arm's poses be checked against its
    joints, ``expected`` {transform name: [4, 4]} the result against a drawing. Raises CalibrationError naming the
    cause for captures that are too few, turn too little, are paired wrongly, are of a board of another size or
    another effector frame, or contradict each other; single ones that do are left out and listed.
    """
    rig.check(captures)
    turns, weak = check_poses(captures, rig)
    if forward_kinematics is not None:
        _raise(wrong_effector_frame(captures, forward_kinematics))
    solution = _solve(captures, rig)
    used, eye = [solution.captures[i] for i in solution.kept], solution.eye[solution.kept]
    error, scales = wrong_board_size(used, rig, solution.refined.transforms)
    _raise(error)
    if len(solution.outliers) > _OUTLIER_SHARE * len(captures):
        raise contradiction(f"{len(solution.outliers)} of {len(captures)} captures contradict the others")
    held_out_mm, held_out_deg = held_out(used, rig, eye, solution.refined)
    if held_out_mm > max_residual_mm or held_out_deg > max_residual_deg:
        raise contradiction(
            f"captures that were held out are missed by {held_out_mm:.1f} mm and {held_out_deg:.2f} deg",
            f"{max_residual_mm:g} mm, {max_residual_deg:g} deg",
        )
    transforms = {rig.transform_name(name): value for name, value in solution.refined.transforms.items()}
    check_expected(transforms, expected or {})
    weak += _weak(held_out_mm, held_out_deg, scales)
    residual_m, residual_rad = loop_residuals(solution.captures, rig, solution.eye, solution.refined.transforms)
    return HandEye(
        rig=rig, transforms=transforms, deviation=deviations(solution.refined, rig),
        residual_mm=1e3 * residual_m, residual_deg=np.degrees(residual_rad),
        held_out_mm=held_out_mm, held_out_deg=held_out_deg, leave_one_out=leave_one_out(solution.refined, rig),
        disagreement=disagreement(used, rig, eye, solution.refined.transforms), outliers=solution.outliers,
        corrected=solution.corrected, noise=solution.refined.noise, turns_deg=turns, weak=tuple(weak),
    )  # fmt: skip


def _raise(error: CalibrationError | None) -> None:
    if error is not None:
        raise error


def _weak(held_out_mm: float, held_out_deg: float, scales: Mapping[str, float]) -> list[str]:
    weak = []
    if held_out_mm > _GOOD_MM or held_out_deg > _GOOD_DEG:
        weak.append(f"{held_out_mm:.1f} mm and {held_out_deg:.2f} deg held out; {_GOOD_MM} and {_GOOD_DEG} are good")
    for name, scale in scales.items():
        if abs(scale - 1.0) > _SCALE_WEAK:
            weak.append(f"board '{name}' seems {100 * (scale - 1.0):+.1f} % of its declared size")
    return weak


@dataclass(eq=False)
class _Solution:
    """The most likely transforms while captures are set aside or set right."""

    captures: list[Capture]
    eye: Array  # T_camera_board [n, 4, 4]
    refined: Refined
    kept: list[int]
    outliers: dict[int, str] = field(default_factory=dict)
    corrected: dict[int, str] = field(default_factory=dict)


def _solve(given: Sequence[Capture], rig: Rig) -> _Solution:
    """Refine, set aside what does not fit, refine again."""
    captures, eye = list(given), rig.board_poses(given)
    _raise(shifted_pairing(captures, eye))
    start = hand_eye_start(captures, rig, eye)
    solution = _Solution(captures, eye, refine(captures, rig, start), list(range(len(captures))))
    while True:
        transforms = solution.refined.transforms
        residual_m, residual_rad = loop_residuals(captures, rig, eye, transforms)
        lost = [
            i
            for i, score in zip(solution.kept, solution.refined.scores, strict=True)
            if score > _OUTLIER_SCORE and residual_m[i] + 0.3 * residual_rad[i] > _OUTLIER_LEAST_M
        ]
        if not lost or len(solution.outliers) + len(lost) > len(captures) - _FEWEST:
            return solution
        for i in lost:
            board = _true_board(captures[i], rig, transforms, float(np.median(residual_m)))
            if board is not None and i not in solution.corrected:
                solution.corrected[i] = f"{captures[i].view} shows board '{board}', not '{captures[i].view.board}'"
                captures[i] = replace(captures[i], view=replace(captures[i].view, board=board))
                eye[i] = rig.board_poses([captures[i]])[0]
                continue
            solution.kept.remove(i)
            solution.outliers[i] = (
                f"{captures[i].view} is {1e3 * residual_m[i]:.1f} mm and {np.degrees(residual_rad[i]):.1f} deg from "
                "the others: a mislabelled or moved board, or the arm was elsewhere"
            )
        solution.refined = refine([captures[i] for i in solution.kept], rig, transforms)


def _true_board(capture: Capture, rig: Rig, transforms: Mapping[str, Array], typical_m: float) -> str | None:
    """The other board that a view fits, if there is one."""
    for board in rig.boards:
        if board == capture.view.board:
            continue
        other = replace(capture, view=replace(capture.view, board=board))
        try:
            rig.check([other])
            loop = closed_loops([other], rig, transforms, rig.board_poses([other]))[0]
        except (CalibrationError, InvalidArrayError):  # corners that the other board lacks
            continue
        if distances(transforms[board], loop[None])[0] < max(5.0 * typical_m, 0.005):
            return board
    return None
