"""The raw samples of a calibration on disk, so that it can be solved again: what the arm told, what images showed, and
the images themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from calibration.boards import CharucoBoard
from calibration.samples import ArmSample, BoardView
from robot_rl.errors import CalibrationError
from robot_rl.types import Array

FORMAT = "robot-rl calibration samples"
VERSION = 1
_FACTS, _NUMBERS, _IMAGES = "samples.yaml", "samples.npz", "images"


@dataclass(frozen=True, eq=False)
class Recording:
    """What one run of ``robot-rl calibrate <kind>`` collected. ``images`` are encoded, by the names that views carry;
    ``told`` are targets, stamp at which they were due [ns] and pose [7]; ``facts`` are what solving needs to know."""

    kind: str
    robot: str
    camera: str
    arm: Sequence[ArmSample]
    views: Sequence[BoardView] = ()
    boards: Mapping[str, CharucoBoard] = field(default_factory=dict)
    images: Mapping[str, bytes] = field(default_factory=dict)
    told: Sequence[tuple[int, Array]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> str:
        """Write all of it into ``folder``; returns the SHA-256 of what solving reads."""
        (folder / _IMAGES).mkdir(parents=True, exist_ok=True)
        for name, data in self.images.items():
            (folder / _IMAGES / name).write_bytes(data)
        np.savez_compressed(folder / _NUMBERS, allow_pickle=False, **self._numbers())
        head = {
            "format": FORMAT, "version": VERSION, "kind": self.kind, "robot": self.robot, "camera": self.camera,
            "boards": {name: asdict(board) for name, board in self.boards.items()},
            "views": [[v.camera, v.stamp_ns, list(v.image_size_px), v.board, v.image] for v in self.views],
            "facts": dict(self.facts),
        }  # fmt: skip
        (folder / _FACTS).write_text(yaml.safe_dump(head, sort_keys=False))
        return samples_sha256(folder)

    def _numbers(self) -> dict[str, Array]:
        counts = [len(view.corner_ids) for view in self.views]
        return {
            "arm_stamp_ns": np.array([sample.stamp_ns for sample in self.arm], dtype=np.int64),
            "joint_position_rad": np.array([sample.joint_position for sample in self.arm]),
            "T_base_tcp": np.array([sample.T_base_tcp for sample in self.arm]).reshape(-1, 4, 4),
            "corner_count": np.array(counts, dtype=np.int64),
            "corner_ids": np.concatenate([np.empty(0, np.int64), *(view.corner_ids for view in self.views)]),
            "corners_px": np.concatenate([np.empty((0, 2)), *(view.corners_px for view in self.views)]),
            "told_stamp_ns": np.array([stamp for stamp, _ in self.told], dtype=np.int64),
            "told_pose": np.array([pose for _, pose in self.told]).reshape(-1, 7),
        }


def samples_sha256(folder: Path) -> str:
    """Of the samples in ``folder``, images left out: they are not read again."""
    digest = hashlib.sha256((folder / _FACTS).read_bytes())
    with np.load(folder / _NUMBERS, allow_pickle=False) as numbers:  # a zip's bytes hold the time of writing
        for name in sorted(numbers.files):
            digest.update(name.encode() + np.ascontiguousarray(numbers[name]).tobytes())
    return digest.hexdigest()


def load_recording(folder: Path) -> Recording:
    """Inverse of ``Recording.save``. Raises CalibrationError for a folder that holds no samples, or newer ones."""
    if not (folder / _FACTS).is_file() or not (folder / _NUMBERS).is_file():
        raise CalibrationError(
            f"{folder} holds no samples", limit=f"{_FACTS} and {_NUMBERS}", remedy="Name the folder of a calibration"
        )
    head = yaml.safe_load((folder / _FACTS).read_text())
    if not isinstance(head, dict) or head.get("format") != FORMAT or head.get("version", 0) > VERSION:
        raise CalibrationError(f"{folder / _FACTS} is of another format", limit=f"{FORMAT}, version {VERSION}")
    with np.load(folder / _NUMBERS, allow_pickle=False) as file:
        numbers = {name: file[name] for name in file.files}
    ends = np.cumsum(numbers["corner_count"])
    ids, corners = np.split(numbers["corner_ids"], ends), np.split(numbers["corners_px"], ends)
    views = [
        BoardView(camera, stamp, tuple(size), ids[i], corners[i], board, image)
        for i, (camera, stamp, size, board, image) in enumerate(head["views"])
    ]
    arm = [
        ArmSample(int(stamp), joints, T_base_tcp)
        for stamp, joints, T_base_tcp in zip(
            numbers["arm_stamp_ns"], numbers["joint_position_rad"], numbers["T_base_tcp"], strict=True
        )
    ]
    images = {path.name: path.read_bytes() for path in sorted((folder / _IMAGES).glob("*")) if path.is_file()}
    told = [(int(s), pose) for s, pose in zip(numbers["told_stamp_ns"], numbers["told_pose"], strict=True)]
    boards = {name: CharucoBoard.from_dict(fields) for name, fields in head["boards"].items()}
    return Recording(head["kind"], head["robot"], head["camera"], arm, views, boards, images, told, head["facts"])
