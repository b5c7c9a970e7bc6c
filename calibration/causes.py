"""Why captures contradict each other or their labels: each cause by its own sign, so that a message can name it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from calibration.closed_form import differences, distances, mean_transform
from calibration.refinement import refine
from calibration.rig import Rig
from calibration.samples import Capture
from robot_rl.errors import CalibrationError
from robot_rl.geometry import matrix_from_pose
from robot_rl.types import Array

_CLIP_RAD, _MATCH_RAD = np.radians(5.0), np.radians(1.0)
_FEWEST_SHIFTED = 3
_SCALE_LIMIT, _SCALE_DEVIATIONS = 0.01, 4.0
_PLAUSIBLE = {"corner": 2.0, "position": 0.005, "rotation": 0.03}  # px, m, rad
_FRAME_M, _FRAME_RAD = 0.002, np.radians(0.5)


def shifted_pairing(captures: Sequence[Capture], eye: Array) -> CalibrationError | None:
    """The error that images from some one on belong to the arm's pose before or after, if that explains them.

    Whatever hand and eye are, the arm turns between two captures by the same angle as the board in the image (screw
    congruence, Chen 1991): the pairing under which these angles agree is found without solving for anything.
    """
    for camera in sorted({capture.view.camera for capture in captures}):
        own = [i for i, capture in enumerate(captures) if capture.view.camera == camera]
        own.sort(key=lambda i: captures[i].view.stamp_ns)
        hand = _angles(np.array([captures[i].arm.T_base_tcp for i in own]))
        seen = _angles(eye[own])
        unshifted = _mismatch(hand, seen, np.arange(len(own)))
        candidates = []
        for shift in (-1, 1, -2, 2):
            for first in range(len(own) - _FEWEST_SHIFTED + 1):
                arm = np.arange(len(own))
                arm[first:] += shift
                candidates.append((_mismatch(hand, seen, arm), shift, first))
        best, shift, first = min(candidates, default=(np.inf, 0, 0))
        if best < min(0.3 * unshifted, _MATCH_RAD):
            where = "before" if shift < 0 else "after"
            return CalibrationError(
                f"the pairing is shifted by {abs(shift)}: from {captures[own[first]].view} on, images belong to the "
                f"arm's pose {abs(shift)} {where} (turns then agree within {np.degrees(best):.1f} deg, as paired "
                f"within {np.degrees(unshifted):.1f} deg)",
                remedy="Pair by stamp, and drop the arm's pose where no board was found in the image",
            )
    return None


def wrong_board_size(
    captures: Sequence[Capture], rig: Rig, transforms: Mapping[str, Array]
) -> tuple[CalibrationError | None, dict[str, float]]:
    """The error that a board is not of its declared size, by the motion of the arm; and each board's relative size."""
    boards = sorted({capture.view.board for capture in captures})
    solved = refine(captures, rig, transforms, free_scale=boards)
    if any(solved.noise[kind] > most for kind, most in _PLAUSIBLE.items()):
        return None, {}  # no size explains the captures
    deviations = np.sqrt(np.diag(solved.covariance)[-len(boards) :])
    for board, deviation in zip(boards, deviations, strict=True):
        excess = solved.scales[board] - 1.0
        if abs(excess) > max(_SCALE_LIMIT, _SCALE_DEVIATIONS * deviation):
            pattern = rig.patterns.get(board)
            told = f"of {1e3 * pattern.square_m:.2f} mm squares" if pattern else "of the size its detector was told"
            real = f", rather {1e3 * pattern.square_m * (1.0 + excess):.2f} mm" if pattern else ""
            return CalibrationError(
                f"board '{board}' is not {told}{real}: by the arm's motion it is {100 * abs(excess):.1f} % "
                f"{'larger' if excess > 0.0 else 'smaller'}",
                limit=f"{100 * _SCALE_LIMIT:g} %",
                remedy="Measure its squares; printers scale to fit the page",
            ), dict(solved.scales)
    return None, dict(solved.scales)


def wrong_effector_frame(
    captures: Sequence[Capture], forward_kinematics: Callable[[Array], Array]
) -> CalibrationError | None:
    """The error that T_base_tcp is not the pose which ``forward_kinematics`` (joints [n] -> pose [7] of the tcp in the
    base) gives for the joint positions: of another effector frame, in another base, or of another time."""
    measured = np.array([capture.arm.T_base_tcp for capture in captures])
    computed = np.array([matrix_from_pose(forward_kinematics(capture.arm.joint_position)) for capture in captures])
    apart_m, apart_rad = differences(computed, measured)
    if apart_m.max() <= _FRAME_M and apart_rad.max() <= _FRAME_RAD:
        return None
    for name, offsets in (
        ("another effector frame than the tcp, such as the flange", np.linalg.inv(computed) @ measured),
        ("the tcp in another frame than the base, such as the world", measured @ np.linalg.inv(computed)),
    ):
        offset = mean_transform(offsets)
        if distances(offset, offsets).max() <= 2.0 * _FRAME_M:
            far_m, far_rad = differences(np.eye(4), offset)
            return CalibrationError(
                f"the arm's poses are those of {name}: always {1e3 * far_m:.1f} mm and {np.degrees(far_rad):.1f} deg "
                "from what its joints say",
                remedy="Record the pose of the tcp in the base, by the tool that is set in the controller",
            )
    return CalibrationError(
        f"the arm's poses differ by up to {1e3 * apart_m.max():.1f} mm and {np.degrees(apart_rad.max()):.1f} deg from "
        "what its joint positions say, each by another amount",
        limit=f"{1e3 * _FRAME_M:g} mm, {np.degrees(_FRAME_RAD):g} deg",
        remedy="They are of another link or another time: wrong effector frame, or joints and poses paired wrongly",
    )


def _angles(transforms: Array) -> Array:
    """[n, n] rad between all pairs."""
    return differences(transforms[:, None], transforms[None, :])[1]


def _mismatch(hand: Array, seen: Array, arm: Array) -> float:
    """Mean difference of turns [rad], each bounded, when image i belongs to the arm's pose ``arm[i]``."""
    there = np.flatnonzero((arm >= 0) & (arm < len(arm)))
    first, second = np.triu_indices(len(there), 1)
    first, second = there[first], there[second]
    apart = np.abs(hand[arm[first], arm[second]] - seen[first, second])
    return float(np.mean(np.minimum(apart, _CLIP_RAD)))
