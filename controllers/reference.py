"""The reference that the arm follows at control rate: a point on the path, slowed and limited, tick by tick."""

from __future__ import annotations

import numpy as np

from controllers.compiled import kernel
from controllers.interpolation import Segment, advance_segment, rest_segment, sample_segment
from controllers.safety import JOINT, MOTION, motion_layer, slow_down_layer
from controllers.safety_limits import LimitArrays
from robot_rl.types import Array


@kernel
def rest_reference(segment: Segment, at: Array, pose: Array, twist: Array, acceleration: Array) -> None:
    """Stay ``at`` [7]: path and reference (``pose`` [7], ``twist`` [6], ``acceleration`` [6]) are at rest there."""
    rest_segment(segment, at)
    pose[:] = at
    twist[:] = 0.0
    acceleration[:] = 0.0


@kernel
def advance_reference(
    limits: LimitArrays, segment: Segment, jacobian: Array, q: Array, pose: Array, twist: Array, acceleration: Array,
    counts: Array, dt: float,
) -> None:  # fmt: skip
    """Move the reference (``pose`` [7], ``twist`` [6], ``acceleration`` [6] in the base frame) on by one tick ``dt``.

    ``jacobian`` [6, n] and ``q`` [n] are those of the arm now; ``counts`` [layers] counts interventions.
    """
    before, after, path_twist = np.empty(7), np.empty(7), np.empty(6)
    sample_segment(segment, before, path_twist)
    advance_segment(segment, dt)
    sample_segment(segment, after, path_twist)
    last_pose, last_twist = pose.copy(), twist.copy()
    counts[MOTION] += motion_layer(limits, before, after, pose, twist, dt)
    counts[JOINT] += slow_down_layer(limits, jacobian, q, last_pose, last_twist, pose, twist, dt)
    for i in range(6):
        acceleration[i] = (twist[i] - last_twist[i]) / dt
