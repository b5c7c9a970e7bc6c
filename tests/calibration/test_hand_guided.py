"""Procedures in which a person moves the arm (drive=false), before rendered boards whose true transforms are known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from calibration.arm_stream import ArmStream
from calibration.calibrator import Calibrator
from calibration.closed_form import differences
from calibration.display import Terminal
from calibration.imports import read_camera_info
from calibration.motion_procedures import TimeProcedure
from calibration.procedure import Bench, Procedure
from calibration.rig import Mount
from calibration.storage import Calibration, load_calibration, save_calibration
from calibration.view_procedures import CameraProcedure, HandEyeProcedure, JointsProcedure
from calibration.view_taking import Sight, ViewTaker
from controllers.arm_kinematics import ArmKinematics
from robot_rl.errors import CalibrationError
from robot_rl.types import Array
from sim.calibration_cell import CalibrationCell
from sim.lens import Lens
from tests.calibration.hand_guided import HandGuided, postures
from tests.calibration.rendered import CAMERA, in_hand_cell, intrinsics, joint_positions, pattern, to_hand_cell

LENS = Lens((300.0, 298.0), (161.0, 119.0), (-0.1, 0.04, 0.001, -0.001, 0.0), 320, 240, blur_px=0.4, noise=2.0)
DELAY_S = 0.06


@pytest.fixture(scope="module")
def in_hand() -> Iterator[CalibrationCell]:
    with closing(in_hand_cell(LENS)) as cell:
        yield cell


def near(cell: CalibrationCell, seed: int = 0) -> Iterator[Array]:
    return joint_positions(cell, seed, distance_m=(0.24, 0.4))


def guided(procedure: Procedure, robot: HandGuided, folder: Path) -> Calibration:
    """What the command stores, and its report says, of an arm that a person moves."""
    calibrator = Calibrator(procedure, ArmKinematics(robot.cell.chain, robot.cell.arm.home_rad))
    calibrator.collect(robot, folder / "samples", folder / "known", drive=False)
    assert robot.mode == "stopped"
    outcome = calibrator.solve(folder / "samples", folder / "run")
    return load_calibration(calibrator.store(outcome, folder / "known"))


def know_the_lens(cell: CalibrationCell, folder: Path) -> None:
    save_calibration(folder / "known" / "camera_camera.yaml", Calibration("any", {}, {CAMERA: intrinsics(cell)}))


def test_a_camera(in_hand: CalibrationCell, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    robot = HandGuided(in_hand, postures(near(in_hand)), DELAY_S)
    found = guided(CameraProcedure(pattern(in_hand), CAMERA, views=14), robot, tmp_path)
    lens = found.cameras[CAMERA]
    assert np.abs(np.diag(lens.matrix)[:2] / LENS.focal_px - 1.0).max() < 0.01
    assert np.abs(lens.matrix[:2, 2] - LENS.centre_px).max() < 3.0
    said = capsys.readouterr().out
    assert "Bring the board into view" in said
    assert said.count("next best view: turn the tool") > 3
    info = read_camera_info(tmp_path / "run" / f"{CAMERA}.camera_info.yaml", image_size_px=(320, 240))
    np.testing.assert_allclose(info.matrix, lens.matrix, rtol=1e-9)
    report = (tmp_path / "run" / "report.html").read_text()
    for title in ("Corners seen in each part of the image", "Error of each view", "Where corners are missed",
                  "What the camera saw", "held-out error", "image covered"):  # fmt: skip
        assert title in report
    assert report.count("data:image/png;base64,") == 4


def test_a_camera_before_the_arm_with_a_board_on_the_hand(tmp_path: Path) -> None:
    with closing(to_hand_cell(LENS)) as cell:
        know_the_lens(cell, tmp_path)
        robot = HandGuided(cell, postures(joint_positions(cell)), DELAY_S)
        found = guided(HandEyeProcedure(pattern(cell), CAMERA, Mount.BASE, views=8), robot, tmp_path)
        true = cell.cameras[CAMERA].transform
    far_m, far_rad = differences(true, found.transforms[f"T_base_{CAMERA}"].matrix)
    assert 1e3 * far_m < 1.5 and np.degrees(far_rad) < 0.15


def test_joints_whose_encoders_are_off(in_hand: CalibrationCell, tmp_path: Path) -> None:
    know_the_lens(in_hand, tmp_path)
    robot = HandGuided(in_hand, postures(near(in_hand, 3)), DELAY_S)
    robot.joint_offset_rad = off = np.array([0.0, 0.01, -0.008, 0.006, 0.012, -0.01, 0.0])
    found = guided(JointsProcedure(pattern(in_hand), CAMERA, views=14), robot, tmp_path)
    values = np.array(list(found.values["joint_offset_rad"].values()))
    assert np.abs(values - off)[1:-1].max() < 0.003


def test_the_time_of_a_camera(in_hand: CalibrationCell, tmp_path: Path) -> None:
    know_the_lens(in_hand, tmp_path)
    start, hz = next(near(in_hand)), np.array([0.31, 0.47, 0.23, 0.37, 0.53, 0.41, 0.29])

    def swing(time_s: float) -> Array:
        return start + 0.04 * (np.sin(2.0 * np.pi * hz * time_s + hz) + 0.3 * np.sin(4.4 * np.pi * hz * time_s))

    robot = HandGuided(in_hand, swing, DELAY_S)
    found = guided(TimeProcedure(pattern(in_hand), CAMERA, duration_s=4.0), robot, tmp_path)
    assert found.values["time_offset_s"][CAMERA] == pytest.approx(DELAY_S, abs=0.005)
    assert "action_latency_s" not in found.values  # nobody told the arm anything


def test_a_board_that_is_never_seen_ends_in_words(in_hand: CalibrationCell, capsys: pytest.CaptureFixture[str]) -> None:
    away = next(near(in_hand)) + np.array([1.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    robot = HandGuided(in_hand, lambda time_s: away)
    sight = Sight(CAMERA, Mount.TCP, "board", pattern(in_hand), intrinsics(in_hand))
    taker = ViewTaker(ArmStream(robot, robot.connect()), sight, Terminal("camera"), wanted=5)
    with pytest.raises(CalibrationError, match="0 of 5 views within 1 s"):
        taker.guide(Bench(taker.stream, taker.display).room, timeout_s=1.0)
    assert "does not see the board: no marker of DICT_5X5_100" in capsys.readouterr().out
