"""An arm whose encoders are off by known angles, seen through a camera's views of a board."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration.joint_offsets import JointOffsets, joint_offsets
from calibration.rig import Mount, Rig
from calibration.samples import ArmSample, BoardPose, BoardView, Capture
from robot_rl.errors import CalibrationError
from robot_rl.geometry import matrix_from_pose
from robot_rl.types import Array
from tests.calibration.truth import BOARD, LENS, Truth, pose
from tests.controllers.panda import HOME_RAD, panda_chain

CHAIN = panda_chain()
OFFSET = np.array([0.01, -0.012, 0.015, 0.008, -0.02, 0.011, -0.017])
SEEN, ALONE = slice(1, 6), ("joint1", "joint7")


def tcp(q: Array) -> Array:
    return matrix_from_pose(CHAIN.pose(q))


def in_hand() -> Truth:
    camera = pose(0.06, 0.01, 0.02, 0.0, 0.0, -1.5)
    return Truth(Mount.TCP, camera, tcp(np.array(HOME_RAD)) @ camera @ pose(-0.12, -0.08, 0.4))


def to_hand() -> Truth:
    board = pose(0.02, -0.09, 0.12, 0.0, 0.5 * np.pi, 0.0)
    here = tcp(np.array(HOME_RAD)) @ board @ pose(0.12, 0.09, 0.0)
    return Truth(Mount.BASE, here @ pose(0.0, 0.0, -0.5), board)


def views(truth: Truth, count: int = 20, seed: int = 0, wiggle_rad: float = 0.35) -> list[Capture]:
    """Joints told as q - OFFSET when they are at q, with 0.3 px of noise in the corners."""
    rng, captures = np.random.default_rng(seed), []
    while len(captures) < count:
        q = np.array(HOME_RAD) + rng.uniform(-wiggle_rad, wiggle_rad, 7)
        seen, ids = truth.T_camera_board(tcp(q)), np.arange(BOARD.corner_count)
        points = BOARD.points(ids) @ seen[:3, :3].T + seen[:3, 3]
        if (points[:, 2] < 0.1).any():
            continue
        pixels = LENS.project(points)
        inside = ((pixels > 5.0) & (pixels < [635.0, 475.0])).all(axis=1)
        if inside.sum() < 15:
            continue
        view = BoardView(
            "camera", len(captures), (640, 480), ids[inside], pixels[inside] + rng.normal(0.0, 0.3, (inside.sum(), 2))
        )
        captures.append(Capture(ArmSample(len(captures), q - OFFSET, tcp(q - OFFSET)), view))
    return captures


def solved(truth: Truth, captures: list[Capture], rig: Rig | None = None) -> JointOffsets:
    start = {"camera": truth.T_mount_camera @ pose(0.003, 0.002, 0.0, 0.02, 0.0, 0.02), "board": truth.T_mount_board}
    return joint_offsets(captures, CHAIN.pose, rig or truth.rig(), start, names=CHAIN.names)


def test_offsets_are_found_and_those_that_the_mounting_can_imitate_are_named() -> None:
    truth = in_hand()
    found = solved(truth, views(truth))
    assert found.unseen_joints == ALONE  # they turn the base and the camera
    assert [direction.parts for direction in found.unseen] == [
        {"joint1": pytest.approx(1.0, abs=0.01)},
        {"joint7": pytest.approx(1.0, abs=0.01)},
    ]
    assert found.offset_rad[SEEN] == pytest.approx(OFFSET[SEEN], abs=6e-4)
    assert np.abs(found.offset_rad[[0, 6]]).max() < 1e-3
    assert (np.abs(found.offset_rad - OFFSET)[SEEN] < 4.0 * found.deviation_rad[SEEN]).all()
    assert found.held_out < 0.6 < 2.0 < found.before


def test_a_standing_camera_sees_them_too() -> None:
    truth = to_hand()
    found = solved(truth, views(truth))
    assert set(ALONE) <= set(found.unseen_joints)
    seen = [i for i, name in enumerate(found.names) if name not in found.unseen_joints]
    assert len(seen) >= 3
    assert found.offset_rad[seen] == pytest.approx(OFFSET[seen], abs=4e-3)
    assert found.held_out < found.before


def test_poses_of_boards_without_corners_serve_as_well() -> None:
    truth = in_hand()
    captures = [
        replace(c, view=BoardPose("camera", c.view.stamp_ns, LENS.board_pose(c.view, BOARD)))
        for c in views(truth)
        if isinstance(c.view, BoardView)
    ]
    found = solved(truth, captures, Rig({"camera": Mount.TCP}, {"board": Mount.BASE}))
    seen = [i for i, name in enumerate(found.names) if name not in found.unseen_joints]
    assert len(seen) >= 3
    assert found.offset_rad[seen] == pytest.approx(OFFSET[seen], abs=4e-3)


def test_without_offsets_none_is_invented() -> None:
    truth = in_hand()
    exact = [replace(c, arm=replace(c.arm, joint_position=c.arm.joint_position + OFFSET)) for c in views(truth)]
    found = solved(truth, exact)
    assert np.abs(found.offset_rad[SEEN]).max() < 6e-4


def test_views_that_do_not_tell_are_refused_by_cause() -> None:
    truth = in_hand()
    with pytest.raises(CalibrationError, match="5 views of the board"):
        solved(truth, views(truth, 5))
    with pytest.raises(CalibrationError, match="no offset of a joint can be told"):
        solved(truth, views(truth, 12, wiggle_rad=0.002))
