"""How far a hand-eye solution can be trusted: closed loops, held-out captures, spreads, other solvers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibration.closed_form import differences
from calibration.hand_eye_start import closed_loops
from calibration.opencv_solvers import opencv_hand_eye
from calibration.refinement import Refined, refine
from calibration.rig import Mount, Rig
from calibration.samples import Capture
from robot_rl.types import Array

_FOLDS = 5
_FEWEST = 5  # captures that other solvers are given

Spread = tuple[float, float]  # mm, deg


def loop_residuals(
    captures: Sequence[Capture], rig: Rig, eye: Array, transforms: Mapping[str, Array]
) -> tuple[Array, Array]:
    """[n] m and rad between each closed loop and the pose of its board."""
    loops = closed_loops(captures, rig, transforms, eye)
    return differences(np.array([transforms[capture.view.board] for capture in captures]), loops)


def held_out(captures: Sequence[Capture], rig: Rig, eye: Array, whole: Refined) -> Spread:
    """RMS closed loop [mm, deg] of every fifth capture in a solution on the others, in turns."""
    errors = []
    for fold in range(_FOLDS):
        test = np.arange(len(captures)) % _FOLDS == fold
        train = [capture for capture, out in zip(captures, test, strict=True) if not out]
        tested = [capture for capture, out in zip(captures, test, strict=True) if out]
        solved = refine(train, rig, whole.transforms, noise=whole.noise)
        errors.append(np.stack(loop_residuals(tested, rig, eye[test], solved.transforms)))
    rms = np.sqrt(np.mean(np.concatenate(errors, axis=1) ** 2, axis=1))
    return float(1e3 * rms[0]), float(np.degrees(rms[1]))


def disagreement(
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


def deviations(refined: Refined, rig: Rig) -> dict[str, Spread]:
    """One standard deviation [mm, deg] of each transform, by its name."""
    return _named(np.diag(refined.covariance), rig)


def leave_one_out(refined: Refined, rig: Rig) -> dict[str, Spread]:
    """The most [mm, deg] that any one capture moves each transform, by its name."""
    steps = [_named(step**2, rig) for step in refined.without]
    return {name: (max(step[name][0] for step in steps), max(step[name][1] for step in steps)) for name in steps[0]}


def _named(squares: Array, rig: Rig) -> dict[str, Spread]:
    """Roots of the sums of ``squares`` [unknowns] over rotation and over translation of each body."""
    blocks = np.sqrt(squares[: 6 * len(rig.bodies)].reshape(-1, 2, 3).sum(axis=-1))
    return {
        rig.transform_name(body): (float(1e3 * metres), float(np.degrees(radians)))
        for body, (radians, metres) in zip(rig.bodies, blocks, strict=True)
    }
