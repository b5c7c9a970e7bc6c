"""Episodes of a lamp that is lit when the task is done: what a success classifier can be trained on in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionRecord,
    ActionSpec,
    ArraySpec,
    CameraSpec,
    EnvSpec,
    EpisodeEnd,
    Frame,
    Observation,
    StepRow,
)

SIDE = 16
SPEC = EnvSpec(
    robot="lamp",
    step_rate_hz=20.0,
    observation={"arm0/tcp_pose": ArraySpec((7,), unit="m")},
    action=ActionSpec((ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.01,) * 3, (0.01,) * 3, unit="m"),)),
    cameras={"front": CameraSpec(SIDE, SIDE, 20.0)},
    task="lamp",
)
CONFIG: dict[str, Any] = {
    "_target_": "policies.success_classifier.SuccessClassifier",
    "encoder": {
        "_target_": "policies.conv_encoder.ConvEncoder",
        "_partial_": True,
        "height": SIDE,
        "width": SIDE,
        "channels": [8, 8],
        "size": 16,
        "shift": 1,
    },
    "hidden": 16,
}


def lamp_frame(lit: bool, step: int) -> Frame:
    """A noisy dark picture, with a bright square where the lamp is lit."""
    picture = np.random.default_rng(step).integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    if lit:
        picture[5:11, 5:11] = 230
    return Frame(picture.tobytes(), (step + 1) * 50_000_000, step, SIDE, SIDE, codec="raw")


def lamp_observation(lit: bool, step: int, x_m: float = 0.5) -> Observation:
    """The TCP at ``x_m`` beside the lamp."""
    pose = np.array([x_m, 0, 0.2, 1, 0, 0, 0], dtype=np.float32)
    return Observation(step, (step + 1) * 50_000_000, {"arm0/tcp_pose": pose}, {"front": lamp_frame(lit, step)})


def record_lamp(
    store: EpisodeStore,
    lit: Sequence[int],
    *,
    rows: int = 12,
    success_step: int | None = None,
    success: bool | None = None,
    x_m: float = 0.5,
) -> str:
    """An episode of ``rows`` observations, lit in the rows ``lit``; a success at ``success_step``, else ``success`` is
    the verdict. Returns its id."""
    nothing = np.zeros(3, np.float32)
    with store.begin(SPEC) as writer:
        for t in range(rows):
            action = ActionRecord(nothing, nothing, nothing, valid=t < rows - 1)
            won = t == success_step
            seen = lamp_observation(t in lit, t, x_m)
            writer.append(StepRow(seen, action, float(won), terminated=won, truncated=False, success=won))
        verdict = True if success_step is not None else success
        return writer.end(EpisodeEnd("success" if verdict else "time_limit", verdict, rows - 1)).id
