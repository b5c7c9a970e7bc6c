"""What goes wrong in labs: each is refused, or set right, with a message that names the cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from calibration.hand_eye import HandEye, calibrate_hand_eye
from calibration.rig import Mount, Rig
from calibration.samples import Capture
from robot_rl.errors import CalibrationError
from robot_rl.geometry import matrix_from_pose
from robot_rl.types import Array
from sim.arms.panda import panda
from sim.scene import Scene, arm_chain, build_scene
from tests.calibration.truth import (
    BOARD,
    IN_HAND,
    LENS,
    MOUNTINGS,
    Truth,
    arm_poses,
    corner_captures,
    pose,
    pose_captures,
    with_view,
)

KINDS = {"poses": pose_captures, "corners": corner_captures}
everywhere = pytest.mark.parametrize(
    ("truth", "kind"), [(truth, kind) for truth in MOUNTINGS.values() for kind in KINDS]
)


def refused(captures: Sequence[Capture], rig: Rig, match: str, **options: Any) -> None:
    with pytest.raises(CalibrationError, match=match):
        calibrate_hand_eye(captures, rig, **options)


def camera_mm(result: HandEye, truth: Truth) -> float:
    found = result.transforms[truth.rig().transform_name("camera")]
    return 1e3 * float(np.linalg.norm(found[:3, 3] - truth.T_mount_camera[:3, 3]))


@everywhere
def test_pairing_shifted_by_one(truth: Truth, kind: str) -> None:
    captures = KINDS[kind](truth, arm_poses(truth, 15))
    late = [Capture(a.arm, b.view) for a, b in pairwise(captures)]
    refused(late, truth.rig(), r"the pairing is shifted by 1: from image 1 .* pose 1 after.*Pair by stamp")


@everywhere
def test_pairing_shifted_from_a_failed_detection_on(truth: Truth, kind: str) -> None:
    captures = KINDS[kind](truth, arm_poses(truth, 15))
    # no board was found in image 9, the arm's pose there was kept
    shifted = captures[:9] + [Capture(a.arm, b.view) for a, b in pairwise(captures[9:])]
    refused(shifted, truth.rig(), "the pairing is shifted by 1: from image 10 .* pose 1 after")


@pytest.mark.parametrize("truth", MOUNTINGS.values(), ids=MOUNTINGS)
@pytest.mark.parametrize(
    ("true_m", "told"),
    [(0.031, r"rather (30\.9[7-9]|31\.0[0-3]) mm.*larger"), (0.0291, r"rather 29\.(0[7-9]|1[0-3]) mm.*smaller")],
)
def test_squares_of_another_size(truth: Truth, true_m: float, told: str) -> None:
    printed = replace(BOARD, square_m=true_m, marker_m=0.02)
    captures = corner_captures(truth, arm_poses(truth, 15), board=printed)
    refused(captures, truth.rig(), rf"board 'board' is not of 30\.00 mm squares, {told}")


def test_poses_of_a_detector_that_was_told_another_size() -> None:
    captures = pose_captures(IN_HAND, arm_poses(IN_HAND, 20))
    for i, capture in enumerate(captures):
        T_camera_board = capture.view.T_camera_board.copy()
        T_camera_board[:3, 3] /= 1.05
        captures[i] = with_view(capture, T_camera_board=T_camera_board)
    rig = Rig({"camera": Mount.TCP}, {"board": Mount.BASE})
    refused(captures, rig, r"not of the size its detector was told: .* [45]\.\d % larger")


def test_squares_a_little_off_are_told_but_taken() -> None:
    printed = replace(BOARD, square_m=0.03018, marker_m=0.02)
    result = calibrate_hand_eye(corner_captures(IN_HAND, arm_poses(IN_HAND, 15), board=printed), IN_HAND.rig())
    assert any("seems +0.6 % of its declared size" in line for line in result.weak)


@everywhere
def test_rotation_about_one_axis_only(truth: Truth, kind: str) -> None:
    captures = KINDS[kind](truth, arm_poses(truth, 15, tilt_rad=(0.6, 0.02, 0.02)))
    refused(captures, truth.rig(), r"turn by \d\d deg about one axis only, .* of the tcp.*limit: 15 deg about two axes")


def test_little_rotation_and_few_captures() -> None:
    refused(
        pose_captures(IN_HAND, arm_poses(IN_HAND, 15, tilt_rad=(0.05,) * 3)), IN_HAND.rig(), r"turn by \d deg at most"
    )
    refused(pose_captures(IN_HAND, arm_poses(IN_HAND, 4)), IN_HAND.rig(), "4 captures of camera 'camera'.*>= 5")


@everywhere
def test_one_mislabelled_board_is_left_out_and_named(truth: Truth, kind: str) -> None:
    captures = KINDS[kind](truth, arm_poses(truth, 15))
    view = captures[4].view
    if kind == "poses":  # its neighbour on the sheet, one square further
        captures[4] = with_view(captures[4], T_camera_board=view.T_camera_board @ pose(0.03, 0.0, 0.0))
    else:  # each corner taken for the next in its row
        ids = view.corner_ids
        keep = ids % 7 < 6
        captures[4] = with_view(captures[4], corner_ids=ids[keep] + 1, corners_px=view.corners_px[keep])
    result = calibrate_hand_eye(captures, truth.rig())
    assert list(result.outliers) == [4] and "image 4" in result.outliers[4] and "mislabelled" in result.outliers[4]
    assert result.residual_mm[4] > 20.0
    assert camera_mm(result, truth) < (3.5 if kind == "poses" else 0.4)


def test_a_view_of_the_other_of_two_boards_is_set_right() -> None:
    first, second = IN_HAND, replace(IN_HAND, T_mount_board=IN_HAND.T_mount_board @ pose(-0.2, 0.1, 0.0, 0.0, 0.0, 0.4))
    poses = arm_poses(IN_HAND, 16)
    one, other = (pose_captures(truth, poses) for truth in (first, second))
    captures = [with_view(other[i], board="second") if i % 2 else one[i] for i in range(16)]
    captures[6] = with_view(captures[6], board="second")
    rig = Rig({"camera": Mount.TCP}, {"board": Mount.BASE, "second": Mount.BASE})
    result = calibrate_hand_eye(captures, rig)
    assert result.corrected == {6: "image 6 of camera 'camera' shows board 'board', not 'second'"}
    assert not result.outliers and camera_mm(result, IN_HAND) < 3.5


def test_images_of_another_size() -> None:
    captures = corner_captures(IN_HAND, arm_poses(IN_HAND, 8))
    view = captures[3].view
    captures[3] = with_view(captures[3], image_size_px=(320, 240), corners_px=0.5 * view.corners_px)
    refused(captures, IN_HAND.rig(), "image 3 of camera 'camera' has 320 x 240 px, its calibration is for 640 x 480 px")


def test_corners_of_a_camera_without_intrinsics() -> None:
    rig = Rig({"camera": Mount.TCP}, {"board": Mount.BASE}, {}, {"board": BOARD})
    refused(corner_captures(IN_HAND, arm_poses(IN_HAND, 8)), rig, "intrinsics or the pattern of 'board' are missing")


# --- the frame of the arm's poses -----------------------------------------------------------------------------------

CHAIN = arm_chain(build_scene(Scene(), panda()))
FLANGE = pose(0.0, 0.0, -0.1034, 0.0, 0.0, 0.785)


def reached(change: Mapping[str, Array] | None = None) -> list[Capture]:
    """Captures around home, the arm's poses those of its joints; ``change`` multiplies them from left or right."""
    rng = np.random.default_rng(0)
    joints = np.array(panda().home_rad) + rng.uniform(-0.35, 0.35, size=(15, 7))
    true = [matrix_from_pose(CHAIN.pose(q)) for q in joints]
    change = {"left": np.eye(4), "right": np.eye(4)} | dict(change or {})
    captures = pose_captures(IN_HAND, true)
    return [
        replace(capture, arm=replace(capture.arm, joint_position=q, T_base_tcp=change["left"] @ T @ change["right"]))
        for capture, q, T in zip(captures, joints, true, strict=True)
    ]


def test_poses_of_the_tcp_agree_with_the_joints() -> None:
    assert camera_mm(calibrate_hand_eye(reached(), IN_HAND.rig(), forward_kinematics=CHAIN.pose), IN_HAND) < 3.5


def test_poses_of_the_flange_instead_of_the_tcp() -> None:
    told = r"another effector frame than the tcp, such as the flange: always 103\.4 mm and 45\.0 deg"
    refused(reached({"right": FLANGE}), IN_HAND.rig(), told, forward_kinematics=CHAIN.pose)


def test_poses_in_the_world_instead_of_the_base() -> None:
    told = "another frame than the base, such as the world"
    refused(reached({"left": pose(0.3, 0.0, 0.8, 0.0, 0.0, 1.0)}), IN_HAND.rig(), told, forward_kinematics=CHAIN.pose)


def test_poses_of_a_link_before_the_last_joint() -> None:
    captures = [
        replace(capture, arm=replace(capture.arm, T_base_tcp=matrix_from_pose(CHAIN.pose(fixed(capture)))))
        for capture in reached()
    ]
    refused(captures, IN_HAND.rig(), "each by another amount.*wrong effector frame", forward_kinematics=CHAIN.pose)
    refused(captures, IN_HAND.rig(), "effector frame")  # contradict the images even where no kinematics is known


def fixed(capture: Capture) -> Array:
    return np.append(capture.arm.joint_position[:-1], 0.0)


def test_another_result_than_the_drawing_has() -> None:
    captures = pose_captures(IN_HAND, arm_poses(IN_HAND, 10))
    drawn = IN_HAND.T_mount_camera @ pose(0.01, 0.0, 0.0)
    calibrate_hand_eye(captures, IN_HAND.rig(), expected={"T_tcp_camera": drawn})
    elsewhere = FLANGE @ IN_HAND.T_mount_camera
    refused(captures, IN_HAND.rig(), "from what was expected.*flange", expected={"T_tcp_camera": elsewhere})
    inverted = np.linalg.inv(drawn)
    refused(captures, IN_HAND.rig(), "What was expected is inverted", expected={"T_tcp_camera": inverted})


def test_a_wrong_lens_contradicts_the_arm() -> None:
    wrong = replace(LENS, matrix=LENS.matrix * [[1.12], [1.12], [1.0]])
    rig = replace(IN_HAND.rig(), intrinsics={"camera": wrong})
    refused(corner_captures(IN_HAND, arm_poses(IN_HAND, 15)), rig, "intrinsics|larger|smaller|contradict")
