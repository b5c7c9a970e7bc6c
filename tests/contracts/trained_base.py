"""A base for what acts around one: the checkpoint of a diffusion policy of a few parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from robot_rl.apps.main import compose
from robot_rl.learning.checkpoint import save_checkpoint
from robot_rl.learning.targets import build
from robot_rl.types import EnvSpec

SMALL = ["policy=diffusion_3x512", "policy.network.width=16", "policy.sampler.steps=2", "policy.execute=2"]


def save_base(folder: Path, spec: EnvSpec) -> Path:
    """Its chunks answer to noise and observation; written once."""
    if folder.exists():
        return folder
    config: Any = OmegaConf.to_container(compose("train", SMALL).policy, resolve=True)
    config = {key: value for key, value in config.items() if key != "_partial_"}
    policy = build(config, env_spec=spec)
    with torch.no_grad():
        for value in policy.module.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)), alpha=0.05)
    rng = np.random.default_rng(0)
    shapes = {f"obs/{name}": array.shape for name, array in spec.observation.items()}
    rows = {name: rng.normal(size=(64, *shape)).astype(np.float32) for name, shape in shapes.items()}
    low, high = spec.action.low, spec.action.high
    rows["action/commanded"] = rng.uniform(low, high, (64, spec.action.size)).astype(np.float32)
    policy.fit_normalizer(rows)
    return save_checkpoint(folder, weights=policy.state_dict(), config=config, env_spec=spec)
