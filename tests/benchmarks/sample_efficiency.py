"""How many control steps a task takes to learn (learning.md, section 7). Resumable: finished seeds are kept.

    python -m tests.benchmarks.sample_efficiency task=lift|peg_insert|reach_image [root=.] [arms=rlpd,scratch,bc]
        [seeds=3] [demos=20] [episodes=100] and, by task, [steps=20000|60000|8000] [evaluate_every=1000|2500|1000]
        [choosing=50|100|50]

Arms, all with the statistics of observations of ``demos`` scripted demonstrations and the same updates per step:
    rlpd            the demonstrations make half of every batch
    scratch         no demonstrations are drawn; one seed
    rlpd_human      rlpd with a scripted person who takes over when nothing gets on; corrections join the demonstrations
    interventions   no demonstrations are drawn: corrections take their place, as many rows as the demonstrations have
    hg_dagger       imitation of demonstrations and corrections
    bc              imitation of the demonstrations
    diffusion       the diffusion policy of conf/recipe on the demonstrations, trained offline
Sessions run in lockstep, are evaluated without the person on ``choosing`` seeds from 200000 and end early once three
evaluations, pooled, reach 0.95. The checkpoint with the best evaluation is then scored on ``episodes`` seeds from
100000. A killed session goes on from its checkpoint; finished seeds stand in
<root>/runs/sample_efficiency/<task>_demos<demos>.jsonl.
The last line is JSON:
    task, demos            which
    <arm>                  list over seeds of {seed, success, interval (Clopper-Pearson 95 %), episodes, steps_to_90,
                           robot_minutes_to_90, steps, wall_min}; steps_to_90 is the first of two evaluations in a
                           row with a pooled mean of at least 0.9, null when there is none within the budget; and
                           failed_before_90, training episodes that were no success up to there (to the end where it is
                           null), episodes_before_90, human_share, of the session's steps in which the person had the
                           arm, human_share_before_90, human_rows, the steps that the person commanded
    steps_to_90_median     of arm rlpd, null when half of the seeds did not get there
    success_pooled, success_interval   of arm rlpd over all seeds
    human                  over the seeds that both rlpd and rlpd_human have: {seeds, failed_rlpd, failed_rlpd_human,
                           cut, cut_interval, share}; cut is the share of failed_before_90 that the person saved, of
                           the sums over seeds, with its 95 % interval (bootstrap of pairs); share is the largest
                           human_share
    figure                 picture: success over control steps and robot minutes
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.apps.main import run_command
from robot_rl.data.replay_index import HUMAN
from robot_rl.data.store import EpisodeStore
from robot_rl.data.tables import EpisodeTable
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.learning.training_run import BEST, read_rows
from robot_rl.runtime.evaluation import FIRST_SEED
from robot_rl.runtime.scores import EvaluationReport
from robot_rl.runtime.statistics import clopper_pearson

BUDGET = {"lift": 20_000, "peg_insert": 60_000, "reach_image": 8_000}
EVALUATE_EVERY = {"lift": 1000, "peg_insert": 2500, "reach_image": 1000}
CHOOSING = {"lift": 50, "peg_insert": 100, "reach_image": 50}
ARMS = {  # what is special in the session of each; diffusion has none
    "rlpd": [],
    "scratch": ["algorithm.demonstrations=false", "algorithm.imitation=0"],
    "rlpd_human": ["teleop=scripted_human"],
    "interventions": ["teleop=scripted_human", "draw_demos=false"],
    "hg_dagger": ["algorithm=hg_dagger", "teleop=scripted_human"],
    "bc": ["algorithm=hg_dagger"],
    "diffusion": [],
}
DEFAULT = "rlpd,scratch,bc"


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    task = arguments.get("task", "")
    if task not in BUDGET:
        raise ConfigError(f"task={task}", remedy=valid_choices(task, BUDGET))
    arms = arguments.get("arms", DEFAULT).split(",")
    for arm in arms:
        if arm not in ARMS:
            raise ConfigError(f"arm '{arm}'", remedy=valid_choices(arm, ARMS))
    root, demos = Path(arguments.get("root", ".")), int(arguments.get("demos", "20"))
    data = f"{task}_demos{demos}"
    run_command("record", [f"task={task}", f"root={root}", f"name={data}", f"episodes={demos}"])
    folder = root / "runs" / "sample_efficiency"
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / f"{task}_demos{demos}.jsonl"
    for arm in arms:
        for seed in range(int(arguments.get("seeds", "3")) if arm != "scratch" else 1):
            if not any((row["arm"], row["seed"]) == (arm, seed) for row in read_rows(results)):
                row = diffusion(root, task, data, seed) if arm == "diffusion" else None
                row = row or session(root, task, data, arm, seed, arguments)
                row |= final_score(root, Path(row["run"]), int(arguments.get("episodes", "100")))
                with results.open("a") as file:
                    file.write(json.dumps({"arm": arm, "seed": seed, **row}) + "\n")
    rows = read_rows(results)
    return {"task": task, "demos": demos, **summary(rows), "figure": str(plot(results.with_suffix(".png"), task, rows))}


def session(root: Path, task: str, data: str, arm: str, seed: int, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Learn, or go on learning; what it took."""
    name = f"sample_efficiency_{data}_{arm}_seed{seed}"
    steps = int(arguments.get("steps", BUDGET[task]))
    words = [f"task={task}", f"root={root}", f"demos={data}", f"name={name}", f"seed={seed}", f"steps={steps}"]
    words += [f"evaluate_every={arguments.get('evaluate_every', EVALUATE_EVERY[task])}", "stop_success=0.95"]
    words += [
        f"first_seed={1000 + 10_000 * seed}",
        f"evaluate_episodes={arguments.get('choosing', CHOOSING[task])}",
        "resume=true",
    ]
    if arm == "interventions":
        rows = sum(info.length for info in EpisodeStore.open(root / "data" / data).infos())
        words.append(f"teleop.most_steps={rows}")
    began = time.monotonic()
    run_command("session", [*words, *ARMS[arm]])
    run = root / "runs" / name
    evaluations = read_rows(run / "evaluations.jsonl")
    reached = steps_to(evaluations, 0.9)
    per_step = evaluations[-1]["robot_minutes"] / evaluations[-1]["step"]
    return {
        "run": str(run),
        "steps": evaluations[-1]["step"],
        "steps_to_90": reached,
        "robot_minutes_to_90": None if reached is None else round(reached * per_step, 1),
        "wall_min": round((time.monotonic() - began) / 60, 1),
        **training_episodes(EpisodeStore.open(run / "store"), reached),
    }


def training_episodes(store: EpisodeStore, reached: int | None) -> dict[str, Any]:
    """How the episodes of a session went up to control step ``reached``, and what the person had to do with it."""
    table = EpisodeTable(["flags/intervention", "action_valid"])
    table.update(store)
    first, human = table.first, table["flags/intervention"] == HUMAN
    ends = first[1:] - np.arange(1, len(table.ids) + 1)  # control steps made when each episode ended
    before = ends <= (ends[-1] if reached is None else reached)
    rows = int(first[1:][before][-1]) if before.any() else 0
    failed = np.array([not summary.success for summary in table.summaries])
    return {
        "failed_before_90": int((failed & before).sum()),
        "episodes_before_90": int(before.sum()),
        "human_share": round(float(human.sum() / ends[-1]), 4),
        "human_share_before_90": round(float(human[:rows].sum() / max(ends[before].max(initial=0), 1)), 4),
        "human_rows": int((human & table["action_valid"]).sum()),
    }


def diffusion(root: Path, task: str, data: str, seed: int) -> dict[str, Any]:
    """The diffusion policy of the task's recipe on the same demonstrations."""
    name = f"sample_efficiency_{data}_diffusion_seed{seed}"
    policy = [] if task == "lift" else ["policy=diffusion_3x512"]
    words = [f"task={task}", f"root={root}", f"data={data}", f"name={name}", f"seed={seed}", "resume=true"]
    run_command("train", [*words, "algorithm=diffusion", *policy])
    return {"run": str(root / "runs" / name)}


def final_score(root: Path, run: Path, episodes: int) -> dict[str, Any]:
    """Success of the chosen checkpoint on seeds that nothing was chosen by."""
    best = run / "checkpoints" / BEST
    checkpoint = best if best.exists() else run
    folder = run.with_name(f"{run.name}_final")
    words = [f"checkpoint={checkpoint}", f"episodes={episodes}", "videos=0", f"root={root}"]
    run_command("evaluate", [*words, f"first_seed={FIRST_SEED}", f"name={folder.name}"])
    report = EvaluationReport.load(max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime))
    interval = [round(value, 4) for value in report.success_interval]
    return {"success": report.success_rate, "interval": interval, "episodes": len(report.episodes)}


def steps_to(evaluations: list[dict[str, Any]], success: float) -> int | None:
    """Step of the first of two evaluations in a row whose pooled success is at least ``success``."""
    for first, second in pairwise(evaluations):
        episodes = first["episodes"] + second["episodes"]
        if first["success"] * first["episodes"] + second["success"] * second["episodes"] >= success * episodes:
            return int(first["step"])
    return None


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By arm, and what the bounds of the benchmark are held against."""
    found: dict[str, Any] = {arm: [] for arm in ARMS if any(row["arm"] == arm for row in rows)}
    for row in rows:
        found[row["arm"]].append({key: value for key, value in row.items() if key not in ("arm", "run")})
    ours = found.get("rlpd", [])
    if ours:
        reached = [row["steps_to_90"] or float("inf") for row in ours]
        median = statistics.median(reached)
        trials = sum(row["episodes"] for row in ours)
        successes = sum(round(row["success"] * row["episodes"]) for row in ours)
        found["steps_to_90_median"] = None if median == float("inf") else median
        found["success_pooled"] = round(successes / trials, 4)
        found["success_interval"] = [round(value, 4) for value in clopper_pearson(successes, trials)]
    failed = [{row["seed"]: row for row in found.get(arm, [])} for arm in ("rlpd", "rlpd_human")]
    seeds = sorted(failed[0].keys() & failed[1].keys())
    if seeds:
        found["human"] = saved([[rows[seed]["failed_before_90"] for seed in seeds] for rows in failed]) | {
            "seeds": seeds,
            "share": max(failed[1][seed]["human_share"] for seed in seeds),
        }
    return found


def saved(failed: list[list[int]]) -> dict[str, Any]:
    """Failed episodes by seed without and with the person: the share of them that the person saved."""
    without, with_person = (np.array(counts) for counts in failed)
    drawn = np.random.default_rng(0).integers(0, len(without), (10_000, len(without)))
    sums = np.maximum(without[drawn].sum(axis=1), 1)
    cuts = 1.0 - with_person[drawn].sum(axis=1) / sums
    return {
        "failed_rlpd": failed[0],
        "failed_rlpd_human": failed[1],
        "cut": round(float(1 - with_person.sum() / max(without.sum(), 1)), 4),
        "cut_interval": [round(float(np.quantile(cuts, level)), 4) for level in (0.025, 0.975)],
    }


def plot(path: Path, task: str, rows: list[dict[str, Any]]) -> Path:
    """Success on the seeds for choosing over control steps, robot minutes above; diffusion is a line across."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    colours = {arm: f"C{number}" for number, arm in enumerate(ARMS)}
    scale, labelled = 1.0, set()
    for row in rows:
        label = row["arm"] if row["arm"] not in labelled else None
        labelled.add(row["arm"])
        if row["arm"] == "diffusion":
            axes.axhline(row["success"], color=colours["diffusion"], linestyle=":", label=label)
            continue
        points = read_rows(Path(row["run"]) / "evaluations.jsonl")
        scale = points[-1]["robot_minutes"] / points[-1]["step"]
        steps, success = ([point[key] for point in points] for key in ("step", "success"))
        axes.plot([0, *steps], [0.0, *success], color=colours[row["arm"]], marker=".", label=label)
    above = axes.secondary_xaxis("top", functions=(lambda x: scale * np.asarray(x), lambda x: np.asarray(x) / scale))
    above.set_xlabel("robot minutes")
    axes.set(xlabel="control steps", ylabel="success", ylim=(-0.02, 1.02), title=task)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
