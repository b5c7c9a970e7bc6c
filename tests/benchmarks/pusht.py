"""Push-T from the 206 human demonstrations: train, evaluate, and what fewer denoising steps cost. Resumable.

    python -m tests.benchmarks.pusht source=<pusht_cchi_v7_replay.zarr> [root=.] [seeds=3] [steps=30000] [episodes=200]
                                     [paired=500] [parallel=2]

Imports the demonstrations, trains ``seeds`` policies by the recipe (one thread each, ``parallel`` at a time), evaluates
each on the ``episodes`` seeds from 100000 at the checkpoint that was best on the seeds from 200000, and compares 16
with 8 denoising steps on ``paired`` seeds. What is there already is not done again. The last line is JSON:
    score, score_interval_95     mean over all episodes of the best reward, bootstrap over episodes
    scores                       the mean of each training seed
    success, success_interval_95 share of episodes with coverage above 0.95, Clopper-Pearson over all
    steps_at_best                gradient steps of the checkpoints chosen
    train_minutes                wall time of each training run, evaluations for choosing included
    drop_8_steps, drop_8_steps_interval_95   mean best reward of 16 minus 8 steps, paired over seeds of all policies
    curve                        picture: score on the seeds for choosing against gradient steps
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from robot_rl.apps.main import run_command
from robot_rl.errors import RobotRlError
from robot_rl.learning.checkpoint import find_checkpoint
from robot_rl.learning.training_run import BEST, read_rows
from robot_rl.runtime.scores import EvaluationReport
from robot_rl.runtime.statistics import bootstrap_mean, clopper_pearson

DATA = "pusht_human"


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    root = Path(arguments.get("root", "."))
    seeds = range(int(arguments.get("seeds", "3")))
    if not (root / "data" / DATA / "dataset.json").exists():
        source = arguments["source"]
        run_command(
            "dataset", ["import", "format=diffusion_policy", f"source={source}", f"name={DATA}", f"root={root}"]
        )
    with ThreadPoolExecutor(int(arguments.get("parallel", "2"))) as pool:
        runs = list(pool.map(lambda seed: train(root, seed, arguments.get("steps", "30000")), seeds))
    reports = [evaluate(root, run, int(arguments.get("episodes", "200"))) for run in runs]
    drops = [paired_drop(root, run, int(arguments.get("paired", "500"))) for run in runs]
    return {**summary(reports), **training(runs), **drop(drops), "curve": str(plot_curves(root, runs))}


def train(root: Path, seed: int, steps: str) -> Path:
    """One run in a process of its own; goes on where a killed one stopped."""
    run = root / "runs" / f"pusht_seed{seed}"
    words = ["train", "algorithm=diffusion", "task=pusht", f"data={DATA}", f"root={root}", f"name={run.name}"]
    words += [f"seed={seed}", f"steps={steps}", "checkpoint_every=5000", "keep=10", "resume=true"]
    words += ["evaluate_every=10000", "evaluate_episodes=200"]
    run.mkdir(parents=True, exist_ok=True)
    with (run / "train.log").open("a") as log:
        command = [sys.executable, "-m", "robot_rl.apps.main", *words]
        done = subprocess.run(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    if done.returncode:
        raise RobotRlError(f"training of seed {seed} failed", remedy=f"See {run / 'train.log'}")
    return run


def evaluate(root: Path, run: Path, episodes: int) -> EvaluationReport:
    """The report of the best checkpoint of ``run`` on the seeds from 100000."""
    folder = f"{run.name}_evaluation"
    checkpoint = find_checkpoint(run, BEST)
    run_command(
        "evaluate", [f"checkpoint={checkpoint}", f"episodes={episodes}", "videos=1", f"name={folder}", f"root={root}"]
    )
    newest = max((root / "runs" / folder).glob("*.json"), key=lambda path: path.stat().st_mtime)
    return EvaluationReport.load(newest)


def paired_drop(root: Path, run: Path, episodes: int) -> np.ndarray:
    """Best reward of 16 minus 8 denoising steps, one number a seed."""
    folder, best = f"{run.name}_8_steps", find_checkpoint(run, BEST)
    words = [f"first={best}", f"second={best}", "+second_changes.sampler.steps=8", f"episodes={episodes}"]
    run_command("compare", [*words, f"name={folder}", f"root={root}"])
    reports = [EvaluationReport.load(path) for path in (root / "runs" / folder).glob(f"*-seed*-{episodes}-*.json")]
    by_steps = {bool(report.meta["changes"]): report.episodes for report in reports}
    rewards = {changed: {e.seed: e.best_reward for e in episodes} for changed, episodes in by_steps.items()}
    return np.array([rewards[False][seed] - rewards[True][seed] for seed in sorted(rewards[False])])


def summary(reports: list[EvaluationReport]) -> dict[str, Any]:
    """Score and success over all episodes of all training seeds."""
    episodes = [episode for report in reports for episode in report.episodes]
    rewards, successes = [e.best_reward for e in episodes], sum(e.success for e in episodes)
    return {
        "score": round(float(np.mean(rewards)), 4),
        "score_interval_95": [round(v, 4) for v in bootstrap_mean(rewards)],
        "scores": [round(report.best_reward_mean, 4) for report in reports],
        "success": round(successes / len(episodes), 4),
        "success_interval_95": [round(v, 4) for v in clopper_pearson(successes, len(episodes))],
    }


def training(runs: list[Path]) -> dict[str, Any]:
    """What was chosen, and how long it took."""
    return {
        "steps_at_best": [int(find_checkpoint(run, BEST).name.rpartition("_")[2]) for run in runs],
        "train_minutes": [round(read_rows(run / "metrics.jsonl")[-1]["wall_s"] / 60, 1) for run in runs],
    }


def drop(drops: list[np.ndarray]) -> dict[str, Any]:
    """Paired differences averaged over policies for each seed, then over seeds."""
    paired = np.mean(drops, axis=0)
    interval = [round(v, 4) for v in bootstrap_mean(paired)]
    return {"drop_8_steps": round(float(paired.mean()), 4), "drop_8_steps_interval_95": interval}


def plot_curves(root: Path, runs: list[Path]) -> Path:
    """Score on the seeds for choosing, one line a training seed."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for run in runs:
        rows = read_rows(run / "evaluations.jsonl")
        axes.plot([row["step"] for row in rows], [row["score"] for row in rows], marker=".", label=run.name)
    axes.set(xlabel="gradient step", ylabel="mean best reward", title="Push-T, 200 seeds from 200000")
    axes.legend()
    path = root / "runs" / "pusht_curves.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    print(json.dumps(main(given)))
