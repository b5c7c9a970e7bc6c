"""Errors of calibration against known truth, next to OpenCV's solvers on the same samples.

Run: python -m tests.benchmarks.calibration [seeds=20] [rendered=20]

The last line is one JSON object; errors are [median, 95th percentile] over seeds:
  hand_eye                <mounting>_<poses>: {ours, park, horaud, daniilidis}: {mm, deg} of the camera's mount, from
                          board poses with 1 mm and 0.3 deg of Gaussian noise along each axis, 15 and 30 of them
  ratio_vs_best_opencv    median of ours over the least median of OpenCV's, over the seeds of both mountings: the
                          largest over counts, mm and deg
  ratio_mm, ratio_deg     <mounting>_<poses>: the same ratios row by row
  focal_error             largest relative error of fx and fy, from rendered images of 640 x 480 px with lens
                          distortion, blur and grey noise, corners with another 0.3 px of noise, 60 images
  hand_eye_mm, hand_eye_deg  of the camera's mount from these images and that lens, both mountings
  held_out_px             of the intrinsics
  time_offset_ms, tool_mm and others, as tests/benchmarks/calibration_joints.py says
  seeds, rendered, seconds
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import Any

import numpy as np

from calibration.closed_form import differences
from calibration.hand_eye import calibrate_hand_eye
from calibration.hand_eye_start import hand_eye_start
from calibration.intrinsics import calibrate_intrinsics
from calibration.opencv_solvers import opencv_hand_eye
from calibration.refinement import refine
from calibration.rig import Mount, Rig
from robot_rl.types import Array
from sim.calibration_cell import MountedBoard
from sim.lens import Lens
from tests.benchmarks.calibration_joints import measure
from tests.calibration.rendered import BOARD, CAMERA, capture, in_hand_cell, joint_positions, pattern, to_hand_cell
from tests.calibration.truth import MOUNTINGS, Truth, arm_poses, pose_captures

_COUNTS = (15, 30)
_IMAGES = 60
_CORNER_NOISE_PX = 0.3
_LENS = Lens((605.0, 603.0), (322.0, 243.0), (-0.12, 0.06, 0.001, -0.0005, -0.01), blur_px=0.5, noise=2.0)
_PRINT = MountedBoard(
    (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), columns=12, rows=10, square_m=0.02, marker_m=0.015, dictionary="DICT_4X4_100"
)
_CELLS = {"eye_in_hand": in_hand_cell, "eye_to_hand": to_hand_cell}


def solvers(truth: Truth, count: int, seed: int) -> dict[str, tuple[float, float]]:
    """Error [mm, deg] of each solver on the same samples."""
    captures, rig = pose_captures(truth, arm_poses(truth, count, seed), seed), truth.rig()
    eye = rig.board_poses(captures)
    hand = np.array([sample.arm.T_base_tcp for sample in captures])
    hand = hand if truth.camera_on is Mount.TCP else np.linalg.inv(hand)
    solutions = {"ours": refine(captures, rig, hand_eye_start(captures, rig, eye)).transforms["camera"]}
    solutions |= opencv_hand_eye(hand, eye)
    return {name: _apart(truth.T_mount_camera, x) for name, x in solutions.items()}


def compare(seeds: int) -> dict[str, Any]:
    """All mountings and counts."""
    runs: dict[tuple[str, int], list[dict[str, tuple[float, float]]]] = {}
    for number, (mounting, truth) in enumerate(MOUNTINGS.items()):
        for count in _COUNTS:
            # other samples for each mounting: with the same ones they are the same problem
            runs[mounting, count] = [solvers(truth, count, seed + 1000 * number) for seed in range(seeds)]
            print(f"{mounting} {count}: {_ratios(runs[mounting, count])}", file=sys.stderr, flush=True)
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
    }


def _ratios(runs: Sequence[Mapping[str, tuple[float, float]]]) -> list[float]:
    """Of medians in mm and deg."""
    medians = {name: np.median([run[name] for run in runs], axis=0) for name in runs[0]}
    ours = medians.pop("ours")
    return [round(float(value), 3) for value in ours / np.min(list(medians.values()), axis=0)]


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
    print(f"{mounting} seed {seed}: focal {focal:.5f}, {mm:.3f} mm, {deg:.4f} deg", file=sys.stderr, flush=True)
    return {
        "focal_error": float(focal), "hand_eye_mm": mm, "hand_eye_deg": deg, "held_out_px": report.held_out_px,
    }  # fmt: skip


def _apart(true: Array, found: Array) -> tuple[float, float]:
    far_m, far_rad = differences(true, found)
    return 1e3 * float(far_m), float(np.degrees(far_rad))


def _summary(errors: Sequence[tuple[float, float]]) -> dict[str, list[float]]:
    return {unit: _spread(values) for unit, values in zip(("mm", "deg"), np.transpose(errors), strict=True)}


def _spread(values: Sequence[float] | Array) -> list[float]:
    return [round(float(np.percentile(values, share)), 5) for share in (50, 95)]


def main(words: Mapping[str, str]) -> dict[str, Any]:
    """All of it."""
    began = time.monotonic()
    seeds, images = int(words.get("seeds", "20")), int(words.get("rendered", "20"))
    result = compare(seeds)
    runs = [rendered(mounting, seed) for seed in range(images) for mounting in _CELLS]
    if runs:
        result |= {name: _spread([run[name] for run in runs]) for name in runs[0]}
    result |= measure(seeds, min(images, 2))
    return result | {"seeds": seeds, "rendered": images, "seconds": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
