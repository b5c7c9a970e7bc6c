"""A weak base for fine-tuning, and how far it is lifted without learning (learning.md, section 7). Resumable.

    python -m tests.benchmarks.base task=peg_insert|lift [root=.] [seed=0] [episodes=1000] [paired=200]

Records few demonstrations from a narrow part of the starts (conf/recipe/<task>_weak.yaml), trains
policy=diffusion_3x512 on them, evaluates it on ``episodes`` seeds from 100000 of all starts, and its controls on the
first ``paired`` of these. The gripper is outside the policy: in peg_insert it holds the peg, in lift a reflex closes it
(task lift_arm_only). What is there already is not done again. The checkpoint is in <root>/runs/<task>_base. The last
line is JSON:
    task, checkpoint       which
    base, base_interval    success on ``episodes`` seeds, Clopper-Pearson 95 %
    base_paired            success on the seeds of the controls
    zero_noise, half_noise, medoid, random_of_k   success of the controls; K = 100
    best_control, best_control_interval           the highest of w = 0, half noise and medoid
    gain, gain_p           best control minus base on the same seeds, exact McNemar
    accepted               base within 0.3 to 0.8, best control at most 0.85
    demos, train_minutes   demonstrations recorded; wall time of the gradient steps
    figure                 picture: success with intervals
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

from robot_rl.apps.main import run_command
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.learning.checkpoint import LATEST, find_checkpoint, read_manifest
from robot_rl.learning.training_run import read_rows
from robot_rl.runtime.evaluation import FIRST_SEED, compare
from robot_rl.runtime.scores import EvaluationReport

TASKS = {"peg_insert": "peg_insert", "lift": "lift_arm_only"}  # benchmark -> option of task/
CONTROLS = ("zero_noise", "half_noise", "medoid")
HIGHEST_CONTROL, BASE_RANGE = 0.85, (0.3, 0.8)


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    name = arguments.get("task", "")
    if name not in TASKS:
        raise ConfigError(f"task={name}", remedy=valid_choices(name, TASKS))
    root, task = Path(arguments.get("root", ".")), TASKS[name]
    run = train(root, name, task, arguments.get("seed", "0"))
    base = evaluate(root, run, "base", int(arguments.get("episodes", "1000")))
    paired = int(arguments.get("paired", "200"))
    controls = {control: evaluate(root, run, control, paired) for control in (*CONTROLS, "random_of_k")}
    best = max(CONTROLS, key=lambda control: controls[control].success_rate)
    result = {"task": name, **training(run), **summary(base, controls, best), "figure": str(plot(run, base, controls))}
    print_table(base, controls)
    (run / "base.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def train(root: Path, name: str, task: str, seed: str) -> Path:
    """Demonstrations and training; both go on where they were stopped."""
    run = root / "runs" / f"{name}_base"
    where = [f"task={task}", f"root={root}"]
    run_command("record", [*where, f"recipe={name}_weak", f"name={run.name}"])
    words = ["algorithm=diffusion", "policy=diffusion_3x512", f"data={run.name}", f"name={run.name}", f"seed={seed}"]
    run_command("train", [*where, *words, "resume=true"])
    return run


def evaluate(root: Path, run: Path, control: str, episodes: int) -> EvaluationReport:
    """The report of the run's checkpoint on the seeds from 100000, alone or inside a control."""
    folder = run / "evaluation" / control
    words = [f"checkpoint={find_checkpoint(run, LATEST)}", f"episodes={episodes}", "videos=0", f"root={root}"]
    words += [f"first_seed={FIRST_SEED}", f"name={folder.relative_to(root / 'runs')}"]
    run_command("evaluate", words if control == "base" else [*words, f"policy={control}"])
    return EvaluationReport.load(max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime))


def training(run: Path) -> dict[str, Any]:
    """Which checkpoint, from how many demonstrations, in what time."""
    checkpoint = find_checkpoint(run, LATEST)
    minutes = read_rows(run / "metrics.jsonl")[-1]["wall_s"] / 60
    demos = read_manifest(checkpoint)["data"]["episodes"]
    return {"checkpoint": str(checkpoint), "demos": demos, "train_minutes": round(minutes, 1)}


def summary(base: EvaluationReport, controls: Mapping[str, EvaluationReport], best: str) -> dict[str, Any]:
    """Success rates; the best control against the base on the seeds that both have."""
    gain = compare(controls[best], base)
    within = BASE_RANGE[0] <= base.success_rate <= BASE_RANGE[1]
    return {
        "base": round(base.success_rate, 4),
        "base_interval": [round(v, 4) for v in base.success_interval],
        "base_paired": round((gain.both + gain.only_second) / gain.pairs, 4),
        **{control: round(report.success_rate, 4) for control, report in controls.items()},
        "best_control": round(controls[best].success_rate, 4),
        "best_control_interval": [round(v, 4) for v in controls[best].success_interval],
        "gain": round(gain.success_difference, 4),
        "gain_p": round(gain.p_success, 4),
        "accepted": within and controls[best].success_rate <= HIGHEST_CONTROL,
    }


def print_table(base: EvaluationReport, controls: Mapping[str, EvaluationReport]) -> None:
    """Markdown, as for a README."""
    print("\n| policy | episodes | success (95 %) | against the base, same seeds |\n|---|---|---|---|")
    for name, report in {"base": base, **controls}.items():
        low, high = report.success_interval
        paired = compare(report, base)
        against = "" if name == "base" else f"{paired.success_difference:+.3f} (p = {paired.p_success:.3f})"
        print(f"| {name} | {len(report.episodes)} | {report.success_rate:.3f} ({low:.3f} to {high:.3f}) | {against} |")


def plot(run: Path, base: EvaluationReport, controls: Mapping[str, EvaluationReport]) -> Path:
    """Success with intervals, base and controls side by side, and the highest control that is accepted."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for place, (name, report) in enumerate({"base": base, **controls}.items()):
        low, high = report.success_interval
        rate = report.success_rate
        axes.errorbar([place], [rate], [[rate - low], [high - rate]], fmt="o", capsize=4, label=name)
    axes.axhline(HIGHEST_CONTROL, linestyle=":", color="grey")
    axes.set_xticks(range(1 + len(controls)), [name.replace("_", " ") for name in ("base", *controls)])
    axes.set(ylabel="success", ylim=(0, 1), title=f"{run.name}: without learning")
    path = run / "base.png"
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path


if __name__ == "__main__":
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    print(json.dumps(main(given)))
