"""robot-rl compare first=... second=...: two policies on the same seeds, with an exact paired test; with base=... all
ways to act with one checkpoint (compare_methods)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps import compare_methods
from robot_rl.apps.environment import checkpoint_env, checkpoint_spec
from robot_rl.apps.evaluate import evaluate_checkpoint
from robot_rl.errors import ConfigError


@dataclass
class Config:
    """Types of the keys in conf/compare.yaml."""

    root: str
    base: str | None
    critic: str | None
    candidates: int
    timesteps: list[int]
    steered: str | None
    residual: str | None
    edited: str | None
    first: str | None
    second: str | None
    episodes: int
    first_seed: int
    batch: int | None
    classifier: str | None
    accept: list[str]
    first_changes: dict[str, Any]
    second_changes: dict[str, Any]
    name: str
    threads: int


def run(config: Any) -> None:
    """Evaluate both where no report is given, print the tables and write JSON."""
    from rich.console import Console

    from robot_rl.runtime.evaluation import compare
    from robot_rl.runtime.score_table import comparison_table, score_table

    if config.base:
        compare_methods.run(config)
        return
    for key in ("first", "second"):
        if not config[key]:
            raise ConfigError(f"'{key}' must be given", remedy="robot-rl compare first=... second=..., or base=...")
    folder = Path(config.root) / "runs" / config.name
    for source in (config.first, config.second):
        _check(source)
    first = _report(config, config.first, dict(config.first_changes), folder, config.get("first_policy"))
    second = _report(config, config.second, dict(config.second_changes), folder, config.get("second_policy"))
    result = compare(first, second)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "comparison.json"
    path.write_text(json.dumps(result.to_json(), indent=1) + "\n")
    console = Console()
    console.print(score_table(first, second), comparison_table(result))
    console.print(f"results {path}", soft_wrap=True)


def _check(source: str) -> None:
    """Raise for what cannot be read before an hour goes into the other one."""
    from robot_rl.runtime.scores import EvaluationReport

    EvaluationReport.load(Path(source)) if source.endswith(".json") else checkpoint_spec(source)


def _report(config: Any, source: str, changes: Mapping[str, Any], folder: Path, wrapper: Any) -> Any:
    """The report in a JSON file, or of a checkpoint evaluated now."""
    from robot_rl.runtime.scores import EvaluationReport

    if source.endswith(".json"):
        return EvaluationReport.load(Path(source))
    checkpoint, node = checkpoint_env(config, "compare", source)
    report = evaluate_checkpoint(config, node, checkpoint, changes, folder, wrapper)
    report.save(folder / f"{report.meta['label']}.json")
    return report
