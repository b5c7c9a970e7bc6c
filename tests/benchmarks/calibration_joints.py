"""Errors of what is calibrated from motion, next to known truth: time, joints, tool. Part of
``tests.benchmarks.calibration``; errors are [median, 95th percentile] over seeds.

  time_offset_ms           of a camera at 30 Hz (irregular stamps) against joints at 100 Hz, from 6 s of motion, the
                           true offset drawn from -50 to 150 ms, rendered images of 640 x 480 px, corners with another
                           0.3 px of noise
  time_offset_projected_ms the same from projected corners, 12 s of motion
  action_latency_ms        of an arm that follows a chirp, read at 20 Hz with 0.2 mm of noise
  joint_offset_mrad        largest error of an offset that can be seen, of 7 offsets of up to 20 mrad, 25 views
  joint_offsets_unseen     how many of the 7 the views leave open (the first and the last look like another mounting)
  tool_mm                  of a tip pivoted through 20 poses, held within 0.2 mm (standard deviation) along each axis
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import numpy as np

from calibration.action_latency import action_latency, chirp
from calibration.camera_model import Intrinsics
from calibration.hand_eye_start import hand_eye_start
from calibration.joint_offsets import joint_offsets
from calibration.rig import Mount, Rig
from calibration.samples import ArmSample, BoardPose, BoardView, Capture
from calibration.time_offset import time_offset
from calibration.tool import tool_point
from robot_rl.geometry import matrix_from_pose, matrix_from_rotvec
from robot_rl.types import Array
from sim.calibration_cell import CalibrationCell
from sim.lens import Lens
from tests.calibration.rendered import BOARD, CAMERA, in_hand_cell, intrinsics, joint_positions, pattern

_LENS = Lens((605.0, 603.0), (322.0, 243.0), (-0.12, 0.06, 0.001, -0.0005, -0.01), blur_px=0.5, noise=2.0)
_NOISE_PX = 0.3
_LENGTH_S, _DRAWN_S, _EDGE_S = 12.0, 6.0, 0.6
_HZ = np.array([0.31, 0.47, 0.23, 0.37, 0.53, 0.41, 0.29])  # of the joints


def motion(seed: int) -> dict[str, float]:
    """All that needs no images, as the table above says."""
    with closing(in_hand_cell(_LENS)) as cell:
        late_ms, (worst_mrad, unseen) = _time_ms(cell, seed, drawn=False), _joints_mrad(cell, seed)
    return {
        "time_offset_projected_ms": late_ms, "joint_offset_mrad": worst_mrad, "joint_offsets_unseen": unseen,
        "action_latency_ms": _latency_ms(seed), "tool_mm": _tool_mm(seed),
    }  # fmt: skip


def time_rendered_ms(seed: int) -> float:
    """Error of a time offset from rendered images."""
    with closing(in_hand_cell(_LENS, seed=seed)) as cell:
        return _time_ms(cell, seed, drawn=True)


def _time_ms(cell: CalibrationCell, seed: int, *, drawn: bool) -> float:
    rng, lens, length_s = np.random.default_rng(seed), intrinsics(cell), _DRAWN_S if drawn else _LENGTH_S
    start, phase, delay_s = next(joint_positions(cell, seed)), rng.uniform(0.0, 6.3, 7), rng.uniform(-0.05, 0.15)

    def joints(time_s: float) -> Array:
        swing = np.sin(2.0 * np.pi * _HZ * time_s + phase) + 0.3 * np.sin(4.4 * np.pi * _HZ * time_s)
        return start + 0.04 * swing

    arm = [
        ArmSample(round(1e9 * t), joints(t), matrix_from_pose(cell.chain.pose(joints(t))))
        for t in np.arange(0.0, length_s, 0.01).tolist()
    ]
    stamps_s = np.arange(_EDGE_S, length_s - _EDGE_S, 1.0 / 30.0)
    stamps_s += rng.uniform(-0.004, 0.004, len(stamps_s))  # images do not come like clockwork
    poses = []
    for stamp_s in stamps_s.tolist():
        view = _view(cell, joints(stamp_s - delay_s), round(1e9 * stamp_s), rng, drawn=drawn)
        if len(view.corner_ids) >= 8:
            poses.append(BoardPose(CAMERA, view.stamp_ns, lens.board_pose(view, pattern(cell)), BOARD))
    return 1e3 * abs(time_offset(poses, arm, Mount.TCP).offset_s - delay_s)


def _joints_mrad(cell: CalibrationCell, seed: int) -> tuple[float, int]:
    """Largest error of what can be seen, and how many cannot."""
    rng, lens = np.random.default_rng(seed), intrinsics(cell)
    true, captures = rng.uniform(-0.02, 0.02, 7), []
    for index, q in enumerate(islice(joint_positions(cell, seed), 25)):
        told = q - true
        arm = ArmSample(index, told, matrix_from_pose(cell.chain.pose(told)))
        captures.append(Capture(arm, _view(cell, q, index, rng, drawn=False)))
    rig = Rig({CAMERA: Mount.TCP}, {BOARD: Mount.BASE}, {CAMERA: lens}, {BOARD: pattern(cell)})
    start = hand_eye_start(captures, rig, rig.board_poses(captures))
    found = joint_offsets(captures, cell.chain.pose, rig, start, names=cell.chain.names)
    seen = [i for i, name in enumerate(found.names) if name not in found.unseen_joints]
    return 1e3 * float(np.abs(found.offset_rad - true)[seen].max()), len(found.unseen_joints)


def _latency_ms(seed: int) -> float:
    rng = np.random.default_rng(seed)
    true_s, told_s = rng.uniform(0.02, 0.2), np.arange(-1.0, 9.0, 0.05)
    seen_s = told_s + rng.uniform(0.0, 0.05)
    there = 0.95 * chirp(seen_s - true_s, 0.03, 0.3, 1.5, 8.0) + rng.normal(0.0, 2e-4, len(seen_s))
    found = action_latency(told_s, chirp(told_s, 0.03, 0.3, 1.5, 8.0), seen_s, there)
    return 1e3 * abs(found.latency_s - true_s)


def _tool_mm(seed: int) -> float:
    rng = np.random.default_rng(seed)
    tip, point = rng.uniform([-0.05, -0.05, 0.05], [0.05, 0.05, 0.2]), np.array([0.5, 0.1, 0.02])
    samples = []
    for number in range(20):
        pose = np.eye(4)
        pose[:3, :3] = matrix_from_rotvec([np.pi, 0.0, 0.0]) @ matrix_from_rotvec(rng.uniform(-0.5, 0.5, 3))
        pose[:3, 3] = point - pose[:3, :3] @ tip + rng.normal(0.0, 2e-4, 3)
        samples.append(ArmSample(number, np.zeros(7), pose))
    return 1e3 * float(np.linalg.norm(tool_point(samples).position_m - tip))


def _view(cell: CalibrationCell, q: Array, stamp_ns: int, rng: np.random.Generator, *, drawn: bool) -> BoardView:
    """What the camera sees at ``q``: drawn and detected, or projected; corners with noise either way."""
    board, lens = pattern(cell), intrinsics(cell)
    if drawn:
        view = board.detect(cell.draw(CAMERA, q), camera=CAMERA, stamp_ns=stamp_ns)
        ids, corners = view.corner_ids, view.corners_px
    else:
        ids, corners = _projected(cell, q, lens)
    corners = corners + rng.normal(0.0, _NOISE_PX, corners.shape)
    return BoardView(CAMERA, stamp_ns, lens.image_size_px, ids, corners, BOARD)


def _projected(cell: CalibrationCell, q: Array, lens: Intrinsics) -> tuple[Array, Array]:
    board, pose = pattern(cell), cell.T_camera_board(CAMERA, BOARD, q)
    ids = np.arange(board.corner_count)
    pixels = lens.project(board.points(ids) @ pose[:3, :3].T + pose[:3, 3])
    inside = ((pixels > 2.0) & (pixels < np.array(lens.image_size_px) - 3.0)).all(axis=1)
    return ids[inside], pixels[inside]
