"""Absolute targets as the action of robosuite's OSC_POSE controller."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_rl.data.formats.robosuite_view import RobosuiteView
from robot_rl.errors import ConfigError
from robot_rl.geometry import (
    matrix_from_quat_xyzw,
    pose_inverse,
    pose_multiply,
    quat_xyzw_conjugate,
    quat_xyzw_multiply,
    rotvec_from_quat_xyzw,
)
from robot_rl.types import ActionKind, ActionSpec, Array, Arrays, target_kind

RAW = "action"
_OPENING_TOLERANCE = 0.05  # share of the travel within which a partly open gripper is left alone


def check_action(env: Any, action: ActionSpec) -> None:
    """Raise ConfigError unless ``env`` can be driven by ``action``: one raw part of the size of its own action, or
    ``arm<i>/tcp`` and ``arm<i>/gripper`` for every arm, with its OSC_POSE controller taking deltas."""
    parts = {part.name: target_kind(part.kind) for part in action.parts}
    if parts == {RAW: ActionKind.RAW}:
        if action.size != env.action_dim:
            raise ConfigError(f"'{RAW}' has {action.size} numbers", limit=f"{env.action_dim}, as the environment's own")
        return
    wanted = {}
    for i in range(len(env.robots)):
        wanted |= {f"arm{i}/tcp": ActionKind.TCP_POSE, f"arm{i}/gripper": ActionKind.GRIPPER}
    if parts != wanted:
        given = ", ".join(f"{name} ({kind})" for name, kind in parts.items())
        raise ConfigError(
            f"robosuite cannot be driven by {given}",
            limit=", ".join(wanted),
            remedy="Choose action=tcp_pose, tcp_delta, tcp_position_delta or osc_pose",
        )
    for robot in env.robots:
        arm = robot.arms[0]
        controller = robot.composite_controller.part_controllers[arm]
        if len(robot.arms) > 1 or controller.name != "OSC_POSE" or controller.input_type != "delta":
            raise ConfigError(
                f"{robot.name} is controlled by {controller.name} ({controller.input_type})",
                limit="single arms under OSC_POSE with deltas",
                remedy="Only a raw action of the environment's own size drives it",
            )


def controller_action(env: Any, view: RobosuiteView, seen: Arrays, targets: Arrays) -> Array:
    """The environment's action [A] for one step towards ``targets`` {part: [k]}, ``seen`` being the present.

    OSC_POSE adds its scaled input to the measured pose, so the input is the way left to go, shortened, with its
    direction kept, to what the controller takes in a step.
    """
    if RAW in targets:
        return targets[RAW]
    vectors = []
    for i, robot in enumerate(env.robots):
        arm = robot.arms[0]
        controller = robot.composite_controller.part_controllers[arm]
        base = view.base_pose(i)
        measured = pose_multiply(pose_inverse(base), view.tcp_pose(i, seen))
        delta = _way(targets[f"arm{i}/tcp"], measured) @ _axes(controller, base)
        opening = view.opening(i, seen)
        gripper = np.full(robot.gripper[arm].dof, _closing(float(targets[f"arm{i}/gripper"][0]), opening))
        limits = np.reshape(controller.output_max, (2, 3))
        move = np.concatenate([_within(way, limit) for way, limit in zip(delta, limits, strict=True)])
        vectors.append(robot.create_action_vector({arm: move, f"{arm}_gripper": gripper}))
    return np.concatenate(vectors)


def _way(target: Array, measured: Array) -> Array:
    """Translation and rotation vector from pose to pose, [2, 3], in the frame they are given in."""
    turn = quat_xyzw_multiply(target[3:], quat_xyzw_conjugate(measured[3:]))
    return np.stack((target[:3] - measured[:3], rotvec_from_quat_xyzw(turn)))


def _axes(controller: Any, base: Array) -> Array:
    """[3, 3]: row vectors in base axes times this are in the axes that the controller takes deltas in."""
    to_world = matrix_from_quat_xyzw(base[3:]).T
    return to_world @ controller.origin_ori if controller.input_ref_frame == "base" else to_world


def _within(way: Array, limit: Array) -> Array:
    scaled = way / limit
    return scaled / max(1.0, float(np.abs(scaled).max()))


def _closing(target: float, opening: float) -> float:
    """robosuite's gripper closes at 1, opens at -1 and keeps its command at 0."""
    if 0.0 < target < 1.0 and abs(target - opening) <= _OPENING_TOLERANCE:
        return 0.0
    return 1.0 if target <= 0.0 or target < opening else -1.0
