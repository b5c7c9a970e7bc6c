"""Which poses the arm takes for its calibration: the board in view, inside workspace and reach, far from each other.

Views are drawn as poses of the board before the camera (where in the image, how far, how tilted and rolled), turned
into poses of the TCP by what is known of the mounting so far, and the one is taken that is furthest from all that were
taken. Before anything is known of the mounting, small turns about the start serve to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.boards import CharucoBoard
from calibration.camera_model import Intrinsics
from calibration.intrinsics import COVERAGE_CELLS
from calibration.rig import Mount
from robot_rl.types import Array

_TILT_RAD, _ROLL_RAD = (0.1, 0.7), (-0.8, 0.8)
_DISTANCE = (0.75, 1.35)  # of that at the start
_MIDDLE = (0.2, 0.8)  # of the image, where the middle of the board may be
_MARGIN = 0.03  # of the image's edges that corners stay clear of
_WHOLE = 0.7  # of its corners are in view, at least
_FLATTEST = 0.6  # cosine of the board's tilt
_TURN_UNIT_RAD, _WAY_UNIT_M = 0.5, 0.15  # differences of poses that count alike
_NEW_CELL = 0.02  # what a cell of the image that saw no corner yet is worth


@dataclass(frozen=True, eq=False)
class Room:
    """Where the TCP may go: the box [3] m of the workspace, and turns from ``upright`` [4, 4] up to ``turn_rad``.

    ``reachable`` says whether joints exist for a pose T_base_tcp [4, 4]; None where nobody knows.
    """

    lower_m: Array
    upper_m: Array
    upright: Array
    turn_rad: float = 1.3
    reachable: Callable[[Array], bool] | None = None

    def contains(self, T_base_tcp: Array) -> bool:
        """Whether a pose is inside; reach is asked for last, as it costs most."""
        place, turn = T_base_tcp[:3, 3], Rotation.from_matrix(self.upright[:3, :3].T @ T_base_tcp[:3, :3]).magnitude()
        inside = (place > self.lower_m).all() and (place < self.upper_m).all() and turn < self.turn_rad
        return bool(inside and (self.reachable is None or self.reachable(T_base_tcp)))


@dataclass(frozen=True, eq=False)
class Mounting:
    """What is known of a camera and a board of which one is on the TCP, the other on the base: their poses [4, 4] in
    what they are fastened to."""

    camera_on: Mount
    T_mount_camera: Array
    T_mount_board: Array

    def tcp(self, T_camera_board: Array) -> Array:
        """T_base_tcp at which the camera sees the board at ``T_camera_board``."""
        if self.camera_on is Mount.TCP:
            return self.T_mount_board @ np.linalg.inv(self.T_mount_camera @ T_camera_board)
        return self.T_mount_camera @ T_camera_board @ np.linalg.inv(self.T_mount_board)


def first_poses(start: Array, room: Room, turn_rad: float = 0.2, way_m: float = 0.02) -> list[Array]:
    """The start and small turns and shifts about it, in which a board that was in view mostly stays: [4, 4] each."""
    turns = ((1, 0, 0.3), (-1, 0.3, 0), (0, 1, -0.3), (0.3, -1, 0), (0, 0.3, 1), (0.3, 0, -1))
    poses = [start]
    for number, turn in enumerate(turns):
        pose = start.copy()
        pose[:3, :3] = start[:3, :3] @ Rotation.from_rotvec(turn_rad * np.array(turn)).as_matrix()
        pose[number % 3, 3] += way_m if number % 2 else -way_m
        poses.append(pose)
    return [pose for pose in poses if room.contains(pose)]


class PosePlan:
    """The next best pose, again and again. ``start_view`` is T_camera_board [4, 4] at the start."""

    def __init__(
        self, room: Room, intrinsics: Intrinsics, board: CharucoBoard, start_view: Array, *, seed: int = 0,
        candidates: int = 400,
    ) -> None:  # fmt: skip
        self.room, self.intrinsics, self.board = room, intrinsics, board
        self.taken: list[Array] = []  # T_base_tcp [4, 4]
        self.failed: list[Array] = []  # where the arm did not arrive, or nothing was seen
        self.seen = np.zeros(COVERAGE_CELLS, dtype=bool)  # cells of the image with a corner
        self._seed, self._candidates = seed, candidates
        self._middle = np.array([*board.size_m, 0.0]) * 0.5
        self._corners = board.points(np.arange(board.corner_count))
        self._distance_m = float((start_view[:3, :3] @ self._middle + start_view[:3, 3])[2])
        self._roll = float(np.arctan2(start_view[1, 0], start_view[0, 0]))

    def next_pose(self, mounting: Mounting) -> Array | None:
        """T_base_tcp of the view that adds most; None where no candidate is in the room and sees the board."""
        rng = np.random.default_rng((self._seed, len(self.taken), len(self.failed)))
        views = [view for view in (self._draw(rng) for _ in range(self._candidates)) if self.sees(view)]
        poses = [mounting.tcp(view) for view in views]
        gains = [self.gain(pose, view) for pose, view in zip(poses, views, strict=True)]
        return next((poses[i] for i in np.argsort(gains)[::-1] if self.room.contains(poses[i])), None)

    def sees(self, T_camera_board: Array) -> bool:
        """Whether most corners of the board would lie in the image, seen from the front and not too flat."""
        return T_camera_board[2, 2] > _FLATTEST and len(self._visible(T_camera_board)) >= _WHOLE * len(self._corners)

    def gain(self, pose: Array, T_camera_board: Array) -> float:
        """What a view adds: its distance from the nearest that was tried, and cells of the image without a corner."""
        tried = [*self.taken, *self.failed]
        away = float(apart(pose, np.array(tried)).min()) if tried else 1.0
        return away + _NEW_CELL * float((self._cells(self._visible(T_camera_board)) & ~self.seen).sum())

    def take(self, pose: Array, corners_px: Array) -> None:
        """A view was taken at ``pose``, which showed ``corners_px`` [n, 2]."""
        self.taken.append(pose)
        self.seen |= self._cells(corners_px)

    def drop(self, pose: Array) -> None:
        """A pose was of no use."""
        self.failed.append(pose)

    def _draw(self, rng: np.random.Generator) -> Array:
        """T_camera_board of a candidate."""
        matrix, size = self.intrinsics.matrix, np.array(self.intrinsics.image_size_px)
        pixel = size * rng.uniform(*_MIDDLE, size=2)
        towards = np.array([*((pixel - matrix[:2, 2]) / np.diag(matrix)[:2]), 1.0])
        about = rng.uniform(0.0, 2.0 * np.pi)
        tilt = Rotation.from_rotvec(rng.uniform(*_TILT_RAD) * np.array([np.cos(about), np.sin(about), 0.0]))
        pose = np.eye(4)
        pose[:3, :3] = (tilt * Rotation.from_rotvec([0.0, 0.0, self._roll + rng.uniform(*_ROLL_RAD)])).as_matrix()
        pose[:3, 3] = self._distance_m * rng.uniform(*_DISTANCE) * towards - pose[:3, :3] @ self._middle
        return pose

    def _visible(self, T_camera_board: Array) -> Array:
        """Corners of the board that lie in the image, [n, 2] px."""
        points = self._corners @ T_camera_board[:3, :3].T + T_camera_board[:3, 3]
        if (points[:, 2] < 0.02).any():
            return np.empty((0, 2))
        pixels, size = self.intrinsics.project(points), np.array(self.intrinsics.image_size_px)
        return pixels[((pixels > _MARGIN * size) & (pixels < (1.0 - _MARGIN) * size)).all(axis=1)]

    def _cells(self, pixels: Array) -> Array:
        """Cells of the image that hold one of ``pixels`` [n, 2]."""
        share = pixels[:, ::-1] / np.array(self.intrinsics.image_size_px[::-1])
        row, column = (np.clip(share, 0.0, 0.999) * COVERAGE_CELLS).astype(int).T
        cells = np.zeros(COVERAGE_CELLS, dtype=bool)
        cells[row, column] = True
        return cells


def advice(here: Array, there: Array) -> str:
    """How to get from one pose T_base_tcp to another, for a person who moves the arm."""
    turn = Rotation.from_matrix(here[:3, :3].T @ there[:3, :3]).as_rotvec(degrees=True)
    way = 100.0 * (there[:3, 3] - here[:3, 3])
    turns = [f"{angle:+.0f} deg about its {axis}" for axis, angle in zip("xyz", turn, strict=True) if abs(angle) > 4.0]
    ways = [f"{cm:+.0f} cm along {axis} of the base" for axis, cm in zip("xyz", way, strict=True) if abs(cm) > 1.5]
    return "; ".join(part for part in ("turn the tool " + ", ".join(turns) if turns else "", ", ".join(ways)) if part)


def apart(one: Array, others: Array) -> Array:
    """Differences of a pose from others [..., 4, 4]; 1 is that of two views that tell much more than one."""
    cosine = 0.5 * (np.einsum("ji,...ji->...", one[:3, :3], others[..., :3, :3]) - 1.0)
    turn = np.arccos(np.clip(cosine, -1.0, 1.0))
    return turn / _TURN_UNIT_RAD + np.linalg.norm(others[..., :3, 3] - one[:3, 3], axis=-1) / _WAY_UNIT_M
