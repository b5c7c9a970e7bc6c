"""What a base is worth before it is steered: told, and kept in the run, before a session's first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robot_rl.interfaces import Env

FILE = "start.json"  # in the run folder


def tell_start(config: Any, policy: Any, env: Env, folder: Path) -> None:
    """Success of what ``policy`` starts from, on the seeds for choosing; nothing where it starts from nothing, on a
    real arm, or where it was told before.

    A latent that is too narrow shows here: the base is then lost before anything is learnt.
    """
    from rich.console import Console
    from rich.table import Table

    from robot_rl.runtime.evaluation import evaluate

    path = folder / FILE
    if not hasattr(policy, "starts") or not config.evaluate_every or path.exists() or not env.spec.simulated:
        return
    table, found = Table("noise", "success", "95 % interval", title="before anything is learnt"), {}
    seeds = range(config.evaluate_seed, config.evaluate_seed + config.evaluate_episodes)
    for name, start in policy.starts().items():
        report = evaluate(env, start, seeds)
        low, high = report.success_interval
        found[name] = {"success": report.success_rate, "episodes": len(report.episodes)}
        table.add_row(name, f"{report.success_rate:.2f}", f"{low:.2f} to {high:.2f}")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    Console().print(table)
