"""Where the tool may be: a box for the TCP, a ball of rotations, and walls for spheres on fingers and camera."""

from __future__ import annotations

import math

from controllers import rotation
from controllers.compiled import lean_kernel
from controllers.safety_limits import LimitArrays
from controllers.scratch import scratch
from robot_rl.types import Array

_ROUNDING = 1e-9  # changes below it are not interventions


@lean_kernel
def workspace_layer(limits: LimitArrays, pose: Array) -> bool:
    """Change ``pose`` [7] in place: rotation onto the geodesic ball around the upright one, position into the box and
    to where the spheres are within their walls at that rotation."""
    changed = False
    cosine = tilt_cosine(limits, pose)
    if cosine < math.cos(0.5 * limits.tilt[0]):
        turn = scratch(3)
        rotation.difference(limits.upright, pose[3:7], turn)
        angle = math.sqrt(turn[0] ** 2 + turn[1] ** 2 + turn[2] ** 2)
        changed |= angle - limits.tilt[0] > _ROUNDING
        for i in range(3):
            turn[i] *= limits.tilt[0] / angle
        rotation.rotate_by(turn, limits.upright, pose[3:7])
    lower, upper = scratch(3), scratch(3)
    for i in range(3):
        lower[i], upper[i] = limits.box[0, i], limits.box[1, i]
    if limits.spheres.shape[0] > 0:
        _shrink(limits, pose, lower, upper)
    for i in range(3):
        inside = min(max(pose[i], lower[i]), upper[i])
        changed |= abs(inside - pose[i]) > _ROUNDING
        pose[i] = inside
    return changed


@lean_kernel
def _shrink(limits: LimitArrays, pose: Array, lower: Array, upper: Array) -> None:
    """Take off the box of the TCP what the spheres need at the rotation of ``pose``; a box without room left becomes
    its middle."""
    centre = scratch(3)
    for k in range(limits.spheres.shape[0]):
        rotation.rotate_vector(pose[3:7], limits.spheres[k, :3], centre)
        for i in range(3):
            lower[i] = max(lower[i], limits.walls[0, i] + limits.spheres[k, 3] - centre[i])
            upper[i] = min(upper[i], limits.walls[1, i] - limits.spheres[k, 3] - centre[i])
    for i in range(3):
        if lower[i] > upper[i]:
            lower[i] = upper[i] = 0.5 * (lower[i] + upper[i])


@lean_kernel
def tilt_cosine(limits: LimitArrays, pose: Array) -> float:
    """Cosine of half the angle between the rotation of ``pose`` and the upright one."""
    return abs(
        limits.upright[0] * pose[3] + limits.upright[1] * pose[4] + limits.upright[2] * pose[5]
        + limits.upright[3] * pose[6]
    )  # fmt: skip


@lean_kernel
def sphere_room(limits: LimitArrays, pose: Array) -> float:
    """Smallest distance [m] of a sphere to its walls; negative beyond them."""
    room, centre = math.inf, scratch(3)
    for k in range(limits.spheres.shape[0]):
        rotation.rotate_vector(pose[3:7], limits.spheres[k, :3], centre)
        for i in range(3):
            at, radius = pose[i] + centre[i], limits.spheres[k, 3]
            room = min(room, at - radius - limits.walls[0, i], limits.walls[1, i] - radius - at)
    return room


@lean_kernel
def spheres_free(limits: LimitArrays, pose: Array, reach: Array, turned: float) -> bool:
    """Whether no sphere can come to its walls while the TCP moves by ``reach`` [3] m and turns by ``turned`` rad."""
    centre = scratch(3)
    for k in range(limits.spheres.shape[0]):
        rotation.rotate_vector(pose[3:7], limits.spheres[k, :3], centre)
        swept = turned * math.sqrt(centre[0] ** 2 + centre[1] ** 2 + centre[2] ** 2) + limits.spheres[k, 3]
        for i in range(3):
            at, most = pose[i] + centre[i], reach[i] + swept
            if at - most < limits.walls[0, i] or at + most > limits.walls[1, i]:
                return False
    return True
