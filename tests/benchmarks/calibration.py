"""Errors of calibration against known truth, next to OpenCV's solvers on the same samples.

Run: python -m tests.benchmarks.calibration [seeds=20] [rendered=20] [many=200] [parts=solvers,images,motion] [root=.]

What takes long is done seed by seed: finished ones stand in <root>/runs/calibration and are not measured again, so that
a run goes on where it was ended. Remove that folder to measure other code.

The last line is one JSON object; errors are [median, 95th percentile] over seeds:
  hand_eye                <mounting>_<poses>: {ours, park, horaud, daniilidis}: {mm, deg} of the camera's mount, from
                          board poses with 1 mm and 0.3 deg of Gaussian noise along each axis, 15 and 30 of them
  ratio_vs_best_opencv    median of ours over the least median of OpenCV's, over the seeds of both mountings: the
                          largest over counts, mm and deg
  ratio_mm, ratio_deg     <mounting>_<poses>: the same ratios row by row
  ratio_interval          <mounting>_<poses>: {mm, deg}: 95 % interval of these by resampling the seeds
  many                    the ratios of so many other seeds: what those of few are scattered around
  focal_error             largest relative error of fx and fy, from rendered images of 640 x 480 px with lens
                          distortion, blur and grey noise, corners with another 0.3 px of noise, 60 images
  hand_eye_mm, hand_eye_deg  of the camera's mount from these images and that lens, both mountings
  held_out_px             of the intrinsics
  time_offset_ms, tool_mm and others, as tests/benchmarks/calibration_joints.py says
  seeds, rendered         how many seeds: of synthetic samples, of images (of each mounting)
  seconds                 of processor time, those of earlier runs included
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from calibration.closed_form import differences
from calibration.hand_eye import calibrate_hand_eye
from calibration.hand_eye_start import hand_eye_start
from calibration.intrinsics import calibrate_intrinsics
from calibration.opencv_solvers import opencv_hand_eye
from calibration.refinement import refine
from calibration.rig import Mount, Rig
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.learning.training_run import read_rows
from robot_rl.types import Array
from sim.calibration_cell import MountedBoard
from sim.lens import Lens
from tests.benchmarks.calibration_joints import motion, time_rendered_ms
from tests.calibration.rendered import BOARD, CAMERA, capture, in_hand_cell, joint_positions, pattern, to_hand_cell
from tests.calibration.truth import MOUNTINGS, Truth, arm_poses, pose_captures

_PARTS = ("solvers", "images", "motion")
_COUNTS = (15, 30)
_RESAMPLINGS, _OTHERS = 2000, 10_000
_IMAGES = 60
_CORNER_NOISE_PX = 0.3
_LENS = Lens((605.0, 603.0), (322.0, 243.0), (-0.12, 0.06, 0.001, -0.0005, -0.01), blur_px=0.5, noise=2.0)
_PRINT = MountedBoard(
    (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), columns=12, rows=10, square_m=0.02, marker_m=0.015, dictionary="DICT_4X4_100"
)
_CELLS = {"eye_in_hand": in_hand_cell, "eye_to_hand": to_hand_cell}
_OURS = "ours"

Errors = Mapping[str, tuple[float, float]]  # of each solver, mm and deg


# --- solvers on the same samples --------------------------------------------------------------------------------------


def solvers(truth: Truth, count: int, seed: int) -> dict[str, tuple[float, float]]:
    """Error [mm, deg] of each solver on the same samples."""
    captures, rig = pose_captures(truth, arm_poses(truth, count, seed), seed), truth.rig()
    eye = rig.board_poses(captures)
    hand = np.array([sample.arm.T_base_tcp for sample in captures])
    hand = hand if truth.camera_on is Mount.TCP else np.linalg.inv(hand)
    solutions = {_OURS: refine(captures, rig, hand_eye_start(captures, rig, eye)).transforms["camera"]}
    solutions |= opencv_hand_eye(hand, eye)
    return {name: _apart(truth.T_mount_camera, x) for name, x in solutions.items()}


def compare(seeds: int, first: int = 0) -> dict[str, Any]:
    """All mountings and counts, by ``seeds`` seeds from ``first`` on; those of the mountings lie 1000 apart."""
    runs: dict[tuple[str, int], list[dict[str, tuple[float, float]]]] = {}
    for number, (mounting, truth) in enumerate(MOUNTINGS.items()):
        for count in _COUNTS:
            # other samples for each mounting: with the same ones they are the same problem
            runs[mounting, count] = [solvers(truth, count, first + seed + 1000 * number) for seed in range(seeds)]
            _tell(f"{mounting} {count}: {_ratios(runs[mounting, count])}")
    rows = {f"{mounting}_{count}": some for (mounting, count), some in runs.items()}
    ratios = {name: _ratios(some) for name, some in rows.items()}
    pooled = [_ratios([run for (_, n), some in runs.items() if n == count for run in some]) for count in _COUNTS]
    return {
        "hand_eye": {
            name: {who: _summary([run[who] for run in some]) for who in some[0]} for name, some in rows.items()
        },
        "ratio_vs_best_opencv": max(max(pair) for pair in pooled),
        "ratio_mm": {name: pair[0] for name, pair in ratios.items()},
        "ratio_deg": {name: pair[1] for name, pair in ratios.items()},
        "ratio_interval": {name: _interval(some) for name, some in rows.items()},
        "seeds": seeds,
    }


def _many(seeds: int) -> dict[str, Any]:
    """The ratios alone, of other seeds."""
    found = compare(seeds, _OTHERS) if seeds else {}
    return {name: found[name] for name in ("ratio_vs_best_opencv", "ratio_mm", "ratio_deg", "seeds") if found}


def _ratios(runs: Sequence[Errors]) -> list[float]:
    """Of medians in mm and deg."""
    return [round(float(value), 3) for value in _ratio(*_stacked(runs))]


def _stacked(runs: Sequence[Errors]) -> tuple[Array, Array]:
    """Ours [n, 2], and those of the other solvers [m, n, 2]."""
    names = [name for name in runs[0] if name != _OURS]
    return np.array([run[_OURS] for run in runs]), np.array([[run[name] for run in runs] for name in names])


def _ratio(ours: Array, others: Array) -> Array:
    return np.median(ours, axis=0) / np.median(others, axis=1).min(axis=0)


def _interval(runs: Sequence[Errors]) -> dict[str, list[float]]:
    """What the ratios might as well have been with other seeds (percentile bootstrap)."""
    ours, others = _stacked(runs)
    rng = np.random.default_rng(0)
    drawn = [rng.integers(0, len(runs), len(runs)) for _ in range(_RESAMPLINGS)]
    ratios = np.array([_ratio(ours[some], others[:, some]) for some in drawn])
    bounds = np.percentile(ratios, [2.5, 97.5], axis=0).round(3)
    return {"mm": bounds[:, 0].tolist(), "deg": bounds[:, 1].tolist()}


# --- from rendered images ---------------------------------------------------------------------------------------------


def rendered(mounting: str, seed: int) -> dict[str, float]:
    """Lens and mount from the images of one cell."""
    rng = np.random.default_rng(seed)
    with closing(_CELLS[mounting](_LENS, _PRINT, seed)) as cell:
        joints = islice(joint_positions(cell, seed, distance_m=(0.22, 0.36), tilt_rad=0.75), _IMAGES)
        captures = [capture(cell, q, i, rng, corner_noise_px=_CORNER_NOISE_PX) for i, q in enumerate(joints)]
        true, printed = cell.cameras[CAMERA], pattern(cell)
    seen = [sample for sample in captures if len(sample.view.corner_ids) >= 10]
    report = calibrate_intrinsics([sample.view for sample in seen], {BOARD: printed})
    camera_on, board_on = (Mount.TCP, Mount.BASE) if true.on_hand else (Mount.BASE, Mount.TCP)
    rig = Rig({CAMERA: camera_on}, {BOARD: board_on}, {CAMERA: report.intrinsics}, {BOARD: printed})
    result = calibrate_hand_eye(seen, rig, forward_kinematics=cell.chain.pose)
    mm, deg = _apart(true.transform, result.transforms[rig.transform_name(CAMERA)])
    focal = np.abs(np.diag(report.intrinsics.matrix)[:2] / _LENS.focal_px - 1.0).max()
    return {
        "focal_error": float(focal), "hand_eye_mm": mm, "hand_eye_deg": deg, "held_out_px": report.held_out_px,
    }  # fmt: skip


def from_images(folder: Path, seeds: int) -> dict[str, Any]:
    """Lens, mounting and time offset from images, seed by seed."""
    keys = [{"mounting": mounting, "seed": seed} for seed in range(seeds) for mounting in _CELLS]
    rows = finished(folder / "images.jsonl", keys, rendered)
    late = finished(
        folder / "time_offset.jsonl",
        [{"seed": seed} for seed in range(seeds)],
        lambda seed: {"time_offset_ms": time_rendered_ms(seed)},
    )
    result: dict[str, Any] = {name: _spread([row[name] for row in rows]) for name in ("focal_error", "held_out_px")}
    result |= {name: _spread([row[name] for row in rows]) for name in ("hand_eye_mm", "hand_eye_deg")}
    result["time_offset_ms"] = _spread([row["time_offset_ms"] for row in late])
    return result | {"rendered": seeds, "seconds": _seconds([*rows, *late])}


def from_motion(folder: Path, seeds: int) -> dict[str, Any]:
    """What needs no images, seed by seed."""
    rows = finished(folder / "motion.jsonl", [{"seed": seed} for seed in range(seeds)], motion)
    names = ("time_offset_projected_ms", "joint_offset_mrad", "action_latency_ms", "tool_mm")
    result: dict[str, Any] = {name: _spread([row[name] for row in rows]) for name in names}
    result["joint_offsets_unseen"] = int(max(row["joint_offsets_unseen"] for row in rows))
    return result | {"seeds": seeds, "seconds": _seconds(rows)}


def finished(
    path: Path, keys: Sequence[Mapping[str, Any]], measured: Callable[..., Mapping[str, float]]
) -> list[dict[str, Any]]:
    """One row for each of ``keys``: those in the file, then what is still ``measured``, which is appended to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = read_rows(path)
    for key in keys:
        if any(key.items() <= row.items() for row in rows):
            continue
        began = time.process_time()
        row = {**key, **measured(**key), "seconds": round(time.process_time() - began, 2)}
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        rows.append(row)
        _tell(f"{path.stem}: {row}")
    return [next(row for row in rows if key.items() <= row.items()) for key in keys]


def _apart(true: Array, found: Array) -> tuple[float, float]:
    far_m, far_rad = differences(true, found)
    return 1e3 * float(far_m), float(np.degrees(far_rad))


def _summary(errors: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    return {unit: _spread(values) for unit, values in zip(("mm", "deg"), np.transpose(errors), strict=True)}


def _spread(values: Sequence[float] | Array) -> list[float]:
    return [round(float(np.percentile(values, share)), 5) for share in (50, 95)]


def _seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    return sum(row["seconds"] for row in rows)


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main(words: Mapping[str, str]) -> dict[str, Any]:
    """The parts that are asked for."""
    parts = words.get("parts", ",".join(_PARTS)).split(",")
    for part in parts:
        if part not in _PARTS:
            raise ConfigError(f"part '{part}'", remedy=valid_choices(part, _PARTS))
    seeds, images = int(words.get("seeds", "20")), int(words.get("rendered", "20"))
    folder = Path(words.get("root", os.environ.get("ROBOT_RL_ROOT", "."))) / "runs" / "calibration"
    began = time.process_time()
    found = [compare(seeds) | {"many": _many(int(words.get("many", "200")))}] if "solvers" in parts else []
    seconds = time.process_time() - began
    found += [from_motion(folder, seeds)] if "motion" in parts else []
    found += [from_images(folder, images)] if "images" in parts and images else []
    result = {name: value for part in found for name, value in part.items() if name != "seconds"}
    return result | {"seconds": round(seconds + sum(part.get("seconds", 0.0) for part in found), 1)}


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
