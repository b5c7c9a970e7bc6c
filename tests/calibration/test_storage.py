"""Calibrations on disk: they come back as they were, can be solved again from their samples, and damage is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from calibration.hand_eye import HandEye, calibrate_hand_eye
from calibration.recording import Recording, load_recording, samples_sha256
from calibration.samples import Capture, pair
from calibration.storage import Calibration, load_calibration, save_calibration, sha256
from robot_rl.errors import CalibrationError
from tests.calibration.truth import BOARD, IN_HAND, LENS, arm_poses, corner_captures


@pytest.fixture(scope="module")
def captures() -> list[Capture]:
    return corner_captures(IN_HAND, arm_poses(IN_HAND, 10))


@pytest.fixture(scope="module")
def result(captures: list[Capture]) -> HandEye:
    return calibrate_hand_eye(captures, IN_HAND.rig())


def test_recorded_samples_give_the_same_solution_again(
    captures: list[Capture], result: HandEye, tmp_path: Path
) -> None:
    arm, views = [capture.arm for capture in captures], [capture.view for capture in captures]
    recording = Recording("hand_eye", "panda", "camera", arm, views, {"board": BOARD})
    digest = recording.save(tmp_path)
    again = load_recording(tmp_path)
    assert digest == samples_sha256(tmp_path) and again.boards == {"board": BOARD}
    solved = calibrate_hand_eye(pair(again.views, again.arm), IN_HAND.rig())
    for name, value in result.transforms.items():
        np.testing.assert_array_equal(solved.transforms[name], value)
    assert solved.held_out_mm == result.held_out_mm


def test_a_calibration_comes_back_with_frames_and_residuals(result: HandEye, tmp_path: Path) -> None:
    path = tmp_path / "site" / "calibration.yaml"
    written = Calibration.of(result, "panda", "ab" * 32)
    assert save_calibration(path, written) == sha256(path)
    read = load_calibration(path)
    assert (read.robot, read.date, read.samples_sha256) == ("panda", written.date, "ab" * 32)
    assert set(read.transforms) == {"T_tcp_camera", "T_base_board"}
    item = read.transforms["T_tcp_camera"]
    assert (item.parent, item.child) == ("tcp", "camera_optical")
    np.testing.assert_allclose(item.matrix, result.transforms["T_tcp_camera"], atol=1e-12)
    assert (item.deviation_mm, item.deviation_deg) == result.deviation["T_tcp_camera"]
    assert read.residuals["held_out_mm"] == result.held_out_mm and read.weak == list(result.weak)
    np.testing.assert_array_equal(read.cameras["camera"].matrix, LENS.matrix)


def test_the_yaml_reads_as_documented(result: HandEye, tmp_path: Path) -> None:
    save_calibration(tmp_path / "c.yaml", Calibration.of(result, "panda", ""))
    fields = yaml.safe_load((tmp_path / "c.yaml").read_text())
    assert list(fields["transforms"]["T_base_board"]) == [
        "parent", "child", "xyz", "xyzw", "deviation_mm", "deviation_deg",
    ]  # fmt: skip
    assert fields["transforms"]["T_base_board"]["parent"] == "base"
    assert np.linalg.norm(fields["transforms"]["T_base_board"]["xyzw"]) == pytest.approx(1.0)


def test_other_and_damaged_files_are_refused_by_name(result: HandEye, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    save_calibration(path, Calibration.of(result, "panda", ""))
    fields = yaml.safe_load(path.read_text())
    for damage, told in (
        ({"format": "another"}, r"c\.yaml is no 'robot-rl calibration'"),
        ({"version": 2}, "version 2"),
        ({"transforms": {"T_tcp_camera": {}}}, "damaged: KeyError"),
        ({"residuals": None}, "damaged"),
    ):
        path.write_text(yaml.safe_dump(fields | damage))
        with pytest.raises(CalibrationError, match=told):
            load_calibration(path)
    path.write_text("{")
    for unreadable in (path, tmp_path / "none.yaml"):
        with pytest.raises(CalibrationError, match="cannot be read"):
            load_calibration(unreadable)


def test_a_matrix_of_zeros_in_a_file_is_refused(result: HandEye, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    save_calibration(path, Calibration.of(result, "panda", ""))
    fields = yaml.safe_load(path.read_text())
    fields["cameras"]["camera"]["matrix"] = [0.0] * 9
    path.write_text(yaml.safe_dump(fields))
    with pytest.raises(CalibrationError, match="not calibrated: K has the focal lengths 0 and 0 px"):
        load_calibration(path)
