"""Hand and eye in closed form: X and Y of H_i X E_i = Y, a start for the refinement that bad samples cannot spoil.

Eye-in-hand: H = T_base_tcp, X = T_tcp_camera, E = T_camera_board, Y = T_base_board.
Eye-to-hand: H = T_tcp_base, X = T_base_camera, E = T_camera_board, Y = T_tcp_board.
"""

from __future__ import annotations

import numpy as np

from robot_rl.errors import CalibrationError
from robot_rl.geometry import rotvec_from_matrix
from robot_rl.types import Array

_LEVER_M = 0.3  # a rotation counts as what it moves at this distance
_SUBSETS, _SUBSET_SIZE = 60, 5
_INLIER = 3.0


def park(hand: Array, eye: Array) -> Array:
    """X [4, 4] from H, E [n, 4, 4] by the motions between all pairs, A X = X B (Park and Martin 1994).

    Rotation by orthogonal Procrustes on the rotation vectors, then translation by least squares. Raises
    CalibrationError where fewer than two axes of rotation are seen.
    """
    first, second = np.triu_indices(len(hand), 1)
    a = np.linalg.inv(hand[second]) @ hand[first]
    b = eye[second] @ np.linalg.inv(eye[first])
    alpha, beta = rotvec_from_matrix(a[:, :3, :3]), rotvec_from_matrix(b[:, :3, :3])
    left, strength, right = np.linalg.svd(alpha.T @ beta)
    if not strength[1] > 1e-6 * max(strength[0], 1e-12):
        raise CalibrationError("the poses turn about one axis only", remedy="Turn the camera about a second axis")
    x = np.eye(4)
    x[:3, :3] = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    factors = (a[:, :3, :3] - np.eye(3)).reshape(-1, 3)
    x[:3, 3] = np.linalg.lstsq(factors, (b[:, :3, 3] @ x[:3, :3].T - a[:, :3, 3]).ravel(), rcond=None)[0]
    return x


def closed_form(hand: Array, eye: Array) -> tuple[Array, Array]:
    """X and Y by the least median of residuals over small subsets and the whole, then of all that agree.

    As in Rousseeuw 1984: up to half of the samples may be anything.
    """
    count = len(hand)
    rng = np.random.default_rng(0)
    subsets = [np.arange(count)]
    if count > _SUBSET_SIZE:
        subsets += [rng.choice(count, _SUBSET_SIZE, replace=False) for _ in range(_SUBSETS)]
    best, least = None, np.inf
    for subset in subsets:
        try:
            x = park(hand[subset], eye[subset])
        except CalibrationError:
            continue
        loops = hand @ x @ eye
        residual = distances(consensus(loops[subset]), loops)
        if np.median(residual) < least:
            best, least = residual, float(np.median(residual))
    agreeing = np.ones(count, dtype=bool) if best is None else best <= _INLIER * max(least, 1e-6)
    x = park(hand[agreeing], eye[agreeing])
    return x, consensus(hand[agreeing] @ x @ eye[agreeing])


def consensus(transforms: Array) -> Array:
    """The mean [4, 4] of those of [n, 4, 4] that lie near the one with the least median distance to all."""
    apart = np.array([distances(one, transforms) for one in transforms])
    medians = np.median(apart, axis=1)
    near = apart[int(np.argmin(medians))]
    return mean_transform(transforms[near <= _INLIER * medians.min() + 1e-12])


def mean_transform(transforms: Array) -> Array:
    """Arithmetic mean of translations and chordal mean of rotations (Hartley et al. 2013, section 5) of [n, 4, 4]."""
    left, _, right = np.linalg.svd(transforms[:, :3, :3].sum(axis=0))
    mean = np.eye(4)
    mean[:3, :3] = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
    mean[:3, 3] = transforms[:, :3, 3].mean(axis=0)
    return mean


def distances(one: Array, others: Array) -> Array:
    """[n] m between a transform [4, 4] and others [n, 4, 4], a rotation counted at a lever of 0.3 m."""
    apart_m, apart_rad = differences(one, others)
    return np.hypot(apart_m, _LEVER_M * apart_rad)


def differences(one: Array, others: Array) -> tuple[Array, Array]:
    """Between a transform and others [..., 4, 4]: distance [m] and angle [rad] of each."""
    turned = np.swapaxes(one[..., :3, :3], -1, -2) @ others[..., :3, :3]
    apart_m = np.linalg.norm(others[..., :3, 3] - one[..., :3, 3], axis=-1)
    return apart_m, np.linalg.norm(rotvec_from_matrix(turned), axis=-1)
