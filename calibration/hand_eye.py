"""Where cameras are fastened: solved from captures, with gates, outliers, causes and what a lab can trust it by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.causes import shifted_pairing, wrong_board_size, wrong_effector_frame
from calibration.closed_form import differences, distances
from calibration.hand_eye_start import closed_loops, hand_eye_start
from calibration.opencv_solvers import opencv_hand_eye
from calibration.refinement import Refined, refine
from calibration.rig import Mount, Rig
from calibration.rotation_spread import rotation_spread
from calibration.samples import Capture
from robot_rl.errors import CalibrationError, InvalidArrayError
from robot_rl.types import Array

_FEWEST, _ENOUGH = 5, 15  # captures of a camera
_NARROWEST_DEG, _WIDE_DEG = 15.0, 30.0  # turns about the second axis
_GOOD_MM, _GOOD_DEG = 1.0, 0.57  # held out; as DROID passes its cameras
_OUTLIER_SCORE, _OUTLIER_LEAST_M, _OUTLIER_SHARE = 4.0, 0.001, 0.3
_EXPECTED_M, _EXPECTED_DEG = 0.05, 15.0
_SCALE_WEAK = 0.003
_FOLDS = 5

Spread = tuple[float, float]  # mm, deg


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
    turns, weak = _gates(captures, rig)
    if forward_kinematics is not None:
        _raise(wrong_effector_frame(captures, forward_kinematics))
    captures, eye = list(captures), rig.board_poses(captures)
    _raise(shifted_pairing(captures, eye))
    start = hand_eye_start(captures, rig, eye)
    refined, outliers, corrected = _solve(captures, rig, eye, start)
    kept = [i for i in range(len(captures)) if i not in outliers]
    used = [captures[i] for i in kept]
    error, scales = wrong_board_size(used, rig, refined.transforms)
    _raise(error)
    if len(outliers) > _OUTLIER_SHARE * len(captures):
        raise _contradiction(f"{len(outliers)} of {len(captures)} captures contradict the others")
    held_out_mm, held_out_deg = _held_out(used, rig, eye[kept], refined)
    if held_out_mm > max_residual_mm or held_out_deg > max_residual_deg:
        raise _contradiction(
            f"captures that were held out are missed by {held_out_mm:.1f} mm and {held_out_deg:.2f} deg",
            f"{max_residual_mm:g} mm, {max_residual_deg:g} deg",
        )
    transforms = {rig.transform_name(name): value for name, value in refined.transforms.items()}
    _check_expected(transforms, expected or {})
    if held_out_mm > _GOOD_MM or held_out_deg > _GOOD_DEG:
        weak.append(f"{held_out_mm:.1f} mm and {held_out_deg:.2f} deg held out; {_GOOD_MM} and {_GOOD_DEG} are good")
    weak += [
        f"board '{name}' seems {100 * (scale - 1.0):+.1f} % of its declared size"
        for name, scale in scales.items()
        if abs(scale - 1.0) > _SCALE_WEAK
    ]
    residual_m, residual_rad = _residuals(captures, rig, eye, refined.transforms)
    spread = _spreads(refined.without, rig).max(axis=0)
    deviation = np.sqrt([_block_sums(np.diag(refined.covariance), rig)])[0]
    names = [rig.transform_name(name) for name in rig.bodies]
    return HandEye(
        rig=rig, transforms=transforms, deviation=_named(names, deviation),
        residual_mm=1e3 * residual_m, residual_deg=np.degrees(residual_rad),
        held_out_mm=held_out_mm, held_out_deg=held_out_deg, leave_one_out=_named(names, spread),
        disagreement=_disagreement(used, rig, eye[kept], refined.transforms),
        outliers=outliers, corrected=corrected, noise=refined.noise, turns_deg=turns, weak=tuple(weak),
    )  # fmt: skip


def _raise(error: CalibrationError | None) -> None:
    if error is not None:
        raise error


def _gates(captures: Sequence[Capture], rig: Rig) -> tuple[dict[str, Sequence[float]], list[str]]:
    """Turns of each camera against the boards it sees [deg], and what is weak about them."""
    turns, weak = {}, []
    for camera in rig.cameras:
        own = [capture for capture in captures if capture.view.camera == camera]
        if len(own) < _FEWEST:
            raise CalibrationError(
                f"{len(own)} captures of camera '{camera}'", limit=f">= {_FEWEST}", remedy=f"{_ENOUGH} are good"
            )
        spread = rotation_spread(np.array([capture.arm.T_base_tcp for capture in own]))
        turns[camera] = [float(value) for value in spread.spans_deg]
        first, second = turns[camera][:2]
        if second < _NARROWEST_DEG:
            if first >= _NARROWEST_DEG:
                what = f"the poses turn by {first:.0f} deg about one axis only, {spread.axis_name} of the tcp"
            else:
                what = f"the poses turn by {first:.0f} deg at most"
            raise CalibrationError(
                f"camera '{camera}': {what} ({second:.0f} deg about a second one)",
                limit=f"{_NARROWEST_DEG:g} deg about two axes",
                remedy=f"Tilt the tool about other axes, too; {_WIDE_DEG:g} deg are good",
            )
        if len(own) < _ENOUGH:
            weak.append(f"{len(own)} captures of camera '{camera}'; {_ENOUGH} are good")
        if second < _WIDE_DEG:
            weak.append(f"camera '{camera}' turns by {second:.0f} deg about a second axis; {_WIDE_DEG:g} deg are good")
    return turns, weak


def _solve(
    captures: list[Capture], rig: Rig, eye: Array, start: Mapping[str, Array]
) -> tuple[Refined, dict[int, str], dict[int, str]]:
    """Refine, set aside what does not fit, refine again. ``captures`` and ``eye`` are corrected in place where a view
    is of another board than it says."""
    outliers: dict[int, str] = {}
    corrected: dict[int, str] = {}
    kept, transforms = list(range(len(captures))), start
    while True:
        refined = refine([captures[i] for i in kept], rig, transforms)
        transforms = refined.transforms
        residual_m, residual_rad = _residuals(captures, rig, eye, transforms)
        lost = [
            i
            for i, score in zip(kept, refined.scores, strict=True)
            if score > _OUTLIER_SCORE and residual_m[i] + 0.3 * residual_rad[i] > _OUTLIER_LEAST_M
        ]
        if not lost or len(outliers) + len(lost) > len(captures) - _FEWEST:
            return refined, outliers, corrected
        for i in lost:
            board = _true_board(captures[i], rig, transforms, float(np.median(residual_m)))
            if board is not None and i not in corrected:
                corrected[i] = f"{captures[i].view} shows board '{board}', not '{captures[i].view.board}'"
                captures[i] = replace(captures[i], view=replace(captures[i].view, board=board))
                eye[i] = rig.board_poses([captures[i]])[0]
                continue
            kept.remove(i)
            outliers[i] = (
                f"{captures[i].view} is {1e3 * residual_m[i]:.1f} mm and {np.degrees(residual_rad[i]):.1f} deg from "
                "the others: a mislabelled or moved board, or the arm was elsewhere"
            )


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


def _residuals(
    captures: Sequence[Capture], rig: Rig, eye: Array, transforms: Mapping[str, Array]
) -> tuple[Array, Array]:
    """[n] m and rad between each closed loop and the pose of its board."""
    loops = closed_loops(captures, rig, transforms, eye)
    return differences(np.array([transforms[capture.view.board] for capture in captures]), loops)


def _held_out(captures: Sequence[Capture], rig: Rig, eye: Array, whole: Refined) -> Spread:
    """RMS closed loop [mm, deg] of every fifth capture in a solution on the others, in turns."""
    errors = []
    for fold in range(_FOLDS):
        test = np.arange(len(captures)) % _FOLDS == fold
        train = [capture for capture, out in zip(captures, test, strict=True) if not out]
        tested = [capture for capture, out in zip(captures, test, strict=True) if out]
        solved = refine(train, rig, whole.transforms, noise=whole.noise)
        errors.append(np.stack(_residuals(tested, rig, eye[test], solved.transforms)))
    rms = np.sqrt(np.mean(np.concatenate(errors, axis=1) ** 2, axis=1))
    return float(1e3 * rms[0]), float(np.degrees(rms[1]))


def _disagreement(
    captures: Sequence[Capture], rig: Rig, eye: Array, transforms: Mapping[str, Array]
) -> dict[str, dict[str, Spread]]:
    """How far OpenCV's solvers are from ours, for each camera with the board that moves most against it."""
    result: dict[str, dict[str, Spread]] = {}
    for camera, mount in rig.cameras.items():
        boards = [name for name, other in rig.boards.items() if other is not mount]
        groups = [
            [i for i, c in enumerate(captures) if (c.view.camera, c.view.board) == (camera, board)] for board in boards
        ]
        own = max(groups, key=len, default=[])
        if len(own) < _FEWEST:
            continue
        hand = np.array([captures[i].arm.T_base_tcp for i in own])
        hand = hand if mount is Mount.TCP else np.linalg.inv(hand)
        solutions = opencv_hand_eye(hand, eye[own])
        result[camera] = {}
        for method, x in solutions.items():
            far_m, far_rad = differences(transforms[camera], x)
            result[camera][method] = (float(1e3 * far_m), float(np.degrees(far_rad)))
    return result


def _check_expected(transforms: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    for name, value in expected.items():
        if name not in transforms:
            raise CalibrationError(f"'{name}' is expected but not solved for", remedy=f"Solved: {sorted(transforms)}")
        far_m, far_rad = differences(value, transforms[name])
        if far_m <= _EXPECTED_M and np.degrees(far_rad) <= _EXPECTED_DEG:
            continue
        inverse_m, inverse_rad = differences(np.linalg.inv(value), transforms[name])
        inverted = inverse_m <= _EXPECTED_M and np.degrees(inverse_rad) <= _EXPECTED_DEG
        raise CalibrationError(
            f"{name} is {1e3 * far_m:.0f} mm and {np.degrees(far_rad):.0f} deg from what was expected",
            limit=f"{1e3 * _EXPECTED_M:g} mm, {_EXPECTED_DEG:g} deg",
            remedy="What was expected is inverted"
            if inverted
            else "Is the arm's pose that of the tcp, not of the flange, and in the base?",
        )


def _contradiction(what: str, limit: str | None = None) -> CalibrationError:
    return CalibrationError(
        what,
        limit=limit,
        remedy="In this order: is the pose that of the tcp in the base (effector frame), was the board fastened, were "
        "the images those the intrinsics hold for (raw, not rectified), did the robot stand still",
    )


def _block_sums(squares: Array, rig: Rig) -> Array:
    """Of [..., unknowns]: the sums over translation [m^2] and rotation [rad^2] of each body, [..., bodies, 2]."""
    blocks = squares[..., : 6 * len(rig.bodies)].reshape(*squares.shape[:-1], -1, 2, 3).sum(axis=-1)
    return blocks[..., ::-1]


def _spreads(steps: Array, rig: Rig) -> Array:
    return np.sqrt(_block_sums(steps**2, rig))


def _named(names: Sequence[str], values: Array) -> dict[str, Spread]:
    return {
        name: (float(1e3 * metres), float(np.degrees(radians)))
        for name, (metres, radians) in zip(names, values, strict=True)
    }
