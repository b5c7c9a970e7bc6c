"""Rigid-body geometry in numpy: unit quaternions (order in the name), rotation vectors, 6-D rotations, SE(3).

Every function broadcasts over leading axes and works in float64; the quaternion functions of a control step take a
single one as plain numbers, which is ten times faster than short arrays. Angles are radians, lengths metres, frames
right-handed. ``T_a_b`` is the pose of frame b expressed in frame a, so ``T_a_b @ T_b_c = T_a_c``. A *pose* is the
7-vector (x, y, z, qx, qy, qz, qw). Kept free of SciPy because a robot computer installs numpy only.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_Number = TypeVar("_Number", float, NDArray[np.float64])

_SMALL_ANGLE_RAD = 1e-6  # below it sin(x)/x and its relatives are taken from their series


def _array(value: ArrayLike) -> Array:
    return np.asarray(value, dtype=np.float64)


def _length(vector: Array) -> float:
    return math.hypot(*vector.tolist())


# --- unit quaternions, order (x, y, z, w) -----------------------------------------------------------------------


def quat_xyzw_normalize(quat_xyzw: ArrayLike) -> Array:
    """Scale to unit length, [..., 4]. Raises ValueError for a quaternion of length below 1e-9."""
    quat = _array(quat_xyzw)
    norm = _length(quat) if quat.ndim == 1 else np.linalg.norm(quat, axis=-1, keepdims=True)
    if not (norm > 1e-9 if isinstance(norm, float) else np.all(norm > 1e-9)):
        raise ValueError("quaternion of zero length or not finite has no direction")
    return quat / norm


def quat_xyzw_multiply(left_xyzw: ArrayLike, right_xyzw: ArrayLike) -> Array:
    """Hamilton product, [..., 4]: first rotate by ``right``, then by ``left``."""
    left, right = _array(left_xyzw), _array(right_xyzw)
    if left.ndim == right.ndim == 1:
        return np.array(_product(*left.tolist(), *right.tolist()))
    return np.stack(_product(*np.moveaxis(left, -1, 0), *np.moveaxis(right, -1, 0)), axis=-1)


def _product(
    ax: _Number, ay: _Number, az: _Number, aw: _Number, bx: _Number, by: _Number, bz: _Number, bw: _Number
) -> tuple[_Number, _Number, _Number, _Number]:
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def quat_xyzw_conjugate(quat_xyzw: ArrayLike) -> Array:
    """Inverse of a unit quaternion, [..., 4]."""
    return _array(quat_xyzw) * np.array([-1.0, -1.0, -1.0, 1.0])


def quat_xyzw_rotate(quat_xyzw: ArrayLike, vector: ArrayLike) -> Array:
    """Rotate vectors [..., 3] by unit quaternions [..., 4]."""
    quat, v = _array(quat_xyzw), _array(vector)
    xyz, w = quat[..., :3], quat[..., 3:]
    t = 2.0 * np.cross(xyz, v)
    return v + w * t + np.cross(xyz, t)


def quat_xyzw_near(quat_xyzw: ArrayLike, reference_xyzw: ArrayLike) -> Array:
    """The one of q and -q (the same rotation) that lies nearer to ``reference``: keeps a stream continuous."""
    quat = _array(quat_xyzw)
    dot = np.sum(quat * _array(reference_xyzw), axis=-1, keepdims=True)
    return np.where(dot < 0.0, -quat, quat)


def geodesic_angle(a_xyzw: ArrayLike, b_xyzw: ArrayLike) -> Array:
    """Angle [rad] of the shortest rotation between unit quaternions, [...] in [0, pi]."""
    relative = quat_xyzw_multiply(quat_xyzw_conjugate(a_xyzw), b_xyzw)
    return 2.0 * np.arctan2(np.linalg.norm(relative[..., :3], axis=-1), np.abs(relative[..., 3]))


def slerp(a_xyzw: ArrayLike, b_xyzw: ArrayLike, fraction: ArrayLike) -> Array:
    """Spherical linear interpolation along the shorter arc (Shoemake 1985); ``fraction`` 0 gives a, 1 gives b."""
    a, b = _array(a_xyzw), _array(b_xyzw)
    step = rotvec_from_quat_xyzw(quat_xyzw_multiply(quat_xyzw_conjugate(a), b))
    return quat_xyzw_multiply(a, quat_xyzw_from_rotvec(_array(fraction)[..., None] * step))


# --- rotation vectors ---------------------------------------------------------------------------------------------


def quat_xyzw_from_rotvec(rotvec: ArrayLike) -> Array:
    """Exponential map of SO(3): rotation vector [rad], [..., 3] -> [..., 4]."""
    v = _array(rotvec)
    if v.ndim == 1:
        return np.array(_exponential(*v.tolist()))
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    small = angle < _SMALL_ANGLE_RAD
    safe = np.where(small, 1.0, angle)
    scale = np.where(small, 0.5 - angle**2 / 48.0, np.sin(0.5 * safe) / safe)
    return np.concatenate((v * scale, np.cos(0.5 * angle)), axis=-1)


def rotvec_from_quat_xyzw(quat_xyzw: ArrayLike) -> Array:
    """Logarithm of SO(3): unit quaternion [..., 4] -> rotation vector [rad] of angle at most pi, [..., 3]."""
    quat = _array(quat_xyzw)
    if quat.ndim == 1:
        return np.array(_logarithm(*quat.tolist()))
    quat = np.where(quat[..., 3:] < 0.0, -quat, quat)
    sine = np.linalg.norm(quat[..., :3], axis=-1, keepdims=True)
    small = sine < _SMALL_ANGLE_RAD
    safe = np.where(small, 1.0, sine)
    scale = np.where(small, 2.0 + sine**2 / 3.0, 2.0 * np.arctan2(sine, quat[..., 3:]) / safe)
    return quat[..., :3] * scale


def _exponential(x: float, y: float, z: float) -> tuple[float, float, float, float]:
    length = math.hypot(x, y, z)
    factor = 0.5 - length**2 / 48.0 if length < _SMALL_ANGLE_RAD else math.sin(0.5 * length) / length
    return factor * x, factor * y, factor * z, math.cos(0.5 * length)


def _logarithm(x: float, y: float, z: float, w: float) -> tuple[float, float, float]:
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    length = math.hypot(x, y, z)
    factor = 2.0 + length**2 / 3.0 if length < _SMALL_ANGLE_RAD else 2.0 * math.atan2(length, w) / length
    return factor * x, factor * y, factor * z


def matrix_from_rotvec(rotvec: ArrayLike) -> Array:
    """Rodrigues' formula: rotation vector [rad] [..., 3] -> rotation matrix [..., 3, 3]."""
    return matrix_from_quat_xyzw(quat_xyzw_from_rotvec(rotvec))


def rotvec_from_matrix(matrix: ArrayLike) -> Array:
    """Rotation matrix [..., 3, 3] -> rotation vector [rad] [..., 3]."""
    return rotvec_from_quat_xyzw(quat_xyzw_from_matrix(matrix))


def skew(vector: ArrayLike) -> Array:
    """Cross-product matrix [v]x with [v]x u = v x u; [..., 3] -> [..., 3, 3]."""
    x, y, z = np.moveaxis(_array(vector), -1, 0)
    zero = np.zeros_like(x)
    rows = np.stack((zero, -z, y, z, zero, -x, -y, x, zero), axis=-1)
    return rows.reshape((*rows.shape[:-1], 3, 3))


def so3_left_jacobian(rotvec: ArrayLike) -> Array:
    """Left Jacobian J_l of SO(3): exp(v + dv) ~ exp(J_l(v) dv) exp(v); [..., 3] -> [..., 3, 3].

    Barfoot, State Estimation for Robotics, eq. 7.77.
    """
    v = _array(rotvec)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)
    first = np.where(small, 0.5 - angle**2 / 24.0, (1.0 - np.cos(safe)) / safe**2)
    second = np.where(small, 1.0 / 6.0 - angle**2 / 120.0, (safe - np.sin(safe)) / safe**3)
    cross = skew(v)
    return np.eye(3) + first * cross + second * (cross @ cross)


# --- rotation matrices --------------------------------------------------------------------------------------------


def matrix_from_quat_xyzw(quat_xyzw: ArrayLike) -> Array:
    """Unit quaternion [..., 4] -> rotation matrix [..., 3, 3]."""
    x, y, z, w = np.moveaxis(_array(quat_xyzw), -1, 0)
    rows = np.stack(
        (
            1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
        ),
        axis=-1,
    )  # fmt: skip
    return rows.reshape((*rows.shape[:-1], 3, 3))


def quat_xyzw_from_matrix(matrix: ArrayLike) -> Array:
    """Rotation matrix [..., 3, 3] -> unit quaternion [..., 4] with w >= 0 (Shepperd 1978: the largest pivot)."""
    m = _array(matrix)
    d0, d1, d2 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    candidates = np.stack(
        (
            np.stack((1 + d0 - d1 - d2, xy, xz, a), axis=-1),
            np.stack((xy, 1 - d0 + d1 - d2, yz, b), axis=-1),
            np.stack((xz, yz, 1 - d0 - d1 + d2, c), axis=-1),
            np.stack((a, b, c, 1 + d0 + d1 + d2), axis=-1),
        ),
        axis=-2,
    )
    pivot = np.argmax(np.diagonal(candidates, axis1=-2, axis2=-1), axis=-1)
    quat = np.take_along_axis(candidates, pivot[..., None, None], axis=-2)[..., 0, :]
    quat = quat / np.linalg.norm(quat, axis=-1, keepdims=True)
    return np.where(quat[..., 3:] < 0.0, -quat, quat)


def rot6d_from_matrix(matrix: ArrayLike) -> Array:
    """First two columns of a rotation matrix, [..., 6]: continuous for learning (Zhou et al. 2019)."""
    m = _array(matrix)
    return np.concatenate((m[..., :, 0], m[..., :, 1]), axis=-1)


def matrix_from_rot6d(rot6d: ArrayLike) -> Array:
    """Gram-Schmidt of two 3-vectors [..., 6] -> rotation matrix [..., 3, 3] (Zhou et al. 2019, eq. 15).

    Raises ValueError where the two vectors are (nearly) parallel or zero.
    """
    v = _array(rot6d)
    first, second = v[..., :3], v[..., 3:]
    first_norm = np.linalg.norm(first, axis=-1, keepdims=True)
    if np.any(~(first_norm > 1e-9)):
        raise ValueError("6-D rotation: the first vector has no direction")
    x = first / first_norm
    rest = second - np.sum(x * second, axis=-1, keepdims=True) * x
    rest_norm = np.linalg.norm(rest, axis=-1, keepdims=True)
    if np.any(~(rest_norm > 1e-9)):
        raise ValueError("6-D rotation: the two vectors are parallel")
    y = rest / rest_norm
    return np.stack((x, y, np.cross(x, y)), axis=-1)


# --- SE(3) --------------------------------------------------------------------------------------------------------


def matrix_from_pose(pose: ArrayLike) -> Array:
    """Pose [..., 7] -> homogeneous matrix T [..., 4, 4]."""
    p = _array(pose)
    transform = np.zeros((*p.shape[:-1], 4, 4))
    transform[..., :3, :3] = matrix_from_quat_xyzw(p[..., 3:])
    transform[..., :3, 3] = p[..., :3]
    transform[..., 3, 3] = 1.0
    return transform


def pose_from_matrix(transform: ArrayLike) -> Array:
    """Homogeneous matrix [..., 4, 4] -> pose [..., 7]."""
    t = _array(transform)
    return np.concatenate((t[..., :3, 3], quat_xyzw_from_matrix(t[..., :3, :3])), axis=-1)


def pose_multiply(pose_a_b: ArrayLike, pose_b_c: ArrayLike) -> Array:
    """Composition of poses [..., 7]: T_a_c = T_a_b T_b_c."""
    a, b = _array(pose_a_b), _array(pose_b_c)
    position = a[..., :3] + quat_xyzw_rotate(a[..., 3:], b[..., :3])
    return np.concatenate((position, quat_xyzw_multiply(a[..., 3:], b[..., 3:])), axis=-1)


def pose_inverse(pose_a_b: ArrayLike) -> Array:
    """T_b_a of T_a_b, as poses [..., 7]."""
    p = _array(pose_a_b)
    inverse = quat_xyzw_conjugate(p[..., 3:])
    return np.concatenate((-quat_xyzw_rotate(inverse, p[..., :3]), inverse), axis=-1)


def pose_interpolate(pose_a: ArrayLike, pose_b: ArrayLike, fraction: ArrayLike) -> Array:
    """Straight line in position, slerp in rotation; [..., 7]."""
    a, b, f = _array(pose_a), _array(pose_b), _array(fraction)
    position = a[..., :3] + f[..., None] * (b[..., :3] - a[..., :3])
    return np.concatenate((position, slerp(a[..., 3:], b[..., 3:], f)), axis=-1)


def se3_exp(twist: ArrayLike) -> Array:
    """Exponential map of SE(3): twist (v [m], w [rad]) [..., 6] -> pose [..., 7]."""
    t = _array(twist)
    translation = (so3_left_jacobian(t[..., 3:]) @ t[..., :3, None])[..., 0]
    return np.concatenate((translation, quat_xyzw_from_rotvec(t[..., 3:])), axis=-1)


def se3_log(pose: ArrayLike) -> Array:
    """Logarithm of SE(3): pose [..., 7] -> twist (v [m], w [rad]) [..., 6]."""
    p = _array(pose)
    rotvec = rotvec_from_quat_xyzw(p[..., 3:])
    linear: Array = np.linalg.solve(so3_left_jacobian(rotvec), p[..., :3, None])[..., 0].astype(np.float64)
    return np.concatenate((linear, rotvec), axis=-1)


# --- steps of a pose (translation [m], rotation vector [rad], both in the outer frame) ------------------------------


def poses_after(pose: ArrayLike, steps: ArrayLike) -> Array:
    """Where a pose [7] is after each of ``steps`` [H, 6], one upon the other: [H, 7]."""
    x, y, z, *quat = _array(pose).tolist()
    poses, right, forward, up = [], 0.0, 0.0, 0.0
    for dx, dy, dz, *turn in _array(steps).tolist():
        right, forward, up = right + dx, forward + dy, up + dz
        quat = _product(*_exponential(*turn), *quat)
        length = math.hypot(*quat)
        quat = [part / length for part in quat]
        poses.append((x + right, y + forward, z + up, *quat))
    return np.array(poses).reshape(-1, 7)


def pose_step(start: ArrayLike, end: ArrayLike) -> Array:
    """The step [6] that leads from one pose [7] to another, by the shortest rotation."""
    sx, sy, sz, x, y, z, w = _array(start).tolist()
    ex, ey, ez, ax, ay, az, aw = _array(end).tolist()
    return np.array((ex - sx, ey - sy, ez - sz, *_logarithm(*_product(ax, ay, az, aw, -x, -y, -z, w))))
