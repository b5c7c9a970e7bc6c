"""The way of the arm to the start of an episode: up, over, down, slowly, and whether it got there."""

from __future__ import annotations

import itertools

import numpy as np

from controllers.inverse_kinematics import inverse_kinematics
from controllers.kinematics import SerialChain
from robot_rl.errors import ResetError
from robot_rl.geometry import geodesic_angle, pose_interpolate
from robot_rl.types import Array, ResetRequest
from robot_rl_bridge.arm_description import TCP, ArmDescription, ResetRoutine
from robot_rl_bridge.arm_state import Measured, distance

MOST_S = 600.0  # of a reset
_NEAR_M = 0.02  # from here on no lift is needed
_RISE_M = 0.005  # between two joint positions of a way straight up
_MOST_TURN_RAD = 0.1  # of a joint between these: more is another branch, or a singularity


def goal(arm: ArmDescription, request: ResetRequest) -> tuple[Array, Array | None]:
    """The TCP's pose [7] at the start, and the joints [n] where the request names them. Raises ResetError."""
    if not 0.0 < request.timeout_s <= MOST_S:
        raise ResetError(f"a reset within {request.timeout_s} s", limit=f"0 to {MOST_S} s")
    if request.tcp_pose is not None and request.joint_position is None:
        pose = np.asarray(request.tcp_pose, dtype=np.float64)
        if pose.shape != (7,) or not np.isfinite(pose).all() or np.linalg.norm(pose[3:]) < 1e-6:
            raise ResetError(f"start of the TCP is {pose.tolist()}", limit="a pose [7]")
        return np.concatenate((pose[:3], pose[3:] / np.linalg.norm(pose[3:]))), None
    joints = arm.home if request.joint_position is None else np.asarray(request.joint_position, dtype=np.float64)
    if joints.shape != arm.home.shape or not np.isfinite(joints).all():
        raise ResetError(f"start at joint position {joints.tolist()}", limit=f"{len(arm.home)} finite numbers")
    if not ((arm.chain.lower <= joints) & (joints <= arm.chain.upper)).all():
        raise ResetError(f"start at joint position {joints.round(3).tolist()} rad", limit="the joints' limits")
    return arm.chain.pose(joints), joints


def tcp_way(start: Array, end: Array, routine: ResetRoutine, step_s: float, ceiling_m: float) -> Array:
    """Rows [H, 7], one every ``step_s``, from ``start`` to ``end`` by way of a lift to ``lift_m`` above the higher one
    (never beyond ``ceiling_m``), each leg smoothly from rest to rest at the routine's speeds."""
    corners, height = [start], _height(start, end, routine, ceiling_m)
    if height is not None:
        corners.append(np.array([*start[:2], height, *start[3:]]))
        corners.append(np.array([*end[:2], max(height, end[2]), *end[3:]]))
    corners.append(end)
    legs = []
    for a, b in itertools.pairwise(corners):
        length, angle = float(np.linalg.norm(b[:3] - a[:3])), float(geodesic_angle(a[3:], b[3:]))
        shares = _shares(max(length / routine.speed_m_s, angle / routine.speed_rad_s), step_s)
        legs += [pose_interpolate(a, b, share) for share in shares]
    return np.array(legs).reshape(-1, 7)


def joint_way(start: Array, end: Array, routine: ResetRoutine, step_s: float) -> Array:
    """Rows [H, n] straight from ``start`` to ``end`` [n] rad, from rest to rest."""
    shares = _shares(float(np.abs(end - start).max()) / routine.joint_speed_rad_s, step_s)
    return start + shares[:, None] * (end - start)


def lifted_joint_way(
    chain: SerialChain, start: Array, end: Array, routine: ResetRoutine, step_s: float, ceiling_m: float
) -> Array:
    """Rows [H, n] as of ``tcp_way`` for an arm that is commanded by joints: the TCP straight up, as far as the arm can,
    over in joint space, straight down."""
    here, there = chain.pose(start), chain.pose(end)
    height = _height(here, there, routine, ceiling_m)
    if height is None:
        return joint_way(start, end, routine, step_s)
    up, down = _rise(chain, start, height), _rise(chain, end, max(height, there[2]))[::-1]
    legs = [_along(up, routine, step_s), joint_way(up[-1], down[0], routine, step_s), _along(down, routine, step_s)]
    return np.concatenate(legs)


def _height(start: Array, end: Array, routine: ResetRoutine, ceiling_m: float) -> float | None:
    """To which the TCP is lifted on its way from one pose to the other; None where they are near."""
    if np.linalg.norm(end[:3] - start[:3]) <= _NEAR_M or routine.lift_m <= 0.0:
        return None
    return max(float(start[2]), min(max(start[2], end[2]) + routine.lift_m, ceiling_m))


def _rise(chain: SerialChain, joints: Array, height_m: float) -> Array:
    """Joint positions [K, n] from ``joints`` with the TCP straight up to a height, or as far as the arm can."""
    way, pose = [joints], chain.pose(joints)
    for height in np.linspace(pose[2], height_m, max(int(np.ceil((height_m - pose[2]) / _RISE_M)), 1) + 1)[1:]:
        pose[2] = height
        found = inverse_kinematics(chain, pose, way[-1], attempts=1)
        if found is None or np.abs(found - way[-1]).max() > _MOST_TURN_RAD:
            break
        way.append(found)
    return np.array(way)


def _along(way: Array, routine: ResetRoutine, step_s: float) -> Array:
    """Rows [H, n] through the joint positions ``way`` [K, n], from rest to rest."""
    turned = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(way, axis=0)).max(axis=1, initial=0.0))))
    mean_s = max(turned[-1] / routine.joint_speed_rad_s, (len(way) - 1) * _RISE_M / routine.speed_m_s)
    done = _shares(mean_s, step_s) * turned[-1]
    return np.stack([np.interp(done, turned, joint) for joint in way.T], axis=1)


def _shares(mean_s: float, step_s: float) -> Array:
    """Of a way whose largest speed is 1.875 times the mean (minimum jerk, Flash and Hogan 1985)."""
    steps = max(int(np.ceil(1.875 * mean_s / step_s)), 1)
    s = np.arange(1, steps + 1) / steps
    return s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


def verify(arm: ArmDescription, chain: SerialChain, measured: Measured, pose: Array, joints: Array | None) -> None:
    """Raise ResetError unless the arm is measured at ``pose`` [7], and at ``joints`` [n] where they were asked for of
    an arm that can choose them."""
    routine = arm.reset
    far_m, far_rad = distance(TCP, pose, chain.pose(measured.position))
    if far_m > routine.tolerance_m or far_rad > routine.tolerance_rad:
        raise ResetError(
            f"the TCP is {1e3 * far_m:.1f} mm and {far_rad:.3f} rad from its start",
            limit=f"{1e3 * routine.tolerance_m:.0f} mm, {routine.tolerance_rad} rad",
            remedy="Is something in the way, or the start out of reach?",
        )
    if joints is None or arm.command.interface != "joint_position":
        return
    off = np.abs(measured.position - joints)
    if (worst := int(off.argmax())) >= 0 and off[worst] > routine.joint_tolerance_rad:
        raise ResetError(
            f"joint '{chain.names[worst]}' is {off[worst]:.3f} rad from its start",
            limit=f"{routine.joint_tolerance_rad} rad",
            remedy="Bring the arm near its home posture by hand, or with its own programme",
        )
