"""Joint positions for a TCP pose, for starts of episodes: damped least squares with a pull towards a posture
(Nakamura and Hanafusa 1986), begun anew from further and further away where it gets stuck."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from controllers.kinematics import SerialChain
from robot_rl.geometry import quat_xyzw_conjugate, quat_xyzw_multiply, rotvec_from_quat_xyzw
from robot_rl.types import Array

_DAMPING = 1e-3
_POSTURE_GAIN = 0.1
_SINGULAR = 1e-3  # of the largest singular value
_LONGEST_STEP = 0.3  # of the error that one iteration sees [m, rad]
_STUCK = 25  # iterations without a better error
_WHOLE_POSE = (True,) * 6


def inverse_kinematics(
    chain: SerialChain,
    pose: Array,
    start: Array,
    *,
    axes: Sequence[bool] = _WHOLE_POSE,
    tolerance: float = 1e-6,
    iterations: int = 200,
    attempts: int = 16,
) -> Array | None:
    """Joint position [n] rad within limits whose TCP is at ``pose`` [7] (m and rad within ``tolerance``), near
    ``start`` [n]; None when there is none in reach of the iteration.

    ``axes`` [6] tells which components of the pose matter (x y z, then rotation about x y z of the base): an arm with
    fewer joints than these reaches only poses that fit it. The result is a function of the arguments alone.
    """
    used = np.array(axes, dtype=bool)
    pose, start = np.asarray(pose, dtype=np.float64), np.asarray(start, dtype=np.float64)
    if used[:3].all() and np.linalg.norm(pose[:3] - chain.parent_pose[0, :3]) > _reach(chain):
        return None
    for begin in itertools.islice(_beginnings(chain, start), attempts):
        found = _descend(chain, pose, begin, used, tolerance, iterations)
        if found is not None:
            return found
    return None


def _reach(chain: SerialChain) -> float:
    """No TCP is further than this [m] from the first joint."""
    links = [*chain.parent_pose[1:, :3], chain.tcp_pose[:3]]
    return float(np.sum(np.linalg.norm(links, axis=1)))


def _beginnings(chain: SerialChain, start: Array) -> Iterator[Array]:
    """Near first: another branch of the solution is a surprise to whoever asked for something near ``start``."""
    yield start
    rng, half_range = np.random.default_rng(0), 0.5 * (chain.upper - chain.lower)
    for share in itertools.count(1):
        yield start + rng.uniform(-1.0, 1.0, size=chain.dof) * half_range * min(0.15 * share, 1.0)


def _descend(
    chain: SerialChain, pose: Array, begin: Array, axes: Array, tolerance: float, iterations: int
) -> Array | None:
    q, least, since = np.clip(begin, chain.lower, chain.upper), np.inf, 0
    for _ in range(iterations):
        here, jacobian = chain.pose(q), chain.jacobian(q)[axes]
        turn = rotvec_from_quat_xyzw(quat_xyzw_multiply(pose[3:], quat_xyzw_conjugate(here[3:])))
        error = np.concatenate((pose[:3] - here[:3], turn))[axes]
        size = float(np.abs(error).max())
        if size < tolerance:
            return q
        least, since = (size, 0) if size < least else (least, since + 1)
        if since > _STUCK:
            return None
        error *= min(1.0, _LONGEST_STEP / float(np.linalg.norm(error)))
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING**2 * np.eye(len(error)))
        posture = _POSTURE_GAIN * (begin - q)
        exact = np.linalg.pinv(jacobian, rcond=_SINGULAR)  # a damped one would pull the TCP off the pose
        q = np.clip(q + inverse @ error + posture - exact @ (jacobian @ posture), chain.lower, chain.upper)
    return None
