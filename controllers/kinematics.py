"""Serial chains of revolute joints from a table: forward kinematics and geometric Jacobian, compiled.

T_base_tcp(q) = prod_i (T_parent_i exp([axis_i] q_i)) T_last_tcp, with the axis of joint i through the origin of its
frame (Lynch and Park, Modern Robotics, section 4; space Jacobian moved to the TCP).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from controllers import rotation
from controllers.compiled import lean_kernel
from controllers.scratch import scratch
from robot_rl.errors import ConfigError
from robot_rl.geometry import matrix_from_quat_xyzw, quat_xyzw_normalize
from robot_rl.types import Array


class ChainArrays(NamedTuple):
    """The table as kernels read it."""

    offset: Array  # [n + 1, 3] origin of joint frame i in frame i - 1; the last row is the TCP in frame n [m]
    rotation: Array  # [n + 1, 3, 3] the same for orientation
    axis: Array  # [n, 3] unit joint axes in their own frames


@dataclass(frozen=True, eq=False)
class SerialChain:
    """A revolute arm: ``parent_pose`` [n, 7] of each joint frame in the one before (first: in the base), unit ``axis``
    [n, 3], ``tcp_pose`` [7] in the last frame, joint limits [n] rad."""

    names: tuple[str, ...]
    parent_pose: Array
    axis: Array
    tcp_pose: Array
    lower: Array
    upper: Array

    def __post_init__(self) -> None:
        n = len(self.names)
        shapes = {"parent_pose": (n, 7), "axis": (n, 3), "tcp_pose": (7,), "lower": (n,), "upper": (n,)}
        for field, shape in shapes.items():
            value = np.array(getattr(self, field), dtype=np.float64)
            if value.shape != shape or not np.isfinite(value).all():
                raise ConfigError(f"chain '{field}' is {list(value.shape)}", limit=f"finite values {list(shape)}")
            value.flags.writeable = False
            object.__setattr__(self, field, value)
        if not np.allclose(np.linalg.norm(self.axis, axis=1), 1.0, atol=1e-6):
            raise ConfigError("a joint axis is not of unit length")
        if not (self.lower < self.upper).all():
            raise ConfigError("a joint's lower limit is not below its upper", limit=f"{self.lower} < {self.upper}")

    @staticmethod
    def from_table(rows: Sequence[Mapping[str, Any]], tcp_pose: Sequence[float]) -> SerialChain:
        """Build from rows of name, position [3] m, quat_xyzw [4], axis [3], lower_rad, upper_rad, base to tip."""
        try:
            return SerialChain(
                names=tuple(str(row["name"]) for row in rows),
                parent_pose=np.array([[*row["position"], *row["quat_xyzw"]] for row in rows]),
                axis=np.array([row["axis"] for row in rows]),
                tcp_pose=np.array(tcp_pose),
                lower=np.array([row["lower_rad"] for row in rows]),
                upper=np.array([row["upper_rad"] for row in rows]),
            )
        except KeyError as error:
            raise ConfigError(f"a row of the chain lacks {error}") from error

    @property
    def dof(self) -> int:
        return len(self.names)

    @cached_property
    def arrays(self) -> ChainArrays:
        poses = np.concatenate((self.parent_pose, self.tcp_pose[None]))
        matrices = matrix_from_quat_xyzw(quat_xyzw_normalize(poses[:, 3:]))
        return ChainArrays(np.ascontiguousarray(poses[:, :3]), np.ascontiguousarray(matrices), self.axis.copy())

    def pose(self, joint_position: Array) -> Array:
        """T_base_tcp as a pose [7] (x y z qx qy qz qw) at ``joint_position`` [n] rad."""
        return self._solve(joint_position)[0]

    def jacobian(self, joint_position: Array) -> Array:
        """Geometric Jacobian [6, n] of the TCP in the base frame: rows 0..2 m/s, 3..5 rad/s per rad/s."""
        return self._solve(joint_position)[1]

    def _solve(self, joint_position: Array) -> tuple[Array, Array]:
        q = np.ascontiguousarray(joint_position, dtype=np.float64)
        if q.shape != (self.dof,):
            raise ConfigError(f"joint position has shape {list(q.shape)}", limit=f"[{self.dof}]")
        pose, jacobian = np.empty(7), np.empty((6, self.dof))
        solve_chain(self.arrays, q, pose, jacobian)
        return pose, jacobian


@lean_kernel
def solve_chain(chain: ChainArrays, q: Array, pose: Array, jacobian: Array) -> None:
    """Write T_base_tcp into ``pose`` [7] and the geometric Jacobian at the TCP into ``jacobian`` [6, n]."""
    n = q.shape[0]
    r, p, turned, turn = scratch((3, 3)), scratch(3), scratch((3, 3)), scratch((3, 3))
    for a in range(3):
        p[a] = 0.0
        for b in range(3):
            r[a, b] = 1.0 if a == b else 0.0
    for i in range(n + 1):
        for a in range(3):
            p[a] += r[a, 0] * chain.offset[i, 0] + r[a, 1] * chain.offset[i, 1] + r[a, 2] * chain.offset[i, 2]
        _matmul3(r, chain.rotation[i], turned)
        if i == n:
            break
        for a in range(3):
            # the linear part holds the joint's origin until the lever arm to the TCP is known
            axis = turned[a, 0] * chain.axis[i, 0] + turned[a, 1] * chain.axis[i, 1] + turned[a, 2] * chain.axis[i, 2]
            jacobian[3 + a, i] = axis
            jacobian[a, i] = p[a]
        _axis_angle(chain.axis[i], q[i], turn)
        _matmul3(turned, turn, r)
    pose[0], pose[1], pose[2] = p[0], p[1], p[2]
    rotation.from_matrix(turned, pose[3:])
    for i in range(n):
        x, y, z = p[0] - jacobian[0, i], p[1] - jacobian[1, i], p[2] - jacobian[2, i]
        ax, ay, az = jacobian[3, i], jacobian[4, i], jacobian[5, i]
        jacobian[0, i] = ay * z - az * y
        jacobian[1, i] = az * x - ax * z
        jacobian[2, i] = ax * y - ay * x


@lean_kernel
def _matmul3(left: Array, right: Array, out: Array) -> None:
    for a in range(3):
        for b in range(3):
            out[a, b] = left[a, 0] * right[0, b] + left[a, 1] * right[1, b] + left[a, 2] * right[2, b]


@lean_kernel
def _axis_angle(axis: Array, angle: float, out: Array) -> None:
    """Rodrigues' formula for a unit axis."""
    c, s = math.cos(angle), math.sin(angle)
    v = 1.0 - c
    x, y, z = axis[0], axis[1], axis[2]
    out[0, 0], out[0, 1], out[0, 2] = c + x * x * v, x * y * v - z * s, x * z * v + y * s
    out[1, 0], out[1, 1], out[1, 2] = y * x * v + z * s, c + y * y * v, y * z * v - x * s
    out[2, 0], out[2, 1], out[2, 2] = z * x * v - y * s, z * y * v + x * s, c + z * z * v
