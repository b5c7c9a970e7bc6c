"""robot-rl compare base=... task=...: one checkpoint, every way to act with it, on the same seeds.

The base alone, its controls without learning, warm-started, re-ranked by a critic, and what was trained around it, in
one table and one figure, each with what it gains and what a plan of it costs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.apps.environment import checkpoint_env, load_policy
from robot_rl.apps.evaluate import evaluate_checkpoint
from robot_rl.apps.main import compose
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext

BASE, CONTROLS = "base", ("zero_noise", "half_noise", "medoid", "random_of_k")
TRAINED = ("steered", "residual", "edited")  # keys that name checkpoints
PLANS, WARM_UP = 200, 20


@dataclass(frozen=True)
class Method:
    """A checkpoint and what acts around it."""

    name: str
    checkpoint: str
    wrapper: Any = None  # configuration of policy/


def methods_of(config: Any) -> list[Method]:
    """What is to be compared, the base first. Raises CheckpointError for a run that is not there."""
    from robot_rl.learning.checkpoint import find_checkpoint

    base = str(find_checkpoint(Path(config.base)))
    around = {name: [] for name in CONTROLS}
    if config.timesteps:
        around["warm_started"] = [f"policy.timesteps=[{','.join(map(str, config.timesteps))}]"]
    if config.critic:
        critic = find_checkpoint(Path(config.critic))
        around["reranked"] = [f"policy.critic={critic}", f"policy.candidates={config.candidates}"]
    methods = [Method(BASE, base)]
    for name, words in around.items():
        methods.append(Method(name, base, compose("evaluate", [f"policy={name}", *words]).policy))
    for name in TRAINED:
        if config.get(name):
            methods.append(Method(name, str(find_checkpoint(Path(config[name])))))
    return methods


def run(config: Any) -> None:
    """Evaluate all of them, print one table, write comparison.json and comparison.png."""
    from rich.console import Console

    if config.episodes < 1:
        raise ConfigError(f"episodes={config.episodes}", limit="at least 1")
    folder, reports, costs = Path(config.root) / "runs" / config.name, {}, {}
    for method in methods_of(config):
        checkpoint, node = checkpoint_env(config, "compare", method.checkpoint)
        reports[method.name] = evaluate_checkpoint(config, node, checkpoint, {}, folder, method.wrapper)
        reports[method.name].save(folder / f"{method.name}.json")
        costs[method.name] = {**steps_used(checkpoint), **plan_cost(checkpoint, method.wrapper)}
    rows = [row(name, report, reports, costs[name]) for name, report in reports.items()]
    (folder / "comparison.json").write_text(json.dumps({"base": config.base, "methods": rows}, indent=1) + "\n")
    console = Console()
    console.print(_table(rows, config.episodes))
    console.print(
        f"results {folder / 'comparison.json'}\nfigure  {_plot(folder / 'comparison.png', rows)}", soft_wrap=True
    )


def row(name: str, report: Any, reports: Mapping[str, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    """Success with its interval, gains over base and best control on the same seeds, and the cost."""
    from robot_rl.runtime.evaluation import compare

    best = max(CONTROLS[:-1], key=lambda control: reports[control].success_rate)
    gain, over = compare(report, reports[BASE]), compare(report, reports[best])
    return {
        "method": name,
        "success": round(report.success_rate, 4),
        "interval": [round(value, 4) for value in report.success_interval],
        "gain": round(gain.success_difference, 4),
        "gain_p": round(gain.p_success, 4),
        "best_control": best,
        "gain_over_control": round(over.success_difference, 4),
        "gain_over_control_p": round(over.p_success, 4),
        **cost,
    }


def steps_used(checkpoint: Path) -> dict[str, int | None]:
    """Control steps that a checkpoint was learnt from, where it was learnt by acting."""
    from robot_rl.learning.checkpoint import read_manifest

    manifest = read_manifest(checkpoint)
    return {"steps_used": int(manifest["step"]) if "updates" in manifest else None}


def plan_cost(checkpoint: Path, wrapper: Any = None) -> dict[str, Any]:
    """Milliseconds of a plan, one row on one thread, once it continues another (p50, p99), and its network calls.

    What acts around a base samples it once for each of its plans, whatever the number of its samples, unless it says
    otherwise by ``calls_per_plan``; of a policy that has no denoiser, or that is served, nothing is known.
    """
    from robot_rl.learning.checkpoint import read_spec

    made = [load_policy(str(checkpoint), read_spec(checkpoint), ["all"], {}, around) for around in (wrapper, None)]
    policy: Any = made[0]
    spec, times = policy.spec, []
    window = {key: np.zeros((1, spec.history, *value.shape), value.dtype) for key, value in spec.observation.items()}
    policy.reset(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    for plan in range(PLANS + WARM_UP):
        done = np.array([spec.execute if plan else 0])
        step = np.array([plan * spec.execute])
        context = ActContext(step, done, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
        began = time.perf_counter()
        policy.act(window, context)
        times.append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times[WARM_UP:], [50, 99])
    return {
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "calls_per_plan": _calls(*made, getattr(getattr(made[1], "base", None), "policy", None)),
    }


def _calls(*policies: Any) -> int | None:
    """Of the first that tells: by itself, or by the timesteps that it denoises along."""
    for policy in policies:
        timesteps = getattr(getattr(policy, "sampler", None), "timesteps", None)
        if hasattr(policy, "calls_per_plan"):
            return int(policy.calls_per_plan)
        if timesteps is not None:
            return len(timesteps)
    return None


def _table(rows: Sequence[Mapping[str, Any]], episodes: int) -> Any:
    from rich.table import Table

    table = Table(title=f"{episodes} episodes each, on the same seeds", caption="p: exact McNemar")
    table.add_column("method", no_wrap=True)
    for heading in ("success (95 %)", "gain (p)", "over best control (p)", "steps used", "p50, p99 [ms]", "calls"):
        table.add_column(heading)
    for row in rows:
        low, high = row["interval"]
        is_base = row["method"] == BASE
        table.add_row(
            row["method"],
            f"{row['success']:.3f} ({low:.3f}, {high:.3f})",
            "" if is_base else f"{row['gain']:+.3f} ({row['gain_p']:.3f})",
            "" if is_base else f"{row['gain_over_control']:+.3f} ({row['gain_over_control_p']:.3f})",
            "" if row["steps_used"] is None else str(row["steps_used"]),
            f"{row['p50_ms']:.1f}, {row['p99_ms']:.1f}",
            "" if row["calls_per_plan"] is None else str(row["calls_per_plan"]),
        )
    return table


def _plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Success with intervals on the left, the time of a plan on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row["method"].replace("_", " ") for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 0.4 * len(rows) + 1.2), sharey=True, layout="constrained")
    for place, row in enumerate(rows):
        low, high = row["interval"]
        error = [[row["success"] - low], [high - row["success"]]]
        left.errorbar([row["success"]], [place], xerr=error, fmt="o", capsize=3, color=f"C{place % 10}")
        right.plot([row["p50_ms"], row["p99_ms"]], [place, place], marker="|", color=f"C{place % 10}")
    left.axvline(rows[0]["success"], linestyle=":", color="grey")
    left.set_yticks(range(len(rows)), names)
    left.invert_yaxis()
    left.set(xlabel="success (95 %)", xlim=(0, 1))
    right.set(xlabel="a plan, p50 to p99 [ms]", xscale="log")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
