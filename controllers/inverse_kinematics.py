"""Joint positions for a TCP pose: damped least squares with a pull towards a posture (Nakamura and Hanafusa 1986)."""

from __future__ import annotations

import numpy as np

from controllers.kinematics import SerialChain
from robot_rl.geometry import quat_xyzw_conjugate, quat_xyzw_multiply, rotvec_from_quat_xyzw
from robot_rl.types import Array

_DAMPING = 1e-3
_POSTURE_GAIN = 0.1
_SINGULAR = 1e-3  # of the largest singular value


def inverse_kinematics(
    chain: SerialChain,
    pose: Array,
    start: Array,
    *,
    tolerance: float = 1e-6,
    iterations: int = 200,
    beside: float = 0.0,
) -> Array | None:
    """Joint position [n] rad within limits whose TCP is at ``pose`` [7] (m and rad within ``tolerance``), near
    ``start`` [n]; None when there is none in reach of the iteration. An arm that cannot move every way, one of fewer
    than six joints, may end ``beside`` [m, rad] the pose where none of its joints could mend that."""
    q = np.clip(np.array(start, dtype=np.float64), chain.lower, chain.upper)
    for _ in range(iterations):
        here, jacobian = chain.pose(q), chain.jacobian(q)
        turn = rotvec_from_quat_xyzw(quat_xyzw_multiply(pose[3:], quat_xyzw_conjugate(here[3:])))
        error = np.concatenate((np.asarray(pose[:3]) - here[:3], turn))
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6))
        left = np.abs(error).max()
        if left < tolerance or (left < beside and np.abs(jacobian @ (inverse @ error)).max() < tolerance):
            return q
        error *= min(1.0, 0.3 / np.linalg.norm(error))
        posture = _POSTURE_GAIN * (np.asarray(start) - q)
        exact = np.linalg.pinv(jacobian, rcond=_SINGULAR)  # a damped one would pull the TCP off the pose
        q = np.clip(q + inverse @ error + posture - exact @ (jacobian @ posture), chain.lower, chain.upper)
    return None
