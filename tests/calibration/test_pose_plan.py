"""Poses that are planned stay in the workspace, show the board and turn enough to solve from."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.pose_plan import Mounting, PosePlan, Room, advice, apart, first_poses
from calibration.rotation_spread import rotation_spread
from robot_rl.types import Array
from tests.calibration.truth import BOARD, LENS, MOUNTINGS, Truth, arm_poses, pose

LOWER, UPPER = np.array([0.2, -0.6, 0.05]), np.array([1.2, 0.6, 1.2])


def planned(truth: Truth, count: int, room: Room, start: Array) -> tuple[PosePlan, list[Array]]:
    plan = PosePlan(room, LENS, BOARD, truth.T_camera_board(start))
    mounting = Mounting(truth.camera_on, truth.T_mount_camera, truth.T_mount_board)
    poses = []
    for _ in range(count):
        found = plan.next_pose(mounting)
        assert found is not None
        seen = truth.T_camera_board(found)
        points = BOARD.points(np.arange(BOARD.corner_count)) @ seen[:3, :3].T + seen[:3, 3]
        plan.take(found, LENS.project(points))
        poses.append(found)
    return plan, poses


@pytest.mark.parametrize("mounting", MOUNTINGS)
def test_fifteen_views_stay_inside_show_the_board_and_turn_about_three_axes(mounting: str) -> None:
    truth = MOUNTINGS[mounting]
    start = next(
        p for p in arm_poses(truth, 50, tilt_rad=(0.05, 0.05, 0.05)) if ((p[:3, 3] > LOWER) & (p[:3, 3] < UPPER)).all()
    )
    room = Room(LOWER, UPPER, start, 1.2)
    plan, poses = planned(truth, 15, room, start)
    for T_base_tcp in poses:
        assert ((T_base_tcp[:3, 3] > LOWER) & (T_base_tcp[:3, 3] < UPPER)).all()
        assert plan.sees(truth.T_camera_board(T_base_tcp))
    assert rotation_spread(np.array(poses)).spans_deg[2] > 30.0
    assert plan.seen.mean() > 0.7
    assert min(apart(a, b) for i, a in enumerate(poses) for b in poses[:i]) > 0.25


def test_reach_is_asked_and_obeyed() -> None:
    truth = MOUNTINGS["eye_in_hand"]
    start, centre_m = arm_poses(truth, 1)[0], (truth.T_mount_board @ [0.12, 0.09, 0.0, 1.0])[0]
    asked: list[Array] = []

    def reachable(T_base_tcp: Array) -> bool:
        asked.append(T_base_tcp)
        return bool(T_base_tcp[0, 3] < centre_m)

    _, poses = planned(truth, 4, Room(np.full(3, -2.0), np.full(3, 2.0), start, 3.2, reachable), start)
    assert all(T_base_tcp[0, 3] < centre_m for T_base_tcp in poses)
    assert len(asked) > 4


def test_a_room_too_small_has_no_next_pose() -> None:
    truth = MOUNTINGS["eye_in_hand"]
    start = arm_poses(truth, 1)[0]
    room = Room(start[:3, 3] - 1e-4, start[:3, 3] + 1e-4, start, 1.2)
    plan = PosePlan(room, LENS, BOARD, truth.T_camera_board(start), candidates=50)
    assert plan.next_pose(Mounting(truth.camera_on, truth.T_mount_camera, truth.T_mount_board)) is None
    assert len(first_poses(start, room)) == 1  # the start itself


def test_first_poses_turn_about_two_axes_and_stay_near() -> None:
    start = pose(0.5, 0.0, 0.3, np.pi, 0.0, 0.0)
    poses = first_poses(start, Room(LOWER, UPPER, start, 1.2))
    assert len(poses) == 7
    assert all(np.linalg.norm(p[:3, 3] - start[:3, 3]) <= 0.0201 for p in poses)
    assert rotation_spread(np.array(poses)).spans_deg[1] > 15.0


def test_advice_says_turns_and_ways() -> None:
    here = pose(0.5, 0.0, 0.3, np.pi, 0.0, 0.0)
    there = pose(0.42, 0.0, 0.35, np.pi, 0.0, 0.0) @ pose(0.0, 0.0, 0.0, 0.0, np.radians(20.0), 0.0)
    assert (
        advice(here, there) == "turn the tool +20 deg about its y; -8 cm along x of the base, +5 cm along z of the base"
    )
    assert advice(here, here) == ""
