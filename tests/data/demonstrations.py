"""Made-up demonstrations with all that episodes of a real arm have: uneven stamps, frames shared by rows, extras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.formats.camera_tracks import jpeg_track
from robot_rl.data.formats.interchange import Recording, RecordingSet
from robot_rl.types import ActionKind, ActionPart, ActionSpec, ArraySpec, CameraSpec, EnvSpec

SIZE = 32


def arm_spec(cameras: Sequence[str] = ()) -> EnvSpec:
    """A six-dimensional arm with a gripper at 20 Hz."""
    return EnvSpec(
        robot="made_up",
        task="lift",
        step_rate_hz=20.0,
        observation={
            "arm0/joint_position": ArraySpec((7,), unit="rad"),
            "arm0/tcp_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
            "object/cube_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base", privileged=True),
        },
        action=ActionSpec(
            (
                ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.05,) * 3, (0.05,) * 3, "m", "base"),
                ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,)),
            )
        ),
        cameras={name: CameraSpec(SIZE, SIZE, 10.0) for name in cameras},
    )


def demonstration(id: str, steps: int, seed: int, cameras: Sequence[str] = ()) -> Episode:
    """One episode of ``steps`` control steps; each camera gives a frame every second row."""
    random = np.random.default_rng(seed)
    rows = steps + 1
    t_ns = np.cumsum(random.integers(45_000_000, 55_000_000, rows)).astype(np.int64)

    def walk(size: int) -> np.ndarray:
        return np.cumsum(random.normal(scale=0.01, size=(rows, size)), axis=0).astype(np.float32)

    def acting(values: np.ndarray) -> np.ndarray:
        values[-1] = 0.0
        return values

    arrays = {
        "obs/arm0/joint_position": walk(7),
        "obs/arm0/tcp_pose": walk(7),
        "obs/object/cube_pose": walk(7),
        "action/commanded": acting(random.uniform(-0.05, 0.05, (rows, 4)).astype(np.float32)),
        "action/executed": acting(random.uniform(-0.05, 0.05, (rows, 4)).astype(np.float32)),
        "action_valid": np.arange(rows) < steps,
        "time/t_ns": t_ns,
        "time/obs_ready_ns": t_ns + 1_000_000,
        "rl/reward": (np.arange(rows) == steps - 1).astype(np.float32),
        "rl/terminated": np.arange(rows) == steps - 1,
        "rl/truncated": np.zeros(rows, dtype=bool),
        "flags/intervention": (np.arange(rows) % 3 == 0).astype(np.uint8),
        "flags/phase": (np.arange(rows) % 3 == 0).astype(np.uint8),
        "policy/version": np.arange(rows, dtype=np.int32) // 4,
        "policy/base_action": walk(4),
    }
    tracks = {}
    for name in cameras:
        frames = smooth_images(random, (rows + 1) // 2)
        tracks[name] = jpeg_track(frames, t_ns[::2] - 3_000_000, np.arange(rows) // 2)
    about = {"task": "lift", "robot": "made_up", "success": True, "end_reason": "success", "operator": "Ada"}
    return Episode(id, arrays, about, tracks)


def smooth_images(random: np.random.Generator, count: int) -> np.ndarray:
    """Coloured gradients uint8 [count, SIZE, SIZE, 3], as kind to JPEG as real scenes."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    tint = random.uniform(0.2, 1.0, (count, 1, 1, 3))
    shape = np.stack((x, y, 1.0 - x), axis=-1)[None] * tint
    return np.round(255 * shape).astype(np.uint8)


def recordings(episodes: Sequence[Episode], spec: EnvSpec, splits: Sequence[str] = ()) -> RecordingSet:
    """Episodes in memory as a set to export."""
    named = [*splits, *[""] * (len(episodes) - len(splits))]
    return RecordingSet(
        spec,
        [
            Recording(episode.id, episode.steps, lambda e=episode: e, split)
            for episode, split in zip(episodes, named, strict=True)
        ],
    )


def psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float("inf") if error == 0.0 else 10 * np.log10(255.0**2 / error)
