"""Synthetic captures whose true transforms are known: an arm's poses around a board, seen as poses or as corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.boards import CharucoBoard
from calibration.camera_model import Intrinsics
from calibration.rig import Mount, Rig
from calibration.samples import ArmSample, BoardPose, BoardView, Capture
from robot_rl.geometry import matrix_from_rotvec
from robot_rl.types import Array

BOARD = CharucoBoard(columns=8, rows=6, square_m=0.03, marker_m=0.022)
LENS = Intrinsics(
    np.array([[605.0, 0.0, 322.0], [0.0, 603.0, 243.0], [0.0, 0.0, 1.0]]),
    np.array([-0.12, 0.06, 0.001, -0.0005, -0.01]),
    (640, 480),
)


def pose(x: float, y: float, z: float, *rotvec: float) -> Array:
    """A transform [4, 4] from a position and a rotation vector."""
    transform = np.eye(4)
    transform[:3, 3] = x, y, z
    if rotvec:
        transform[:3, :3] = matrix_from_rotvec(rotvec)
    return transform


@dataclass(frozen=True, eq=False)
class Truth:
    """A camera on the tcp that looks at a board on the table, or a fixed one that looks at a board on the tcp."""

    camera_on: Mount
    T_mount_camera: Array
    T_mount_board: Array

    def rig(self) -> Rig:
        board_on = Mount.BASE if self.camera_on is Mount.TCP else Mount.TCP
        return Rig({"camera": self.camera_on}, {"board": board_on}, {"camera": LENS}, {"board": BOARD})

    def T_camera_board(self, T_base_tcp: Array) -> Array:
        camera, board = T_base_tcp @ self.T_mount_camera, self.T_mount_board
        if self.camera_on is Mount.BASE:
            camera, board = self.T_mount_camera, T_base_tcp @ self.T_mount_board
        return np.linalg.inv(camera) @ board

    def T_base_tcp(self, T_camera_board: Array) -> Array:
        if self.camera_on is Mount.TCP:
            return self.T_mount_board @ np.linalg.inv(T_camera_board) @ np.linalg.inv(self.T_mount_camera)
        return self.T_mount_camera @ T_camera_board @ np.linalg.inv(self.T_mount_board)


IN_HAND = Truth(Mount.TCP, pose(0.06, 0.01, -0.05, 0.1, -0.2, 1.5), pose(0.5, -0.1, 0.01, 3.0, 0.1, 0.2))
TO_HAND = Truth(Mount.BASE, pose(1.1, 0.1, 0.5, -1.2, 1.3, 0.9), pose(-0.12, -0.09, 0.03, 0.1, 0.05, -0.3))
MOUNTINGS = {"eye_in_hand": IN_HAND, "eye_to_hand": TO_HAND}


def arm_poses(truth: Truth, count: int, seed: int = 0, *, tilt_rad: Sequence[float] = (0.6, 0.6, 0.8)) -> list[Array]:
    """T_base_tcp [4, 4] from which the board's centre is seen anywhere in the middle of the image, 0.35 to 0.8 m away,
    turned by up to ``tilt_rad`` about each axis."""
    rng = np.random.default_rng(seed)
    centre = np.array([*BOARD.size_m, 0.0]) / 2.0
    poses = []
    for _ in range(count):
        x, y, z = rng.uniform([-0.3, -0.2, 0.35], [0.3, 0.2, 0.8])
        seen = pose(x * z, y * z, z, *(rng.uniform(-1.0, 1.0, 3) * tilt_rad))
        seen[:3, 3] -= seen[:3, :3] @ centre
        poses.append(truth.T_base_tcp(seen))
    return poses


def pose_captures(
    truth: Truth, poses: Sequence[Array], seed: int = 0, *, noise_m: float = 0.001, noise_rad: float = np.radians(0.3)
) -> list[Capture]:
    """The board's pose as measured with Gaussian noise of position and of rotation, per axis."""
    rng = np.random.default_rng(1000 + seed)
    captures = []
    for index, T_base_tcp in enumerate(poses):
        seen = truth.T_camera_board(T_base_tcp)
        seen[:3, :3] = seen[:3, :3] @ matrix_from_rotvec(rng.normal(size=3) * noise_rad)
        seen[:3, 3] += rng.normal(size=3) * noise_m
        stamp_ns = index * 1_000_000_000
        arm = ArmSample(stamp_ns, np.zeros(7), T_base_tcp)
        captures.append(Capture(arm, BoardPose("camera", stamp_ns, seen, image=str(index))))
    return captures


def corner_captures(
    truth: Truth, poses: Sequence[Array], seed: int = 0, *, noise_px: float = 0.3, board: CharucoBoard = BOARD
) -> list[Capture]:
    """The corners of ``board`` in the image, with Gaussian noise."""
    rng = np.random.default_rng(2000 + seed)
    captures = []
    for index, T_base_tcp in enumerate(poses):
        seen, ids = truth.T_camera_board(T_base_tcp), np.arange(board.corner_count)
        pixels = LENS.project(board.points(ids) @ seen[:3, :3].T + seen[:3, 3])
        pixels += rng.normal(size=pixels.shape) * noise_px
        inside = ((pixels > 1.0) & (pixels < np.array(LENS.image_size_px) - 2.0)).all(axis=1)
        stamp_ns = index * 1_000_000_000
        view = BoardView("camera", stamp_ns, LENS.image_size_px, ids[inside], pixels[inside], image=str(index))
        captures.append(Capture(ArmSample(stamp_ns, np.zeros(7), T_base_tcp), view))
    return captures


def corner_views(
    lens: Intrinsics, count: int, seed: int = 0, *, noise_px: float = 0.3, tilt_rad: float = 0.7
) -> list[BoardView]:
    """Views in which the board fills much of the image, tilted at random about both axes."""
    rng = np.random.default_rng(seed)
    size, centre = np.array(lens.image_size_px), np.array([*BOARD.size_m, 0.0]) / 2.0
    ids, views = np.arange(BOARD.corner_count), []
    while len(views) < count:
        turned = matrix_from_rotvec([*rng.uniform(-tilt_rad, tilt_rad, 2), 0.0])
        where = rng.uniform([-0.15, -0.11, 0.25], [0.15, 0.11, 0.42])
        pixels = lens.project((BOARD.points(ids) - centre) @ turned.T + where)
        inside = ((pixels > 3.0) & (pixels < size - 4.0)).all(axis=1)
        if inside.sum() < 0.6 * len(ids):
            continue
        pixels += rng.normal(size=pixels.shape) * noise_px
        views.append(BoardView("camera", len(views), lens.image_size_px, ids[inside], pixels[inside]))
    return views


def with_view(capture: Capture, **changes: object) -> Capture:
    """The pair with its view changed."""
    return replace(capture, view=replace(capture.view, **changes))
