"""Captures of the simulated arm from images that MuJoCo renders: their true transforms are those of the cell."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.boards import CharucoBoard
from calibration.camera_model import Distortion, Intrinsics
from calibration.samples import ArmSample, BoardView, Capture
from controllers.inverse_kinematics import inverse_kinematics
from robot_rl.geometry import matrix_from_pose, matrix_from_rotvec, pose_from_matrix, rotvec_from_matrix
from robot_rl.types import Array
from sim.calibration_cell import CalibrationCell, MountedBoard, MountedCamera
from sim.lens import Lens

CAMERA, BOARD = "camera", "board"
_QUARTER = np.pi / 2.0


def in_hand_cell(lens: Lens, board: MountedBoard | None = None, seed: int = 0) -> CalibrationCell:
    """A camera on the hand, a board on the table before the arm."""
    board = board or MountedBoard((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    width, height = board.columns * board.square_m, board.rows * board.square_m
    flat = matrix_from_rotvec([0.0, 0.0, -_QUARTER]) @ matrix_from_rotvec([np.pi, 0.0, 0.0])
    corner = np.array([0.5, 0.0, 0.004]) - flat @ [0.5 * width, 0.5 * height, 0.0]
    camera = MountedCamera((0.055, 0.012, -0.06), tuple(rotvec_from_matrix(_turn(0.08, -0.1, _QUARTER))), True, lens)
    return CalibrationCell({CAMERA: camera}, {BOARD: _placed(board, corner, flat, on_hand=False)}, seed=seed)


def to_hand_cell(lens: Lens, board: MountedBoard | None = None, seed: int = 0) -> CalibrationCell:
    """A camera before the arm, looking back at a board on the hand."""
    board = board or MountedBoard((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    width, height = board.columns * board.square_m, board.rows * board.square_m
    upright = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) @ _turn(0.03, -0.05, 0.02)
    corner = np.array([0.09, 0.0, 0.03]) - upright @ [0.5 * width, 0.5 * height, 0.0]
    back = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]) @ _turn(-0.1, 0.06, 0.04)
    camera = MountedCamera((1.02, 0.03, 0.42), tuple(rotvec_from_matrix(back)), False, lens)
    return CalibrationCell({CAMERA: camera}, {BOARD: _placed(board, corner, upright, on_hand=True)}, seed=seed)


def _turn(*rotvec: float) -> Array:
    return matrix_from_rotvec(rotvec)


def _placed(board: MountedBoard, corner: Array, rotation: Array, *, on_hand: bool) -> MountedBoard:
    fields = {
        name: getattr(board, name) for name in ("columns", "rows", "square_m", "marker_m", "dictionary", "legacy")
    }
    return MountedBoard(tuple(corner), tuple(rotvec_from_matrix(rotation)), on_hand, **fields)


def pattern(cell: CalibrationCell) -> CharucoBoard:
    """What is printed on the cell's board, as calibration declares it."""
    board = cell.boards[BOARD]
    return CharucoBoard(board.columns, board.rows, board.square_m, board.marker_m, board.dictionary, board.legacy)


def intrinsics(cell: CalibrationCell) -> Intrinsics:
    """The true ones of the cell's camera."""
    lens = cell.cameras[CAMERA].lens
    model = Distortion.PLUMB_BOB if len(lens.distortion) == 5 else Distortion.RATIONAL
    return Intrinsics(lens.matrix, np.array(lens.distortion), (lens.width, lens.height), model)


def joint_positions(
    cell: CalibrationCell, seed: int = 0, *, distance_m: tuple[float, float] = (0.3, 0.5), tilt_rad: float = 0.6
) -> Iterator[Array]:
    """Joint positions [n] from which the board is seen somewhere in the image, tilted and turned; in reach of the arm,
    the tool above the table."""
    rng = np.random.default_rng(seed)
    chain, camera, board = cell.chain, cell.cameras[CAMERA], cell.boards[BOARD]
    half = 0.5 * np.array([board.columns, board.rows]) * board.square_m
    lens, home = camera.lens, np.array(cell.arm.home_rad)
    while True:
        seen = np.eye(4)
        seen[:3, :3] = _turn(0, 0, rng.uniform(-0.5, 0.5)) @ _turn(*(rng.uniform(-tilt_rad, tilt_rad, 2)), 0.0)
        z = rng.uniform(*distance_m)
        room = 0.5 * np.array([lens.width, lens.height]) / np.array(lens.focal_px) * z - 0.75 * half
        seen[:3, 3] = [*(rng.uniform(-1.0, 1.0, 2) * np.maximum(room, 0.02)), z]
        seen[:3, 3] -= seen[:3, :3] @ [*half, 0.0]
        if camera.on_hand:
            T_base_tcp = board.transform @ np.linalg.inv(seen) @ np.linalg.inv(camera.transform)
        else:
            T_base_tcp = camera.transform @ seen @ np.linalg.inv(board.transform)
        if T_base_tcp[2, 3] < 0.06:
            continue
        q = inverse_kinematics(chain, pose_from_matrix(T_base_tcp), home, attempts=3, tolerance=1e-4, iterations=80)
        if q is not None:
            yield q


def capture(
    cell: CalibrationCell, q: Array, index: int, rng: np.random.Generator, *, corner_noise_px: float = 0.0
) -> Capture:
    """Draw, detect and pair with what the arm reports, at rest."""
    stamp_ns = index * 1_000_000_000
    view = pattern(cell).detect(cell.draw(CAMERA, q), camera=CAMERA, stamp_ns=stamp_ns, name=str(index))
    corners = view.corners_px + rng.normal(size=view.corners_px.shape) * corner_noise_px
    view = BoardView(CAMERA, stamp_ns, view.image_size_px, view.corner_ids, corners, BOARD, view.image)
    return Capture(ArmSample(stamp_ns, q, matrix_from_pose(cell.chain.pose(q))), view)
