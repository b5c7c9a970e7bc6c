"""What finished sessions of tests.benchmarks.steering amount to: figures by method, and the picture."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.data.tables import EpisodeTable
from robot_rl.learning.training_run import read_rows
from robot_rl.runtime.scores import EvaluationReport
from robot_rl.runtime.statistics import bootstrap_mean, clopper_pearson
from tests.benchmarks.base import CONTROLS

WINDOW = 100  # training episodes
POINT_DROP, WINDOW_DROP = 0.10, 0.15
Rows = Sequence[Mapping[str, Any]]


def summary(rows: Rows, base: Mapping[str, EvaluationReport]) -> dict[str, Any]:
    """By method, against the base and its best control."""
    best = max(CONTROLS, key=lambda control: base[control].success_rate)
    methods = {
        name: [row for row in rows if row["method"] == name] for name in dict.fromkeys(r["method"] for r in rows)
    }
    found = {name: of_method(mine, base["base"].success_rate, base[best]) for name, mine in methods.items()}
    rlpd = found.get("rlpd", {}).get("steps_to_90")
    for figures in found.values():
        reached = figures["steps_to_90"]
        figures["ratio_to_rlpd"] = round(reached / rlpd, 3) if reached and rlpd else None
    return {"best_control": best, **found}


def of_method(rows: Rows, base: float, control: EvaluationReport) -> dict[str, Any]:
    """Training seeds of one method together."""
    won = [success for row in rows for success in row["successes"].values()]
    gains = paired(rows, control)
    reached = statistics.median(row["steps_to_90"] or float("inf") for row in rows)
    pooled, behaviour = pooled_points(rows, "deployed"), worst_window(rows)
    return {
        "base": round(base, 4),
        "best_control": round(control.success_rate, 4),
        "final": round(sum(won) / len(won), 4),
        "interval": [round(value, 4) for value in clopper_pearson(sum(won), len(won))],
        "gain_over_control": round(float(gains.mean()), 4),
        "gain_interval": [round(value, 4) for value in bootstrap_mean(gains)],
        "at_steps": [row["at_steps"] for row in rows],
        "steps_to_90": None if reached == float("inf") else reached,
        "pooled_worst": round(min(pooled), 4),
        "behaviour_worst": round(behaviour, 4),
        "dips": min(pooled) < base - POINT_DROP or behaviour < base - WINDOW_DROP,
        "failed_training_episodes": sum(row["failed"] for row in rows),
        "failed_by_learning": sum(failed_by_learning(row) for row in rows),
        "gate_open": gate_open(rows),
        "forced_open": [round(value, 4) for value in pooled_points(rows, "forced_open")],
        "seeds": sorted(row["seed"] for row in rows),
        "p50_ms": round(statistics.median(row["p50_ms"] for row in rows), 2),
        "p99_ms": round(max(row["p99_ms"] for row in rows), 2),
        "calls_per_plan": rows[0]["calls_per_plan"],
        "core_minutes": round(sum(row["core_minutes"] for row in rows), 1),
    }


def paired(rows: Rows, control: EvaluationReport) -> np.ndarray:
    """Success minus the control's by reset seed, the mean over training seeds: what is resampled is reset seeds."""
    won = {str(score.seed): score.success for score in control.episodes}
    shared = [seed for seed in rows[0]["successes"] if seed in won and all(seed in row["successes"] for row in rows)]
    return np.array([np.mean([row["successes"][seed] for row in rows]) - won[seed] for seed in shared])


def pooled_points(rows: Rows, name: str) -> list[float]:
    """Success at each point, over training seeds; one that had ended early stays as it was at its end."""
    most = max(len(row["points"]) for row in rows)
    if any(name not in row["points"][0] for row in rows):
        return []
    return [
        float(np.mean([row["points"][min(at, len(row["points"]) - 1)][name] for row in rows])) for at in range(most)
    ]


def worst_window(rows: Rows) -> float:
    """Lowest success of WINDOW training episodes in a row, those of all training seeds in order of their steps."""
    episodes = []
    for row in rows:
        step = 0
        for info in EpisodeStore.open(Path(row["run"]) / "store", recover=False).infos():
            step += info.length
            episodes.append((step, bool(info.success)))
    won = np.cumsum([0, *(success for _, success in sorted(episodes))])
    size = min(WINDOW, len(episodes))
    return float((won[size:] - won[:-size]).min() / size)


def failed_by_learning(row: Mapping[str, Any]) -> int:
    """Failed training episodes of one seed that were not given to the base, up to steps_to_90."""
    if row["method"].startswith("rlpd"):
        return int(row["failed"])
    table = EpisodeTable(["policy/arm"])
    table.update(EpisodeStore.open(Path(row["run"]) / "store", recover=False))
    steps, failed = 0, 0
    for first, last, told in zip(table.first, table.first[1:] - 1, table.summaries, strict=False):
        steps += last - first
        if steps <= (row["steps_to_90"] or np.inf) and told is not None and not told.success:
            failed += bool(table["policy/arm"][first:last].any())
    return failed


def gate_open(rows: Rows) -> float | None:
    """Mean of what the last tenth of each session's log says."""
    shares = []
    for row in rows:
        logged = [line["gate_open"] for line in read_rows(Path(row["run"]) / "metrics.jsonl") if "gate_open" in line]
        shares += logged[-max(len(logged) // 10, 1) :]
    return round(float(np.mean(shares)), 4) if shares else None


def plot(path: Path, task: str, rows: Rows, base: float) -> Path:
    """Success at the points over control steps, the base as point 0 and as a line; thin lines are training seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.axhline(base, color="grey", linestyle=":", label="base")
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        mine = [row for row in rows if row["method"] == method]
        for row in mine:
            at = [point["step"] for point in row["points"]]
            axes.plot(at, [point["deployed"] for point in row["points"]], color=f"C{number}", linewidth=0.6, alpha=0.5)
        at = max((row["points"] for row in mine), key=len)
        start = 0.0 if method.startswith("rlpd") else base
        steps, success = [0, *(point["until"] for point in at)], [start, *pooled_points(mine, "deployed")]
        axes.plot(steps, success, color=f"C{number}", marker=".", label=f"{method} ({len(mine)} seeds)")
    axes.set(xlabel="control steps", ylabel="success", ylim=(-0.02, 1.02), title=task)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
