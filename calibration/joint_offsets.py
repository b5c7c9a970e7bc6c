"""Zero offsets of the joints from repeated views of one board, together with the mounting of camera and board.

The joints are at q + offset where their encoders say q. Through forward kinematics F, a camera X on the hand sees the
board Z at (F(q + offset) X)^-1 Z, one that stands at X^-1 F(q + offset) Z: offsets, X and Z are solved at once over
reprojection (over poses where there are no corners). Some offsets look like another mounting: that of the
first joint turns the base, that of the last one the camera or the board. They are found in the singular values of the
Jacobian once what X and Z can imitate is taken out (Hollerbach and Wampler 1996), and named, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calibration.rig import Mount, Rig
from calibration.samples import BoardPose, BoardView, Capture
from robot_rl.errors import CalibrationError
from robot_rl.geometry import matrix_from_pose
from robot_rl.types import Array

Forward = Callable[[Array], Array]  # joint position [n] rad -> pose [7] of the TCP in the base

_FEWEST = 12  # views: six numbers each, for n offsets and two mountings
_EXPECTED_RAD = 0.1  # an offset is of this size before it was measured: what cannot be seen stays near zero
_PIXEL, _PLACE_M, _TURN_RAD = 0.5, 0.001, 0.005  # residuals of one standard deviation, before their own is known
_LEAST = (0.02, 2e-5, 1e-4)  # the same
_INVOLVED = 0.2  # part of a joint in a direction of unit length
_HELD_OUT_SHARE = 0.3


@dataclass(frozen=True)
class UnseenDirection:
    """A combination of offsets that the views do not determine: joint -> part of it, and its standard deviation."""

    parts: Mapping[str, float]
    deviation_rad: float

    def __str__(self) -> str:
        return " ".join(f"{part:+.2f} {name}" for name, part in self.parts.items())


@dataclass(frozen=True, eq=False)
class JointOffsets:
    """``offset_rad`` [n] is to be added to the encoders' positions, near zero along what is ``unseen``;
    ``deviation_rad`` [n] are its standard deviations. ``before`` and ``held_out`` are root mean square errors of views
    that were held out, without offsets and with them, px (mm where there are only poses)."""

    names: tuple[str, ...]
    offset_rad: Array
    deviation_rad: Array
    unseen: tuple[UnseenDirection, ...]
    transforms: Mapping[str, Array]  # T_mount_body [4, 4] of each camera and board of the rig
    view_errors: Array  # [n]
    before: float
    held_out: float

    @property
    def unseen_joints(self) -> tuple[str, ...]:
        """Joints whose offset is not, or not alone, determined."""
        return tuple(name for name in self.names if any(name in direction.parts for direction in self.unseen))


def joint_offsets(
    captures: Sequence[Capture],
    forward: Forward,
    rig: Rig,
    start: Mapping[str, Array],
    *,
    names: Sequence[str] = (),
    max_deviation_rad: float = 0.003,
    seed: int = 0,
) -> JointOffsets:
    """Solve for the offsets. ``start`` is a hand-eye calibration, T_mount_body of each camera and board of the rig.

    A direction with a standard deviation above ``max_deviation_rad`` counts as unseen. Raises CalibrationError for too
    few views, or where no joint can be seen.
    """
    if len(captures) < _FEWEST:
        raise CalibrationError(
            f"{len(captures)} views of the board", limit=f">= {_FEWEST}", remedy="Take views in other postures"
        )
    dof = len(captures[0].arm.joint_position)
    named = tuple(names) or tuple(f"joint{i + 1}" for i in range(dof))
    rig.check(captures)
    model = _Model(forward, rig)
    order = np.random.default_rng(seed).permutation(len(captures))
    count = max(round(_HELD_OUT_SHARE * len(captures)), 1)
    held, kept = [captures[i] for i in order[:count]], [captures[i] for i in order[count:]]
    before = _Problem(model, kept, dof).solve(start, still=True)
    after = _Problem(model, kept, dof).solve(before.bodies)
    whole = _Problem(model, captures, dof).solve(after.bodies)
    unseen = _unseen(whole.offset_jacobian, named, max_deviation_rad)
    if len(unseen) == dof:
        raise CalibrationError(
            "no offset of a joint can be told from another mounting of camera and board",
            limit=f"{max_deviation_rad:g} rad (standard deviation) for at least one",
            remedy="Take views in very different postures: other elbows, wrists turned by 90 deg",
        )
    covariance = np.linalg.inv(whole.offset_jacobian.T @ whole.offset_jacobian + np.eye(dof) / _EXPECTED_RAD**2)
    return JointOffsets(
        named, whole.offset, np.sqrt(np.diag(covariance)), unseen, whole.bodies,
        model.errors(captures, whole.offset, whole.bodies),
        _rms(model.errors(held, np.zeros(dof), before.bodies)), _rms(model.errors(held, after.offset, after.bodies)),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Solution:
    offset: Array  # [n] rad
    bodies: Mapping[str, Array]  # T_mount_body [4, 4]
    offset_jacobian: Array  # [m, n] of whitened residuals, without what the mounting imitates


class _Model:
    """Where boards are seen."""

    def __init__(self, forward: Forward, rig: Rig) -> None:
        self._forward, self.rig = forward, rig
        self._last: tuple[Sequence[Capture], bytes, Array] = (), b"", np.empty((0, 4, 4))

    def residuals(self, captures: Sequence[Capture], offset: Array, bodies: Mapping[str, Array]) -> list[Array]:
        """Of each view: [k, 2] px, or [6] of m and rad."""
        tcp, found = self._tcp(captures, offset), []
        for capture, here in zip(captures, tcp, strict=True):
            camera, board = (self._in_base(body, here, bodies) for body in (capture.view.camera, capture.view.board))
            found.append(self._residual(capture.view, np.linalg.inv(camera) @ board))
        return found

    def _tcp(self, captures: Sequence[Capture], offset: Array) -> Array:
        """F(q + offset) [n, 4, 4]; most steps of a solver change the mounting alone."""
        asked, told, known = self._last
        if asked is not captures or told != offset.tobytes():
            poses = [self._forward(capture.arm.joint_position + offset) for capture in captures]
            known = matrix_from_pose(np.array(poses))
            self._last = captures, offset.tobytes(), known
        return known

    def errors(self, captures: Sequence[Capture], offset: Array, bodies: Mapping[str, Array]) -> Array:
        """Root mean square error of each view, px or mm, [n]."""
        found = self.residuals(captures, offset, bodies)
        return np.array(
            [np.sqrt((r**2).sum(axis=1).mean()) if r.ndim == 2 else 1e3 * np.linalg.norm(r[:3]) for r in found]
        )

    def _in_base(self, body: str, tcp: Array, bodies: Mapping[str, Array]) -> Array:
        return tcp @ bodies[body] if self.rig.mount(body) is Mount.TCP else bodies[body]

    def _residual(self, view: BoardView | BoardPose, pose: Array) -> Array:
        if isinstance(view, BoardPose):
            turn = Rotation.from_matrix(pose[:3, :3].T @ view.T_camera_board[:3, :3]).as_rotvec()
            return np.concatenate((pose[:3, 3] - view.T_camera_board[:3, 3], turn))
        return self.rig.intrinsics[view.camera].reprojection(view, self.rig.patterns[view.board], pose)


class _Problem:
    """Least squares over x: n offsets, then rotation and translation of each camera and board."""

    def __init__(self, model: _Model, captures: Sequence[Capture], dof: int) -> None:
        self._model, self._captures, self._dof = model, captures, dof
        self._noise = np.array([_PIXEL, _PLACE_M, _TURN_RAD])

    def solve(self, start: Mapping[str, Array], still: bool = False) -> _Solution:
        """From a mounting; ``still`` keeps the offsets at zero."""
        n = self._dof
        x = np.concatenate((np.zeros(n), *(_vector(start[body]) for body in self._model.rig.bodies)))
        fixed, jacobian = (n if still else 0), np.empty((1, n))
        for _ in range(2):
            fitted = least_squares(
                lambda y: self._whitened(np.concatenate((np.zeros(fixed), y))), x[fixed:], loss="soft_l1",
                x_scale="jac",
            )  # fmt: skip
            x, jacobian = np.concatenate((np.zeros(fixed), fitted.x)), fitted.jac[:-n]
            self._measure_noise(x)
        if not still:
            mounting = np.linalg.qr(jacobian[:, n:])[0]
            jacobian = jacobian[:, :n] - mounting @ (mounting.T @ jacobian[:, :n])
        return _Solution(x[:n], self._bodies(x), jacobian)

    def _bodies(self, x: Array) -> dict[str, Array]:
        vectors = x[self._dof :].reshape(-1, 6)
        return {body: _matrix(vector) for body, vector in zip(self._model.rig.bodies, vectors, strict=True)}

    def _whitened(self, x: Array) -> Array:
        """Residuals of unit variance, and the offsets' own expectation behind them."""
        offset = x[: self._dof]
        found = self._model.residuals(self._captures, offset, self._bodies(x))
        parts = [r.ravel() / self._noise[0] if r.ndim == 2 else r / np.repeat(self._noise[1:], 3) for r in found]
        return np.concatenate((*parts, offset / _EXPECTED_RAD))

    def _measure_noise(self, x: Array) -> None:
        found = self._model.residuals(self._captures, x[: self._dof], self._bodies(x))
        kinds = (
            [r.ravel() for r in found if r.ndim == 2],
            [r[:3] for r in found if r.ndim == 1],
            [r[3:] for r in found if r.ndim == 1],
        )
        for number, (values, least) in enumerate(zip(kinds, _LEAST, strict=True)):
            if values:
                self._noise[number] = max(float(np.median(np.abs(np.concatenate(values)))) / 0.6745, least)


def _unseen(jacobian: Array, names: Sequence[str], max_deviation_rad: float) -> tuple[UnseenDirection, ...]:
    """Directions of small singular values, combined so that each has one joint that no other has."""
    _, singular, directions = np.linalg.svd(jacobian, full_matrices=False)
    deviation = np.minimum(1.0 / np.maximum(singular, 1e-12), _EXPECTED_RAD)
    lost = directions[deviation > max_deviation_rad]
    if not len(lost):
        return ()
    own = np.sort(np.asarray(scipy.linalg.qr(lost, pivoting=True)[-1])[: len(lost)])
    reduced = np.linalg.solve(lost[:, own], lost)
    reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
    worst = float(deviation.max())
    return tuple(
        UnseenDirection({n: float(p) for n, p in zip(names, row, strict=True) if abs(p) > _INVOLVED}, worst)
        for row in reduced
    )


def _rms(errors: Array) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def _vector(transform: Array) -> Array:
    return np.concatenate((Rotation.from_matrix(transform[:3, :3]).as_rotvec(), transform[:3, 3]))


def _matrix(vector: Array) -> Array:
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = Rotation.from_rotvec(vector[:3]).as_matrix(), vector[3:]
    return transform
