"""robot-rl warm_start checkpoint=...: the fewest network calls per plan with which a warm start keeps the score.

How low a noise level suffices differs from checkpoint to checkpoint (a list copied from a paper cost 0.1 here), so it
is found in closed loop, on the seeds for choosing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import at_least, checkpoint_env, dotted
from robot_rl.apps.evaluate import evaluate_checkpoint, results_folder

_BEND = 1.5  # timesteps of a list lie closer towards clean data: 5 3 1 0


@dataclass
class Config:
    """Types of the keys in conf/warm_start.yaml."""

    root: str
    checkpoint: str
    episodes: int
    first_seed: int
    batch: int | None
    accept: list[str]
    changes: dict[str, Any]
    full_steps: int | None
    allowed_drop: float
    fewest_calls: int
    most_calls: int
    first_timesteps: list[int]
    name: str | None
    threads: int


def run(config: Any) -> None:
    """Try lists of timesteps, fewest calls first; write JSON, print a table and the command that uses the result."""
    from rich.console import Console

    from robot_rl.learning.checkpoint import read_config

    at_least(config, fewest_calls=1, most_calls=config.fewest_calls)
    checkpoint, node = checkpoint_env(config, "warm_start", config.checkpoint)
    folder = results_folder(config.root, config.name, checkpoint)
    levels = int(read_config(checkpoint)["schedule"]["steps"])
    changes = dict(config.changes)
    steps = {"sampler.steps": config.full_steps or levels}
    full = evaluate_checkpoint(config, node, checkpoint, {**dotted(changes), **steps}, folder).best_reward_mean

    def score(timesteps: Sequence[int]) -> float:
        wrapper = config.policy.copy()
        wrapper.timesteps = list(timesteps)
        return evaluate_checkpoint(config, node, checkpoint, changes, folder, wrapper).best_reward_mean

    first = [t for t in config.first_timesteps if t < levels]
    found, scores = shortest(score, full - config.allowed_drop, config.fewest_calls, config.most_calls, first)
    path = folder / "warm_start.json"
    told = {"timesteps": found, "score_full": full, "scores": [[list(key), value] for key, value in scores.items()]}
    path.write_text(json.dumps(told, indent=1) + "\n")
    console = Console()
    console.print(_table(full, scores, found))
    console.print(f"results {path}", soft_wrap=True)
    console.print(_advice(Path(config.checkpoint), found), soft_wrap=True, markup=False)


def shortest(
    score: Callable[[Sequence[int]], float], least: float, fewest_calls: int, most_calls: int, first: Sequence[int]
) -> tuple[list[int] | None, dict[tuple[int, ...], float]]:
    """(the best list of the first length that reaches ``least``, or None; the score of every list that was tried)."""
    scores: dict[tuple[int, ...], float] = {}
    for calls in range(fewest_calls, most_calls + 1):
        lists = [tuple(falling(calls, t)) for t in first if t >= calls - 1]
        for timesteps in lists:
            scores[timesteps] = score(timesteps)
        best = max(lists, key=lambda timesteps: scores[timesteps], default=None)
        if best is not None and scores[best] >= least:
            return list(best), scores
    return None, scores


def falling(calls: int, first: int) -> list[int]:
    """``calls`` timesteps from ``first`` >= ``calls`` - 1 down to 0, closer together towards 0."""
    if calls == 1:
        return [first]
    bent = [round(first * (at / (calls - 1)) ** _BEND) for at in range(calls)]
    for at in range(1, calls):
        bent[at] = max(bent[at], bent[at - 1] + 1)  # all different
    return bent[::-1]


def _table(full: float, scores: dict[tuple[int, ...], float], found: list[int] | None) -> Any:
    from rich.table import Table

    table = Table("timesteps", "calls", "best reward", "against full")
    table.add_row("full", "", f"{full:.3f}", "")
    for timesteps, value in scores.items():
        style = "bold" if list(timesteps) == found else None
        table.add_row(str(list(timesteps)), str(len(timesteps)), f"{value:.3f}", f"{value - full:+.3f}", style=style)
    return table


def _advice(checkpoint: Path, found: list[int] | None) -> str:
    if found is None:
        return "no list keeps the score: allow more calls (most_calls=...), or noisier first_timesteps=[...]"
    words = f"policy=warm_started policy.timesteps={found}".replace(" ", "").replace("policy.", " policy.")
    return f"use: robot-rl evaluate checkpoint={checkpoint} {words}"
