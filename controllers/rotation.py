"""Unit quaternions (x, y, z, w), rotation vectors and matrices as numba kernels that write into given arrays.

The compiled twins of ``robot_rl.geometry``, for laws that run at control rate: no allocation, no broadcasting.
"""

from __future__ import annotations

import math

from controllers.compiled import kernel
from robot_rl.types import Array

_SMALL = 1e-9


@kernel
def multiply(left: Array, right: Array, out: Array) -> None:
    """Hamilton product [4] = left right; ``out`` may be one of the factors."""
    ax, ay, az, aw = left[0], left[1], left[2], left[3]
    bx, by, bz, bw = right[0], right[1], right[2], right[3]
    out[0] = aw * bx + ax * bw + ay * bz - az * by
    out[1] = aw * by - ax * bz + ay * bw + az * bx
    out[2] = aw * bz + ax * by - ay * bx + az * bw
    out[3] = aw * bw - ax * bx - ay * by - az * bz


@kernel
def normalize(quat: Array) -> bool:
    """Scale to unit length in place; False (and untouched) for a quaternion without direction."""
    norm = math.sqrt(quat[0] ** 2 + quat[1] ** 2 + quat[2] ** 2 + quat[3] ** 2)
    if not (norm > _SMALL and norm < math.inf):
        return False
    for i in range(4):
        quat[i] /= norm
    return True


@kernel
def exponential(rotvec: Array, out: Array) -> None:
    """Quaternion [4] of a rotation vector [3] rad."""
    angle = math.sqrt(rotvec[0] ** 2 + rotvec[1] ** 2 + rotvec[2] ** 2)
    scale = 0.5 if angle < _SMALL else math.sin(0.5 * angle) / angle
    for i in range(3):
        out[i] = scale * rotvec[i]
    out[3] = math.cos(0.5 * angle)


@kernel
def difference(start: Array, end: Array, out: Array) -> None:
    """Shortest rotation vector [3] rad, in the outer frame, with exp(out) start = end."""
    sx, sy, sz, sw = -start[0], -start[1], -start[2], start[3]
    ex, ey, ez, ew = end[0], end[1], end[2], end[3]
    x = ew * sx + ex * sw + ey * sz - ez * sy
    y = ew * sy - ex * sz + ey * sw + ez * sx
    z = ew * sz + ex * sy - ey * sx + ez * sw
    w = ew * sw - ex * sx - ey * sy - ez * sz
    if w < 0.0:
        x, y, z, w = -x, -y, -z, -w
    sine = math.sqrt(x * x + y * y + z * z)
    scale = 2.0 if sine < _SMALL else 2.0 * math.atan2(sine, w) / sine
    out[0], out[1], out[2] = scale * x, scale * y, scale * z


@kernel
def rotate_by(rotvec: Array, quat: Array, out: Array) -> None:
    """out [4] = exp(rotvec) quat, normalised; ``out`` may be ``quat``."""
    angle = math.sqrt(rotvec[0] ** 2 + rotvec[1] ** 2 + rotvec[2] ** 2)
    scale = 0.5 if angle < _SMALL else math.sin(0.5 * angle) / angle
    ax, ay, az, aw = scale * rotvec[0], scale * rotvec[1], scale * rotvec[2], math.cos(0.5 * angle)
    bx, by, bz, bw = quat[0], quat[1], quat[2], quat[3]
    out[0] = aw * bx + ax * bw + ay * bz - az * by
    out[1] = aw * by - ax * bz + ay * bw + az * bx
    out[2] = aw * bz + ax * by - ay * bx + az * bw
    out[3] = aw * bw - ax * bx - ay * by - az * bz
    normalize(out)


@kernel
def angular_rate(rotvec: Array, rate: Array, out: Array) -> None:
    """Angular velocity [3] = J_l(r) dr/dt of exp(r(t)), in the outer frame (Sola 2018, eq. 145)."""
    square = rotvec[0] ** 2 + rotvec[1] ** 2 + rotvec[2] ** 2
    first, second = 0.5, 1.0 / 6.0
    if square > 1e-8:
        angle = math.sqrt(square)
        first, second = (1.0 - math.cos(angle)) / square, (angle - math.sin(angle)) / (square * angle)
    _add_turns(rotvec, rate, first, second, out)


@kernel
def rotvec_rate(rotvec: Array, angular: Array, out: Array) -> None:
    """dr/dt [3] of exp(r(t)) at an ``angular`` velocity [3], the inverse of ``angular_rate`` (Sola 2018, eq. 146)."""
    square = rotvec[0] ** 2 + rotvec[1] ** 2 + rotvec[2] ** 2
    second = 1.0 / 12.0
    if square > 1e-8:
        angle = math.sqrt(square)
        second = (1.0 - 0.5 * angle / math.tan(0.5 * angle)) / square
    _add_turns(rotvec, angular, -0.5, second, out)


@kernel
def _add_turns(r: Array, v: Array, first: float, second: float, out: Array) -> None:
    """out = v + first r x v + second r x (r x v)"""
    a, b, c = r[1] * v[2] - r[2] * v[1], r[2] * v[0] - r[0] * v[2], r[0] * v[1] - r[1] * v[0]
    out[0] = v[0] + first * a + second * (r[1] * c - r[2] * b)
    out[1] = v[1] + first * b + second * (r[2] * a - r[0] * c)
    out[2] = v[2] + first * c + second * (r[0] * b - r[1] * a)


@kernel
def rotate_vector(quat: Array, vector: Array, out: Array) -> None:
    """out [3] = R(quat) vector, for a unit quaternion: v + w t + u x t with u its vector part and t = 2 u x v."""
    x, y, z, w = quat[0], quat[1], quat[2], quat[3]
    a, b, c = vector[0], vector[1], vector[2]
    tx, ty, tz = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    out[0] = a + w * tx + y * tz - z * ty
    out[1] = b + w * ty + z * tx - x * tz
    out[2] = c + w * tz + x * ty - y * tx


@kernel
def from_matrix(matrix: Array, out: Array) -> None:
    """Quaternion [4] of a rotation matrix [3, 3] (Shepperd 1978: divide by the largest pivot)."""
    d0, d1, d2 = matrix[0, 0], matrix[1, 1], matrix[2, 2]
    trace = d0 + d1 + d2
    if trace >= d0 and trace >= d1 and trace >= d2:
        out[3] = 1.0 + trace
        out[0] = matrix[2, 1] - matrix[1, 2]
        out[1] = matrix[0, 2] - matrix[2, 0]
        out[2] = matrix[1, 0] - matrix[0, 1]
    elif d0 >= d1 and d0 >= d2:
        out[3] = matrix[2, 1] - matrix[1, 2]
        out[0] = 1.0 + d0 - d1 - d2
        out[1] = matrix[0, 1] + matrix[1, 0]
        out[2] = matrix[0, 2] + matrix[2, 0]
    elif d1 >= d2:
        out[3] = matrix[0, 2] - matrix[2, 0]
        out[0] = matrix[0, 1] + matrix[1, 0]
        out[1] = 1.0 - d0 + d1 - d2
        out[2] = matrix[1, 2] + matrix[2, 1]
    else:
        out[3] = matrix[1, 0] - matrix[0, 1]
        out[0] = matrix[0, 2] + matrix[2, 0]
        out[1] = matrix[1, 2] + matrix[2, 1]
        out[2] = 1.0 - d0 - d1 + d2
    normalize(out)
