"""Small policies and data that policy and learning tests share."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from policies.chunk_mlp import ChunkMlp
from policies.diffusion import DiffusionPolicy
from policies.noise_schedules import NoiseSchedule
from policies.samplers import DDIM
from robot_rl.interfaces import Policy
from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    ArraySpec,
    CameraSpec,
    EnvSpec,
)

SPEC = EnvSpec(
    robot="bead",
    step_rate_hz=10.0,
    observation={"bead/position": ArraySpec((2,), unit="m"), "wire/angle": ArraySpec((1,), unit="rad")},
    action=ActionSpec((ActionPart("bead/target", ActionKind.POINT, (-2.0, -2.0), (2.0, 2.0), unit="m"),)),
    cameras={"front": CameraSpec(height=40, width=44, rate_hz=10.0)},
    arm_parts=("bead",),
    task="slide",
)


def make_policy(spec: EnvSpec = SPEC, **options: Any) -> DiffusionPolicy:
    """A policy small enough to train in a test; options as of DiffusionPolicy."""
    settings: dict[str, Any] = {
        "network": functools.partial(ChunkMlp, width=48, blocks=2, condition_width=16, time_size=16),
        "sampler": functools.partial(DDIM, steps=8),
        "schedule": NoiseSchedule(steps=50),
        "history": 2,
        "horizon": 8,
        "execute": 4,
    }
    return DiffusionPolicy(spec, **{**settings, **options})


def make_acting(**options: Any) -> DiffusionPolicy:
    """A policy that answers to its noise and its observation; a fresh one is the zero function of its chunk."""
    policy = make_policy(**options)
    with torch.no_grad():
        for value in policy.module.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)), alpha=0.05)
    policy.fit_normalizer(make_rows())
    return policy


def decisions(policy: Policy, count: int = 3, batch: int = 3) -> list[ActionChunk]:
    """The first decisions of the episodes 10, 11, ... on windows that change from one to the next."""
    policy.reset(np.arange(batch), np.arange(batch) + 10)
    return [policy.act(make_window(batch, step), ActContext.start(batch)) for step in range(count)]


# The same policy as stored configuration.
CONFIG: dict[str, Any] = {
    "_target_": "policies.diffusion.DiffusionPolicy",
    "network": {
        "_target_": "policies.chunk_mlp.ChunkMlp",
        "_partial_": True,
        "width": 48,
        "blocks": 2,
        "condition_width": 16,
        "time_size": 16,
    },
    "sampler": {"_target_": "policies.samplers.DDIM", "_partial_": True, "steps": 8},
    "schedule": {"_target_": "policies.noise_schedules.NoiseSchedule", "steps": 50},
    "history": 2,
    "horizon": 8,
    "execute": 4,
}


def make_rows(count: int = 64, seed: int = 0) -> dict[str, Array]:
    """Rows by array path, as a store holds them."""
    random = np.random.default_rng(seed)
    return {
        "obs/bead/position": random.uniform(-1, 1, (count, 2)).astype(np.float32),
        "obs/wire/angle": random.uniform(-1, 1, (count, 1)).astype(np.float32),
        "action/commanded": random.uniform(-1, 1, (count, 2)).astype(np.float32),
    }


def make_batch(count: int = 16, seed: int = 0, horizon: int = 8) -> dict[str, Array]:
    """Training windows by array path."""
    random = np.random.default_rng(seed)
    return {
        "obs/bead/position": random.uniform(-1, 1, (count, 2, 2)).astype(np.float32),
        "obs/wire/angle": random.uniform(-1, 1, (count, 2, 1)).astype(np.float32),
        "action/commanded": random.uniform(-1, 1, (count, horizon, 2)).astype(np.float32),
        "mask": np.ones((count, horizon), dtype=bool),
    }


def make_window(count: int, seed: int = 0) -> dict[str, Array]:
    """Observation windows as the loop hands them to ``act``."""
    batch = make_batch(count, seed)
    return {key.removeprefix("obs/"): value for key, value in batch.items() if key.startswith("obs/")}
