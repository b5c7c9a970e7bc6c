"""Rows of a small synthetic robot; every value follows from (episode, row), so that what is read back can be told."""

from __future__ import annotations

import numpy as np

from robot_rl.types import (
    ActionKind,
    ActionPart,
    ActionRecord,
    ActionSpec,
    ArraySpec,
    CameraSpec,
    EnvSpec,
    Frame,
    Observation,
    Phase,
    StepRow,
)

PERIOD_NS = 20_000_000


def make_spec(cameras: dict[str, CameraSpec] | None = None, proprio: int = 4, action: int = 3) -> EnvSpec:
    """One observation vector, one action part and the given cameras (default: one 8x8 camera with encoded bytes)."""
    part = ActionPart("arm0/joints", ActionKind.RAW, (-1e9,) * action, (1e9,) * action)
    return EnvSpec(
        robot="synthetic",
        step_rate_hz=50.0,
        observation={"arm0/joint_position": ArraySpec((proprio,), unit="rad")},
        action=ActionSpec((part,)),
        cameras={"wrist": CameraSpec(8, 8, 50.0, codec="raw")} if cameras is None else cameras,
        task="synthetic",
    )


def make_row(spec: EnvSpec, episode: int, t: int, *, final: bool = False, frame_every: int = 1) -> StepRow:
    """Row ``t`` of episode ``episode``; its cameras bring a new frame every ``frame_every`` rows."""
    (name, state), size = next(iter(spec.observation.items())), spec.action.size
    value = np.arange(size, dtype=np.float32) + 10 * t + 1000 * episode
    zero = np.zeros(size, np.float32)
    action = ActionRecord(zero, zero, zero, Phase.POLICY, valid=False)
    if not final:
        action = ActionRecord(value, value + 1, value + 2, Phase.POLICY)
    stamp = (t + 1) * PERIOD_NS
    observation = Observation(
        step=t,
        stamp_ns=stamp,
        state={name: np.full(state.shape, t + episode / 8, np.float32)},
        frames={camera: _frame(s, episode, t // frame_every) for camera, s in spec.cameras.items()},
    )
    return StepRow(
        observation,
        action,
        reward=0.0 if final else float(t % 5),
        terminated=False,
        truncated=False,
        policy_version=t // 10,
        obs_ready_ns=stamp + 1,
        action_sent_ns=stamp + 2,
    )


def _frame(spec: CameraSpec, episode: int, sequence: int) -> Frame:
    data = bytes([(episode + sequence) % 256]) * (spec.height * spec.width * spec.channels)
    stamp = (sequence + 1) * PERIOD_NS - 5
    return Frame(data, stamp, sequence, spec.height, spec.width, spec.channels, codec="raw")
