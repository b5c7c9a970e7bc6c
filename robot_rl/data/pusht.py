"""What the Push-T task is, for the importer of its demonstrations and for its simulator alike.

A disc pushes a tee over a square board of 512 px until it covers a drawn one (Chi et al., Diffusion Policy, 2023).
Frame ``board``: origin in the upper left corner, x right, y down, angles from x to y; lengths in px. The pose of the
tee is the middle of its bar's outer edge and the angle of the bar.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, ArraySpec, CameraSpec, EnvSpec

BOARD_SIZE_PX = 512.0
STEP_RATE_HZ = 10.0
GOAL_POSE = (256.0, 256.0, math.pi / 4)
SUCCESS_COVERAGE = 0.95
CAMERA = "board"

# The two rectangles of the tee in its own frame: bar and stem, px, corners in order.
_BAR = ((-60.0, 0.0), (60.0, 0.0), (60.0, 30.0), (-60.0, 30.0))
_STEM = ((-15.0, 30.0), (15.0, 30.0), (15.0, 120.0), (-15.0, 120.0))
_TEE_AREA_PX2 = 120.0 * 30.0 + 30.0 * 90.0

# The nine points that the published demonstrations track, in the tee's frame; identified from the 206 human episodes,
# where they reproduce the recorded ones to float32 rounding (median).
TEE_KEYPOINTS_PX = np.array(
    [
        [9.269787, 90.04097],
        [-60.98347, -1.1867294],
        [60.912758, -1.393364],
        [-0.27050352, 25.543589],
        [-14.064926, 122.81586],
        [39.00274, 32.857403],
        [-39.966415, 32.729656],
        [-16.824345, 62.86318],
        [23.541462, -1.7002878],
    ]
)

Polygon = Sequence[tuple[float, float]]


def pusht_spec(image_size_px: int | None = None) -> EnvSpec:
    """The spec of task ``pusht``: state observations, and the camera ``board`` when an image size is given."""
    cameras = {}
    if image_size_px is not None:
        cameras[CAMERA] = CameraSpec(height=image_size_px, width=image_size_px, rate_hz=STEP_RATE_HZ, frame="board")
    return EnvSpec(
        robot="pusht",
        task="pusht",
        step_rate_hz=STEP_RATE_HZ,
        observation={
            "agent/position": ArraySpec((2,), unit="px", frame="board", names=("x", "y")),
            "tee/pose": ArraySpec((3,), unit="px px rad", frame="board", names=("x", "y", "angle"), privileged=True),
            "tee/keypoints": ArraySpec((18,), unit="px", frame="board", privileged=True),
        },
        action=ActionSpec(
            (
                ActionPart(
                    name="agent/target",
                    kind=ActionKind.POINT,
                    low=(0.0, 0.0),
                    high=(BOARD_SIZE_PX, BOARD_SIZE_PX),
                    unit="px",
                    frame="board",
                ),
            )
        ),
        cameras=cameras,
        arm_parts=("agent",),
    )


def tee_keypoints(pose: Array) -> Array:
    """Keypoints [..., 18] (x0 y0 x1 y1 ..., px, float32) of the tee at ``pose`` [..., 3]."""
    pose = np.asarray(pose, dtype=np.float64)
    cosine, sine = np.cos(pose[..., 2:3]), np.sin(pose[..., 2:3])
    x = pose[..., 0:1] + cosine * TEE_KEYPOINTS_PX[:, 0] - sine * TEE_KEYPOINTS_PX[:, 1]
    y = pose[..., 1:2] + sine * TEE_KEYPOINTS_PX[:, 0] + cosine * TEE_KEYPOINTS_PX[:, 1]
    return np.stack((x, y), axis=-1).reshape(*pose.shape[:-1], 18).astype(np.float32)


def tee_coverage(poses: Array) -> Array:
    """Share [N] of the drawn tee that is covered by the tee at ``poses`` [N, 3]; 1 is all of it."""
    goal = [_placed(part, GOAL_POSE) for part in (_BAR, _STEM)]
    covered = [
        sum(_area(_clip(_placed(part, pose), target)) for part in (_BAR, _STEM) for target in goal)
        for pose in np.asarray(poses, dtype=np.float64).tolist()
    ]
    return np.array(covered, dtype=np.float64) / _TEE_AREA_PX2


def coverage_reward(coverage: Array) -> Array:
    """The task's reward, float32 in [0, 1]: coverage over the coverage that counts as success."""
    return np.clip(np.asarray(coverage) / SUCCESS_COVERAGE, 0.0, 1.0).astype(np.float32)


def _placed(part: Polygon, pose: Sequence[float]) -> Polygon:
    cosine, sine = math.cos(pose[2]), math.sin(pose[2])
    return [(pose[0] + cosine * x - sine * y, pose[1] + sine * x + cosine * y) for x, y in part]


def _clip(subject: Polygon, window: Polygon) -> Polygon:
    """The part of a polygon inside a convex one (Sutherland and Hodgman, 1974)."""
    for (ax, ay), (bx, by) in zip(window, (*window[1:], window[0]), strict=True):
        kept: list[tuple[float, float]] = []
        sides = [(bx - ax) * (y - ay) - (by - ay) * (x - ax) for x, y in subject]
        for i, (x, y) in enumerate(subject):
            side, before, (px, py) = sides[i], sides[i - 1], subject[i - 1]
            if (side >= 0) != (before >= 0):
                share = before / (before - side)
                kept.append((px + share * (x - px), py + share * (y - py)))
            if side >= 0:
                kept.append((x, y))
        subject = kept
    return subject


def _area(polygon: Polygon) -> float:
    return 0.5 * abs(
        sum(
            polygon[i - 1][0] * y - x * polygon[i - 1][1]  # shoelace
            for i, (x, y) in enumerate(polygon)
        )
    )
