"""robot-rl serve checkpoint=...: a policy as a process that gives chunks for noise and nothing else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import at_least, dotted
from robot_rl.apps.main import instantiate


@dataclass
class Config:
    """Types of the keys in conf/serve.yaml."""

    root: str
    checkpoint: str
    name: str | None
    address: str
    keys: str
    changes: dict[str, Any]
    threads: int


def run(config: Any) -> None:
    """Serve until interrupted; says where, and which checkpoint refers to it."""
    import torch

    from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint

    at_least(config, threads=1)
    torch.set_num_threads(config.threads)
    folder = find_checkpoint(Path(config.checkpoint))
    policy = load_checkpoint(folder, changes=dotted(dict(config.changes)))
    server = instantiate(config.server)(base=policy, address=config.address, keys=config.keys)
    reference = refer_to(server, folder, _run_folder(config, folder))
    print(f"serving {folder} at {server.address}", flush=True)
    print(f"use it as checkpoint={reference}", flush=True)
    server.serve()


def refer_to(server: Any, folder: Path, run: Path) -> Path:
    """A checkpoint in ``run`` that stands for what ``server`` serves of ``folder``: its address and its hash."""
    from robot_rl.learning.checkpoint import point_to, read_manifest, read_spec, save_checkpoint

    config = {"_target_": "policies.remote.RemotePolicy", "address": server.address, "sha256": server.spec.sha256}
    label = hashlib.sha256(f"{server.address} {server.spec.sha256}".encode()).hexdigest()[:8]
    reference, made = run / "checkpoints" / f"served_{label}", read_manifest(folder)
    if not reference.exists():
        meta = {key: made[key] for key in ("env", "step", "data") if key in made}
        save_checkpoint(reference, weights={}, config=config, env_spec=read_spec(folder), meta=meta)
    point_to(reference)
    return run


def _run_folder(config: Any, folder: Path) -> Path:
    of = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    return Path(config.root) / "runs" / (config.name or f"{of.name}_served")
