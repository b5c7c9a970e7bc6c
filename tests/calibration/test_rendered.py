"""From images of the simulated arm to lens and mounting; and that these images are what a lens of that kind shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from calibration.closed_form import differences
from calibration.hand_eye import calibrate_hand_eye
from calibration.rig import Mount, Rig
from calibration.samples import BoardView, Capture
from robot_rl.errors import ConfigError
from robot_rl.geometry import matrix_from_pose
from sim.calibration_cell import CalibrationCell
from sim.lens import Lens
from tests.calibration.rendered import (
    BOARD,
    CAMERA,
    capture,
    in_hand_cell,
    intrinsics,
    joint_positions,
    pattern,
    to_hand_cell,
)

LENS = Lens((400.0, 398.0), (206.0, 146.0), (-0.18, 0.08, 0.002, -0.001, -0.01), 400, 300, blur_px=0.4, noise=2.0)
CELLS: dict[str, Callable[[Lens], CalibrationCell]] = {"eye_in_hand": in_hand_cell, "eye_to_hand": to_hand_cell}


@pytest.fixture(scope="module", params=CELLS)
def cell(request: pytest.FixtureRequest) -> Iterator[CalibrationCell]:
    with closing(CELLS[request.param](LENS)) as made:
        yield made


@pytest.fixture(scope="module")
def captures(cell: CalibrationCell) -> list[Capture]:
    rng = np.random.default_rng(0)
    return [capture(cell, q, i, rng) for i, q in enumerate(islice(joint_positions(cell), 9))]


def test_corners_are_seen_where_the_true_transforms_put_them(cell: CalibrationCell, captures: list[Capture]) -> None:
    errors = []
    for taken in captures:
        view = taken.view
        assert isinstance(view, BoardView) and len(view.corner_ids) > 12
        T_camera_board = cell.T_camera_board(CAMERA, BOARD, taken.arm.joint_position)
        errors.append(intrinsics(cell).reprojection(view, pattern(cell), T_camera_board))
    everything = np.concatenate(errors)
    # no bias: half a pixel would be a wrong convention, a tenth a wrong lens
    assert np.abs(np.median(everything, axis=0)).max() < 0.06
    assert np.sqrt(np.mean(everything**2)) < 0.3


def test_the_cell_has_the_kinematics_of_its_arm(cell: CalibrationCell, captures: list[Capture]) -> None:
    q = captures[0].arm.joint_position
    np.testing.assert_allclose(cell.T_base_tcp(q), matrix_from_pose(cell.chain.pose(q)), atol=1e-9)


def test_the_mounting_is_found_from_images(cell: CalibrationCell, captures: list[Capture]) -> None:
    true = cell.cameras[CAMERA]
    camera_on, board_on = (Mount.TCP, Mount.BASE) if true.on_hand else (Mount.BASE, Mount.TCP)
    rig = Rig({CAMERA: camera_on}, {BOARD: board_on}, {CAMERA: intrinsics(cell)}, {BOARD: pattern(cell)})
    result = calibrate_hand_eye(captures, rig, forward_kinematics=cell.chain.pose)
    far_m, far_rad = differences(true.transform, result.transforms[rig.transform_name(CAMERA)])
    assert 1e3 * far_m < 0.8 and np.degrees(far_rad) < 0.08
    assert not result.outliers and result.noise["corner"] < 0.3


def test_noise_is_fresh_and_drawn_by_the_seed() -> None:
    with closing(in_hand_cell(LENS)) as first, closing(in_hand_cell(LENS)) as again:
        q = np.array(first.arm.home_rad)
        one, two, three = first.draw(CAMERA, q), first.draw(CAMERA, q), again.draw(CAMERA, q)
    assert one.shape == (300, 400, 3) and one.dtype == np.uint8
    assert not np.array_equal(one, two) and np.array_equal(one, three)


def test_what_cannot_be_drawn_is_refused(cell: CalibrationCell) -> None:
    with pytest.raises(ConfigError, match="no camera 'wrist'"):
        cell.draw("wrist", np.array(cell.arm.home_rad))
    with pytest.raises(ConfigError, match="4 coefficients"):
        Lens(distortion=(0.0,) * 4)
    with pytest.raises(ConfigError, match="1 to 2048"):
        Lens(width=0)
