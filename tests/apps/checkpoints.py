"""A checkpoint of an untrained policy, small enough for tests of the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.pusht import pusht_spec
from robot_rl.learning.checkpoint import save_checkpoint
from robot_rl.learning.targets import build
from robot_rl.types import EnvSpec

CRITIC = {"_target_": "policies.q_ensemble.QEnsemble", "_partial_": True, "hidden": [16]}
NETWORK = {"_target_": "policies.chunk_mlp.ChunkMlp", "_partial_": True, "width": 16, "blocks": 1, "condition_width": 8}
CONFIG: dict[str, Any] = {
    "_target_": "policies.diffusion.DiffusionPolicy",
    "network": NETWORK,
    "sampler": {"_target_": "policies.samplers.DDIM", "_partial_": True, "steps": 2},
    "schedule": {"_target_": "policies.noise_schedules.NoiseSchedule", "steps": 10},
    "observation": {"agent/position": "raw", "tee/pose": "raw"},
    "history": 2,
    "horizon": 16,
    "execute": 8,
}


def pusht_checkpoint(root: Path, name: str = "tiny", seed: int = 0, spec: EnvSpec | None = None) -> Path:
    """The run folder ``root``/runs/``name`` with one checkpoint."""
    spec = spec or pusht_spec()
    policy = build({**CONFIG, "seed": seed}, env_spec=spec)
    random = np.random.default_rng(0)
    rows = {f"obs/{key}": array.shape for key, array in spec.observation.items() if key in CONFIG["observation"]}
    rows["action/commanded"] = (spec.action.size,)
    policy.fit_normalizer({key: random.uniform(0, 512, (64, *shape)).astype(np.float32) for key, shape in rows.items()})
    folder = root / "runs" / name / "checkpoints" / "step_00000001"
    save_checkpoint(folder, weights=policy.state_dict(), config={**CONFIG, "seed": seed}, env_spec=spec)
    (folder.parent / "latest").write_text(folder.name + "\n")
    return root / "runs" / name


def steered_checkpoint(root: Path, base: Path) -> Path:
    """A checkpoint of an untrained policy around the run ``base``, as 700 control steps of a session leave it."""
    frozen = {"_target_": "policies.frozen.Frozen", "checkpoint": str(base)}
    config = {"_target_": "policies.steered.Steered", "base": frozen, "critic": CRITIC, "hidden": [16]}
    spec = pusht_spec()
    policy = build(config, env_spec=spec)
    rows = {f"obs/{key}": array.shape for key, array in spec.observation.items()}
    random, rows["action/commanded"] = np.random.default_rng(0), (spec.action.size,)
    policy.fit_normalizer({key: random.uniform(0, 512, (64, *shape)).astype(np.float32) for key, shape in rows.items()})
    folder = root / "runs" / "steered"
    meta = {"step": 700, "updates": 1750}
    return save_checkpoint(folder, weights=policy.state_dict(), config=config, env_spec=spec, meta=meta)
