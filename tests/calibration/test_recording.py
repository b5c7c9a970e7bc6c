"""Raw samples on disk: what is read back is what was written, and other folders are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.recording import Recording, load_recording, samples_sha256
from calibration.samples import ArmSample, BoardView
from robot_rl.errors import CalibrationError
from tests.calibration.truth import BOARD, IN_HAND, arm_poses, corner_captures, pose

CAPTURES = corner_captures(IN_HAND, arm_poses(IN_HAND, 3))


def recording() -> Recording:
    views = [capture.view for capture in CAPTURES if isinstance(capture.view, BoardView)]
    told = [(5, np.arange(7.0)), (6, np.arange(7.0) + 1.0)]
    arm = [ArmSample(c.arm.stamp_ns, np.arange(7.0), c.arm.T_base_tcp) for c in CAPTURES]
    return Recording(
        "hand_eye", "arm", "camera", arm, views, {"board": BOARD}, {"0": b"\x89PNG"}, told, {"camera_on": "tcp"}
    )


def test_it_is_read_back_as_written(tmp_path: Path) -> None:
    written = recording()
    digest = written.save(tmp_path)
    read = load_recording(tmp_path)
    assert (read.kind, read.robot, read.camera, read.facts) == ("hand_eye", "arm", "camera", {"camera_on": "tcp"})
    assert read.boards == {"board": BOARD}
    assert read.images == {"0": b"\x89PNG"}
    for one, other in zip(written.arm, read.arm, strict=True):
        assert one.stamp_ns == other.stamp_ns
        assert np.array_equal(one.T_base_tcp, other.T_base_tcp)
    for one, other in zip(written.views, read.views, strict=True):
        assert (one.camera, one.stamp_ns, one.image_size_px, one.board, one.image) == (
            other.camera, other.stamp_ns, other.image_size_px, other.board, other.image,
        )  # fmt: skip
        assert np.array_equal(one.corner_ids, other.corner_ids)
        assert np.array_equal(one.corners_px, other.corners_px)
    assert [stamp for stamp, _ in read.told] == [5, 6]
    assert digest == samples_sha256(tmp_path)


def test_the_hash_is_that_of_the_samples(tmp_path: Path) -> None:
    digest = recording().save(tmp_path / "one")
    assert recording().save(tmp_path / "two") == digest
    other = recording()
    other.arm[0].T_base_tcp[0, 3] += 1e-9
    assert other.save(tmp_path / "three") != digest


def test_samples_of_the_arm_alone_are_enough(tmp_path: Path) -> None:
    Recording("tool", "arm", "", [ArmSample(0, np.zeros(7), pose(0.1, 0.2, 0.3))]).save(tmp_path)
    read = load_recording(tmp_path)
    assert (len(read.arm), len(read.views), len(read.told)) == (1, 0, 0)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="holds no samples"):
        load_recording(tmp_path)
    recording().save(tmp_path)
    (tmp_path / "samples.yaml").write_text("format: something else\n")
    with pytest.raises(CalibrationError, match="another format"):
        load_recording(tmp_path)
