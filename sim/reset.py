"""The start of an episode: arm and objects put where a request says, at rest there, verified."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from controllers.inverse_kinematics import inverse_kinematics
from robot_rl.errors import ResetError, valid_choices
from robot_rl.geometry import geodesic_angle, pose_inverse, pose_multiply, quat_xyzw_normalize
from robot_rl.types import Array, Arrays, ResetRequest
from sim.objects import SceneObject

if TYPE_CHECKING:
    from sim.world import World

_SLICE_S = 0.1  # of physics, after which rest is looked for
_CLOSING_S = 1.0  # that the fingers get to close around something
_REST = 0.02  # speed [m/s, rad/s] below which things rest
_POSITION_TOLERANCE_M = 0.005
_ROTATION_TOLERANCE_RAD = 0.05
_EDGE = 1e-4  # [m, rad] that rounding may put a start beyond the edge of the workspace
_GRIP = 0.02  # that what is held keeps the fingers apart more than asked for, of the whole opening


@dataclass(frozen=True)
class Start:
    """A request that was found possible: joint position, opening, and what to put where."""

    joint_position: Array
    tcp_pose: Array  # [7] asked for
    opening: float
    placed: Arrays  # object/<name>_pose, object/<name>_position
    held: tuple[SceneObject, Array] | None = None  # between the fingers, at this pose [7] in the TCP's frame


def arrange(world: World, request: ResetRequest) -> float:
    """Put arm and objects where the request says and let them come to rest; returns the simulated time it took [s].

    Raises ResetError for a start that does not exist, which changes nothing, and for one that is not held or not at
    rest within ``request.timeout_s`` of simulated time: the arm then rests at home.
    """
    start = _checked(world, request)
    try:
        took_s = _settled(world, start, request.timeout_s)
        _verify(world, start)
    except ResetError:
        _put(world, Start(world.home, world.chain.pose(world.home), 1.0, {}))
        world.advance(_ticks(world, _SLICE_S))
        world.latch(1.0)
        raise
    world.latch(start.opening)
    return took_s


# --- what was asked for ---------------------------------------------------------------------------------------------


def _checked(world: World, request: ResetRequest) -> Start:
    if not (math.isfinite(request.timeout_s) and request.timeout_s > 0.0):
        raise ResetError(f"a start within {request.timeout_s} s", limit="> 0 s")
    q, tcp_pose = _start_position(world, request)
    opening = float(_numbers("the gripper", [request.gripper_opening], 1)[0])
    placed, held = {}, None
    for name, value in request.simulator_state.items():
        thing = world.holdable.get(name)
        if thing is None:
            placed[name] = _place(world, name, value)
        elif held is not None:
            raise ResetError(f"the fingers shall hold '{held[0].name}' and '{thing.name}'", limit="one object")
        else:
            held = thing, _pose(f"'{name}'", value)
    return Start(q, tcp_pose, min(max(opening, 0.0), 1.0), placed, held)


def _start_position(world: World, request: ResetRequest) -> tuple[Array, Array]:
    """Joint position [n] of the start, within the limits that hold while the arm is driven, and the TCP's pose [7] that
    was asked for."""
    q, chain, limits, wanted = world.home, world.chain, world.safety.arrays, None
    if request.joint_position is not None:
        q = _numbers("the joint position", request.joint_position, chain.dof)
    elif request.tcp_pose is not None:
        wanted = _pose("the TCP", request.tcp_pose)
        found = inverse_kinematics(chain, wanted, world.home, axes=world.arm.axes)
        if found is None:
            raise ResetError(
                f"the arm cannot reach the start pose {wanted.tolist()}", remedy="Choose one inside the workspace box"
            )
        q = found
    if not ((limits.joint[0] <= q) & (q <= limits.joint[1])).all():
        raise ResetError(
            f"start at joint position {q.round(3).tolist()}",
            limit=f"{limits.joint[0].round(3).tolist()} to {limits.joint[1].round(3).tolist()} rad",
        )
    pose = chain.pose(q)
    if max(_apart(pose, world.safety.inside(pose))) > _EDGE:
        raise ResetError(
            f"the start has the TCP at {pose.round(3).tolist()}, outside of the workspace",
            limit=f"{limits.box[0].tolist()} to {limits.box[1].tolist()} m, {limits.tilt[0]} rad from upright",
        )
    return q, pose if wanted is None else wanted


def _place(world: World, name: str, value: object) -> Array:
    if name not in world.things:
        raise ResetError(f"the scene has no '{name}'", remedy=valid_choices(name, [*world.things, *world.holdable]))
    return _numbers(f"'{name}'", value, 3) if world.things[name].marker else _pose(f"'{name}'", value)


# --- arranging it ---------------------------------------------------------------------------------------------------


def _put(world: World, start: Start) -> None:
    """Everything where it shall be, without speed; fingers that shall hold something still open."""
    mujoco.mj_resetData(world.physics.model, world.physics.data)
    world.physics.arm.q[:] = start.joint_position
    for name, value in start.placed.items():
        world.place(world.things[name], value)
    opening = start.opening
    if start.held is not None:
        thing, in_tcp = start.held
        world.place(thing, pose_multiply(world.chain.pose(start.joint_position), in_tcp))
        opening = 1.0
    world.open_fingers(opening)
    world.physics.refresh()
    world.servo.reset({"joint_position": start.joint_position, "bias_force": world.physics.arm.bias.copy()})


def _settled(world: World, start: Start, timeout_s: float) -> float:
    """Arrange and wait for rest; returns the time it took [s]. Raises ResetError when that takes too long."""
    _put(world, start)
    took_s = 0.0
    if start.held is not None:
        took_s += _close_around(world, start, start.held[0])
    while True:
        rest_s = min(_SLICE_S, timeout_s - took_s)
        if rest_s < world.physics.timestep_s:
            raise ResetError(
                "the start is not at rest", limit=f"{timeout_s} s of simulated time",
                remedy="Ask for a start that is free of contact and at rest",
            )  # fmt: skip
        world.advance(_ticks(world, rest_s))
        took_s += rest_s
        if not world.physics.finite():
            raise ResetError("physics is not finite at the start", remedy="Ask for a start that is free of contact")
        if world.speed < _REST:
            return took_s


def _close_around(world: World, start: Start, thing: SceneObject) -> float:
    """Close the fingers while ``thing`` is kept in its place, until they stand; returns the time it took [s]."""
    in_place = world.pose_of(thing)
    world.aim_fingers(start.opening)
    ticks = _ticks(world, _CLOSING_S)
    for tick in range(ticks):
        world.advance(1)
        world.place(thing, in_place)
        closing = tick < ticks // 10 or np.abs(world.finger_speed).max() > _REST
        if not closing:
            return (tick + 1) * world.physics.timestep_s
    return _CLOSING_S


def _ticks(world: World, seconds: float) -> int:
    return max(round(seconds / world.physics.timestep_s), 1)


def _verify(world: World, start: Start) -> None:
    """Raise ResetError unless everything is where it was asked for."""
    state = world.measure()
    for name, pose in {"arm0/tcp_pose": start.tcp_pose, **start.placed}.items():
        _verify_near(name, state[name], pose)
    if start.held is None:
        return
    thing, in_tcp = start.held
    tcp, pose = (state[name].astype(np.float64) for name in ("arm0/tcp_pose", thing.observation))
    _verify_near(thing.held, pose_multiply(pose_inverse(tcp), pose), in_tcp)
    opening = float(state["arm0/gripper_opening"][0])
    if opening < start.opening + _GRIP:
        raise ResetError(
            f"the fingers closed to {opening:.2f} and do not hold '{thing.name}'",
            limit=f"{start.opening + _GRIP:.2f}, wider than gripper_opening",
            remedy="Ask for a narrower opening, or for the object between the pads",
        )


def _verify_near(name: str, pose: Array, wanted: Array) -> None:
    distance, angle = _apart(pose, wanted)
    if not (distance <= _POSITION_TOLERANCE_M and angle <= _ROTATION_TOLERANCE_RAD):
        raise ResetError(
            f"'{name}' came to rest {distance * 1e3:.1f} mm and {angle:.3f} rad from its start",
            limit=f"{_POSITION_TOLERANCE_M * 1e3:.0f} mm, {_ROTATION_TOLERANCE_RAD} rad",
            remedy="Ask for a start that is free of contact and at rest",
        )


# --- numbers --------------------------------------------------------------------------------------------------------


def _numbers(what: str, value: object, size: int) -> Array:
    """A part of a start as float64 [size]. Raises ResetError."""
    try:
        numbers = np.array(value, dtype=np.float64)
        if numbers.shape != (size,) or not np.isfinite(numbers).all():
            raise ValueError("wrong shape or not finite")
    except (TypeError, ValueError) as error:
        raise ResetError(f"start of {what} is {value}", limit=f"{size} finite numbers") from error
    return numbers


def _pose(what: str, value: object) -> Array:
    """The start of something with a pose [7], its quaternion of unit length. Raises ResetError."""
    pose = _numbers(what, value, 7)
    if np.linalg.norm(pose[3:]) < 1e-6:
        raise ResetError(f"start of {what} is {value}", limit="a quaternion with a direction")
    pose[3:] = quat_xyzw_normalize(pose[3:])
    return pose


def _apart(pose: Array, other: Array) -> tuple[float, float]:
    """Distance [m] of two positions or poses, and angle [rad] of the poses."""
    angle = float(geodesic_angle(pose[3:], other[3:])) if len(other) == 7 else 0.0
    return float(np.linalg.norm(pose[:3] - other[:3])), angle
