"""All unknown transforms of a rig at once, as those under which the views are most likely.

Corners count by their reprojection error; poses without corners by their translation and their rotation, each against
the noise that the residuals show. Nothing is compared pair by pair: that would let the rotation noise of one pose,
times the distance of the board, into the translation of another. A Huber loss bounds what a single corner can do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from calibration.rig import Mount, Rig
from calibration.samples import BoardPose, BoardView, Capture
from robot_rl.geometry import matrix_from_rotvec, rotvec_from_matrix
from robot_rl.types import Array

_ROUNDS = 3  # of noise estimates
_STEPS = 40  # a solution that takes more is none
_HUBER = 3.0  # standard deviations
_PRIOR = {"corner": 0.5, "position": 2e-3, "rotation": 0.01}  # px, m, rad
_PRIOR_COUNT = 3.0  # samples that a prior counts as
_MAD_TO_DEVIATION = 1.4826


@dataclass(frozen=True, eq=False)
class Refined:
    """The most likely transforms, and how sharply the captures determine them."""

    transforms: Mapping[str, Array]  # T_mount_body [4, 4] of each camera and board
    scales: Mapping[str, float]  # true over declared size of each board; 1 unless it was free
    noise: Mapping[str, float]  # corner [px], position [m], rotation [rad]: one standard deviation
    scores: Array  # [n] rms residual of each capture over its expected one
    covariance: Array  # of the unknowns: 6 of each body (rotation, translation), then free scales
    without: Array  # [n, unknowns] by how much the unknowns change without each capture, to first order


def refine(
    captures: Sequence[Capture],
    rig: Rig,
    start: Mapping[str, Array],
    *,
    free_scale: Sequence[str] = (),
    noise: Mapping[str, float] | None = None,
) -> Refined:
    """Maximum likelihood from a near ``start`` {body: T_mount_body}, of given ``noise`` or of the noise that is seen;
    boards named ``free_scale`` get a size, too."""
    problem = _Problem(captures, rig, start, free_scale)
    unknowns, known = np.zeros(problem.size), noise is not None
    noise = dict(noise or _PRIOR)
    for _ in range(1 if known else _ROUNDS):
        solution = least_squares(
            problem.residuals(noise), unknowns, loss="huber", f_scale=_HUBER, x_scale="jac",
            xtol=1e-10, ftol=1e-10, max_nfev=_STEPS,
        )  # fmt: skip
        unknowns = solution.x
        noise = noise if known else problem.noise(unknowns)
    residuals = problem.residuals(noise)
    jacobian, value = _jacobian(residuals, unknowns), residuals(unknowns)
    information = jacobian.T @ jacobian
    return Refined(
        problem.transforms(unknowns),
        dict(zip(rig.boards, problem.scales(unknowns).tolist(), strict=True)),
        noise,
        problem.scores(value),
        np.linalg.pinv(information),
        problem.without(jacobian, value, information),
    )


class _Problem:
    """The captures as arrays: n captures, c corners of those seen by corners, p of those seen as poses."""

    def __init__(
        self, captures: Sequence[Capture], rig: Rig, start: Mapping[str, Array], free_scale: Sequence[str]
    ) -> None:
        self._rig, self._start = rig, np.array([start[name] for name in rig.bodies])
        bodies, boards = list(rig.bodies), list(rig.boards)
        self._camera = np.array([bodies.index(capture.view.camera) for capture in captures])
        self._board = np.array([boards.index(capture.view.board) for capture in captures])
        self._hand = np.array([capture.arm.T_base_tcp for capture in captures])
        self._on_tcp = np.array([rig.mount(name) is Mount.TCP for name in bodies])
        self._free = [boards.index(name) for name in free_scale]
        self.size = 6 * len(bodies) + len(self._free)
        self._gather([capture.view for capture in captures])

    def _gather(self, views: Sequence[BoardView | BoardPose]) -> None:
        seen = [(i, view) for i, view in enumerate(views) if isinstance(view, BoardView)]
        posed = [(i, view) for i, view in enumerate(views) if isinstance(view, BoardPose)]
        points = [self._rig.patterns[view.board].points(view.corner_ids) for _, view in seen]
        self._points = np.concatenate([np.empty((0, 3)), *points])
        self._pixels = np.concatenate([np.empty((0, 2)), *(view.corners_px for _, view in seen)])
        self._of = np.concatenate([np.empty(0, int), *(np.full(len(view.corner_ids), i) for i, view in seen)])
        self._posed = np.array([i for i, _ in posed], dtype=int)
        self._measured = np.array([view.T_camera_board for _, view in posed]).reshape(-1, 4, 4)
        rows = [np.repeat(self._of, 2), np.repeat(self._posed, 3), np.repeat(self._posed, 3)]
        self._row_of = np.concatenate(rows).astype(int)
        names = [name for name in self._rig.cameras if name in self._rig.intrinsics]
        bodies = self._rig.bodies
        self._lenses = [(self._rig.intrinsics[name], self._camera[self._of] == bodies.index(name)) for name in names]

    def transforms(self, unknowns: Array) -> dict[str, Array]:
        return dict(zip(self._rig.bodies, self._moved(unknowns), strict=True))

    def scales(self, unknowns: Array) -> Array:
        scales = np.ones(len(self._rig.boards))
        scales[self._free] += unknowns[6 * len(self._rig.bodies) :]
        return scales

    def residuals(self, noise: Mapping[str, float]) -> Callable[[Array], Array]:
        """[2 c + 6 p] over their standard deviations, as a function of the unknowns."""
        return lambda unknowns: np.concatenate(
            [(part / noise[kind]).ravel() for kind, part in self._parts(unknowns).items()]
        )

    def noise(self, unknowns: Array) -> dict[str, float]:
        """One standard deviation of each kind of residual, by their median; few of them are blended with a prior."""
        noise = {}
        for kind, part in self._parts(unknowns).items():
            spread = _MAD_TO_DEVIATION * float(np.median(np.abs(part))) if part.size else 0.0
            lost = min(0.5 * self.size / max(part.size, 1), 0.6)  # what the unknowns took from the residuals
            count = part.size / 3.0
            variance = (count * spread**2 / (1.0 - lost) + _PRIOR_COUNT * _PRIOR[kind] ** 2) / (count + _PRIOR_COUNT)
            noise[kind] = float(np.sqrt(variance))
        return noise

    def scores(self, residuals: Array) -> Array:
        squares = np.bincount(self._row_of, weights=residuals**2, minlength=len(self._hand))
        return np.sqrt(squares / np.maximum(np.bincount(self._row_of, minlength=len(self._hand)), 1))

    def without(self, jacobian: Array, residuals: Array, information: Array) -> Array:
        changes = []
        for capture in range(len(self._hand)):
            own = self._row_of == capture
            rest = information - jacobian[own].T @ jacobian[own]
            changes.append(np.linalg.pinv(rest) @ (jacobian[own].T @ residuals[own]))
        return np.array(changes)

    def _parts(self, unknowns: Array) -> dict[str, Array]:
        poses, scales = self._board_poses(unknowns), self.scales(unknowns)[self._board]
        of = self._of
        points = np.einsum("nij,nj->ni", poses[of, :3, :3], scales[of, None] * self._points) + poses[of, :3, 3]
        seen = np.empty_like(self._pixels)
        for lens, own in self._lenses:
            seen[own] = lens.project(points[own])
        expected = poses[self._posed]
        position = scales[self._posed, None] * self._measured[:, :3, 3] - expected[:, :3, 3]
        turned = np.swapaxes(self._measured[:, :3, :3], -1, -2) @ expected[:, :3, :3]
        return {"corner": seen - self._pixels, "position": position, "rotation": rotvec_from_matrix(turned)}

    def _board_poses(self, unknowns: Array) -> Array:
        """T_camera_board [n, 4, 4] as the unknowns have it."""
        bodies = self._moved(unknowns)
        board = self._board + len(self._rig.cameras)
        in_base = [
            np.where(self._on_tcp[body][:, None, None], self._hand @ bodies[body], bodies[body])
            for body in (self._camera, board)
        ]
        return np.linalg.inv(in_base[0]) @ in_base[1]

    def _moved(self, unknowns: Array) -> Array:
        steps = unknowns[: 6 * len(self._start)].reshape(-1, 6)
        moved = self._start.copy()
        moved[:, :3, :3] = matrix_from_rotvec(steps[:, :3]) @ self._start[:, :3, :3]
        moved[:, :3, 3] += steps[:, 3:]
        return moved


def _jacobian(function: Callable[[Array], Array], at: Array) -> Array:
    """By central differences, [m, n]."""
    step = 1e-6
    columns = [(function(at + step * unit) - function(at - step * unit)) / (2.0 * step) for unit in np.eye(len(at))]
    return np.stack(columns, axis=1)
