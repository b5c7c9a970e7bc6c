"""Between a policy's action and the absolute targets that cross ``Robot.command``.

Delta actions are integrated once, at the chunk's anchor, onto the target then in force, so that dropping or splicing
steps loses nothing; ``express`` is the inverse, one step at a time, and turns set points back into policy actions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from robot_rl.errors import CommandRefusedError, InvalidArrayError
from robot_rl.geometry import pose_step, poses_after, quat_xyzw_normalize
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, Arrays, check_finite

_FLOAT = np.float64


def integrate(spec: ActionSpec, actions: Array, in_force: Arrays) -> dict[str, Array]:
    """Absolute targets {part: [H, k]} of a plan ``actions`` [H, A] anchored at the targets ``in_force`` {part: [k]}.

    Actions are clipped to the limits of the spec first. Raises InvalidArrayError for a wrong shape or a value that is
    not finite, CommandRefusedError when a delta part has no target in force.
    """
    actions = np.asarray(actions, dtype=_FLOAT)
    if actions.ndim != 2 or actions.shape[1] != spec.size:
        raise InvalidArrayError(f"plan has shape {list(actions.shape)}", limit=f"[H, {spec.size}]")
    check_finite("plan", actions)
    actions = actions.clip(*spec.bounds)
    return {
        part.name: _INTEGRATE.get(part.kind, _as_is)(actions[:, spec.slices[part.name]], part, in_force)
        for part in spec.parts
    }


def express(spec: ActionSpec, target: Arrays, in_force: Arrays) -> Array:
    """The policy action [A] (float32) that leads from the targets ``in_force`` to ``target``; inverse of one step."""
    action: list[float] = []
    for part in spec.parts:
        value = np.asarray(target[part.name], dtype=_FLOAT)
        action += _EXPRESS.get(part.kind, _unchanged)(value, part, in_force).tolist()
    return np.array(action, dtype=np.float32)


def _in_force(part: ActionPart, in_force: Arrays) -> Array:
    if part.name not in in_force:
        raise CommandRefusedError(
            f"no target in force for '{part.name}' ({part.kind.value})",
            remedy="Reset the robot before the first command",
        )
    return np.asarray(in_force[part.name], dtype=_FLOAT)


def _as_is(values: Array, part: ActionPart, in_force: Arrays) -> Array:
    return values


def _poses(position: Array, rotation: Array) -> Array:
    """[H, 7] of positions [H, 3] and one rotation [4] or [H, 4]."""
    poses = np.empty((len(position), 7))
    poses[:, :3], poses[:, 3:] = position, rotation
    return poses


def _absolute_pose(values: Array, part: ActionPart, in_force: Arrays) -> Array:
    return _poses(values[:, :3], quat_xyzw_normalize(values[:, 3:]))


def _position(values: Array, part: ActionPart, in_force: Arrays) -> Array:
    return _poses(values, _in_force(part, in_force)[3:])


def _position_delta(values: Array, part: ActionPart, in_force: Arrays) -> Array:
    start = _in_force(part, in_force)
    return _poses(start[:3] + values.cumsum(axis=0), start[3:])


def _pose_delta(values: Array, part: ActionPart, in_force: Arrays) -> Array:
    return poses_after(_in_force(part, in_force), values)


def _joint_delta(values: Array, part: ActionPart, in_force: Arrays) -> Array:
    return _in_force(part, in_force) + values.cumsum(axis=0)


def _unchanged(target: Array, part: ActionPart, in_force: Arrays) -> Array:
    return target


def _express_position(target: Array, part: ActionPart, in_force: Arrays) -> Array:
    return target[:3]


def _express_position_delta(target: Array, part: ActionPart, in_force: Arrays) -> Array:
    return target[:3] - _in_force(part, in_force)[:3]


def _express_pose_delta(target: Array, part: ActionPart, in_force: Arrays) -> Array:
    return pose_step(_in_force(part, in_force), target)


def _express_joint_delta(target: Array, part: ActionPart, in_force: Arrays) -> Array:
    return target - _in_force(part, in_force)


_INTEGRATE: dict[ActionKind, Callable[[Array, ActionPart, Arrays], Array]] = {
    ActionKind.TCP_POSE: _absolute_pose,
    ActionKind.TCP_POSITION: _position,
    ActionKind.TCP_POSITION_DELTA: _position_delta,
    ActionKind.TCP_DELTA: _pose_delta,
    ActionKind.JOINT_DELTA: _joint_delta,
}
_EXPRESS: dict[ActionKind, Callable[[Array, ActionPart, Arrays], Array]] = {
    ActionKind.TCP_POSITION: _express_position,
    ActionKind.TCP_POSITION_DELTA: _express_position_delta,
    ActionKind.TCP_DELTA: _express_pose_delta,
    ActionKind.JOINT_DELTA: _express_joint_delta,
}
