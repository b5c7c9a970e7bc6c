"""Calibrations on disk: they come back as they were, can be solved again from their samples, and damage is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from calibration.hand_eye import HandEye, calibrate_hand_eye
from calibration.samples import Capture
from calibration.storage import (
    Calibration,
    load_calibration,
    load_samples,
    save_calibration,
    save_samples,
    sha256,
)
from robot_rl.errors import CalibrationError
from tests.calibration.truth import IN_HAND, LENS, arm_poses, corner_captures, pose_captures


@pytest.fixture(scope="module")
def captures() -> list[Capture]:
    poses = arm_poses(IN_HAND, 10)
    return corner_captures(IN_HAND, poses[:7]) + pose_captures(IN_HAND, poses[7:])


@pytest.fixture(scope="module")
def result(captures: list[Capture]) -> HandEye:
    return calibrate_hand_eye(captures, IN_HAND.rig())


def test_samples_come_back_and_give_the_same_solution(captures: list[Capture], result: HandEye, tmp_path: Path) -> None:
    digest = save_samples(tmp_path / "samples.json", captures, IN_HAND.rig(), "panda")
    assert digest == sha256(tmp_path / "samples.json") and list(tmp_path.iterdir()) == [tmp_path / "samples.json"]
    again, rig, robot = load_samples(tmp_path / "samples.json")
    assert robot == "panda" and rig.cameras == IN_HAND.rig().cameras and rig.patterns == IN_HAND.rig().patterns
    solved = calibrate_hand_eye(again, rig)
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


def test_other_and_damaged_files_are_refused_by_name(captures: list[Capture], tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    save_samples(path, captures, IN_HAND.rig(), "panda")
    with pytest.raises(CalibrationError, match=r"samples\.json is no 'robot-rl calibration'"):
        load_calibration(path)
    fields = json.loads(path.read_text())
    for damage, told in (
        ({"version": 2}, "version 2"),
        ({"captures": [{}]}, "damaged: KeyError"),
        ({"cameras": {"camera": "table"}}, "damaged"),
    ):
        path.write_text(json.dumps(fields | damage))
        with pytest.raises(CalibrationError, match=told):
            load_samples(path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_samples(path)
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_samples(tmp_path / "none.json")


def test_a_matrix_of_zeros_in_a_file_is_refused(result: HandEye, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    save_calibration(path, Calibration.of(result, "panda", ""))
    fields = yaml.safe_load(path.read_text())
    fields["cameras"]["camera"]["matrix"] = [0.0] * 9
    path.write_text(yaml.safe_dump(fields))
    with pytest.raises(CalibrationError, match="not calibrated: K has the focal lengths 0 and 0 px"):
        load_calibration(path)


def test_the_hash_of_samples_follows_what_they_say(captures: list[Capture], tmp_path: Path) -> None:
    rig = IN_HAND.rig()
    first = save_samples(tmp_path / "a.json", captures, rig, "panda")
    assert save_samples(tmp_path / "b.json", captures, rig, "panda") == first
    moved = [replace(captures[0], arm=replace(captures[0].arm, joint_position=np.full(7, 1e-9))), *captures[1:]]
    assert save_samples(tmp_path / "c.json", moved, rig, "panda") != first
