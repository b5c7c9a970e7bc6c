"""Where the refinement of a rig begins: every camera and board from the closed form, one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibration.closed_form import closed_form, consensus
from calibration.rig import Mount, Rig
from calibration.samples import Capture
from robot_rl.errors import CalibrationError
from robot_rl.types import Array


def hand_eye_start(captures: Sequence[Capture], rig: Rig, eye: Array) -> dict[str, Array]:
    """T_mount_body [4, 4] of each camera and board, from T_camera_board ``eye`` [n, 4, 4].

    The camera and board that move against each other in most captures are solved in closed form; what shares a view
    with something known follows from it. Raises CalibrationError for what no motion determines.
    """
    known: dict[str, Array] = {}
    hand = np.array([capture.arm.T_base_tcp for capture in captures])
    groups: dict[tuple[str, str], list[int]] = {}
    for index, capture in enumerate(captures):
        groups.setdefault((capture.view.camera, capture.view.board), []).append(index)
    left = sorted(groups, key=lambda names: -len(groups[names]))
    while left:
        names = next((pair for pair in left if (pair[0] in known) != (pair[1] in known)), None)
        names = names or next((pair for pair in left if rig.mount(pair[0]) is not rig.mount(pair[1])), left[0])
        left.remove(names)
        camera, board = names
        own = groups[names]
        if camera in known and board in known:
            continue
        in_base = [hand[own] if rig.mount(name) is Mount.TCP else np.eye(4) for name in names]
        between = np.linalg.inv(in_base[0]) @ in_base[1]  # T_mount(camera)_mount(board)
        if camera in known:
            known[board] = consensus(np.linalg.inv(between) @ known[camera] @ eye[own])
        elif board in known:
            known[camera] = consensus(between @ known[board] @ np.linalg.inv(eye[own]))
        elif rig.mount(camera) is not rig.mount(board):
            known[camera], known[board] = closed_form(np.linalg.inv(between), eye[own])
        else:
            raise CalibrationError(
                f"camera '{camera}' sees only boards that do not move against it, such as '{board}'",
                remedy=f"Show it a board that is not on the {rig.mount(camera)}",
            )
    missing = [name for name in rig.bodies if name not in known]
    if missing:
        raise CalibrationError(f"no view of {missing}", remedy="Leave them out of the rig, or show them")
    return known


def closed_loops(captures: Sequence[Capture], rig: Rig, transforms: Mapping[str, Array], eye: Array) -> Array:
    """T_mount_board [n, 4, 4] as each capture alone has it, through its camera."""
    loops = []
    for capture, seen in zip(captures, eye, strict=True):
        camera, board = capture.view.camera, capture.view.board
        hand = [capture.arm.T_base_tcp if rig.mount(name) is Mount.TCP else np.eye(4) for name in (camera, board)]
        loops.append(np.linalg.inv(hand[1]) @ hand[0] @ transforms[camera] @ seen)
    return np.array(loops)
