"""One weak base, several ways to make it better by acting (learning.md, sections 6 and 7). Resumable.

    python -m tests.benchmarks.steering task=peg_insert|lift base=runs/<base> [root=.] [methods=rlpd,residual,expo,dsrl]
        [seeds=3] [steps=<see STEPS>] [episodes=100] [jobs=2] [choosing=50]

The base is one of ``python -m tests.benchmarks.base``, whose evaluations are taken: 1,000 episodes of it, 200 of every
control. Each method learns with ``seeds`` training seeds in a lockstep session of its own, of one thread, ``jobs`` at a
time; DSRL makes 10 critic steps and 5 distillations for a plan of four control steps, the others 2 critic steps for
each control step, with four critics of which two make a target. ``rlpd`` is the task's recipe, which imitates
demonstrations beside what critics say; ``rlpd_alone`` goes without that, as published.

A session is halted at eight points fixed in advance, four of them in its first 30 %, and what it would deploy there is
evaluated on 100 seeds from 300000; it ends early once three evaluations in a row on ``choosing`` seeds from 200000
reach 0.95, pooled. The checkpoint with the best of these is then scored on ``episodes`` seeds from 100000. Finished
sessions stand in <root>/runs/steering/<task>.jsonl, a killed one goes on from its checkpoint. The last line is JSON:
task, base, figure, and by method
    base, best_control     success of the base on 1,000 seeds, of its best control on 200
    final, interval        success on ``episodes`` fresh seeds per training seed, Clopper-Pearson 95 %
    gain_over_control, gain_interval   on the seeds that both have, bootstrap 95 % over reset seeds
    at_steps               control steps of the checkpoints that were scored, by training seed
    steps_to_90, ratio_to_rlpd         median of the first of two evaluations with a pooled mean of 0.9, null where half
                           of the seeds have none; and what share of RLPD's that is
    pooled_worst           lowest success over the points, training seeds pooled
    behaviour_worst        lowest success of 100 training episodes in a row, training seeds pooled by control step
    dips                   whether pooled_worst is below base - 0.10 or behaviour_worst below base - 0.15
    failed_training_episodes           of all training seeds, up to steps_to_90 (to the end where there is none)
    failed_by_learning     those of them that the hand-over had not given to the base
    gate_open              share of control steps that were not the base's, over the last tenth of a session
    forced_open            success at the points with the hand-over and its gate forced open, training seeds pooled
    seeds, p50_ms, p99_ms, calls_per_plan, core_minutes   core_minutes of learning, CPU time, all training seeds
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from robot_rl.apps.compare_methods import plan_cost
from robot_rl.apps.main import run_command
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, RobotRlError, valid_choices
from robot_rl.learning.checkpoint import LATEST, find_checkpoint, read_manifest
from robot_rl.learning.training_run import BEST, read_rows
from robot_rl.runtime.evaluation import FIRST_SEED
from robot_rl.runtime.scores import EvaluationReport
from tests.benchmarks.base import CONTROLS, TASKS
from tests.benchmarks.sample_efficiency import steps_to, training_episodes
from tests.benchmarks.steering_summary import plot, summary

METHODS = {  # what is special in the session of each
    "rlpd": ["algorithm=rlpd", "algorithm.critic.members=4"],
    "rlpd_alone": ["algorithm=rlpd", "algorithm.critic.members=4", "algorithm.imitation=0"],
    "residual": ["algorithm=residual", "policy.critic.members=4"],
    "expo": ["algorithm=expo", "policy.critic.members=4"],
    "dsrl": ["algorithm=dsrl", "policy.base.learning_precision=bfloat16"],
    "dsrl_sac": ["algorithm=dsrl_sac"],
}
WITHOUT_BASE = ("rlpd", "rlpd_alone")
STEPS = dict.fromkeys(METHODS, 60_000) | {"dsrl": 20_000, "dsrl_sac": 20_000}  # control steps, at most
POINTS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0)  # of the steps
POINT_SEED, POINT_EPISODES = 300_000, 100
POINTS_FILE = "points.jsonl"  # in a session's run


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    task, methods = arguments.get("task", ""), arguments.get("methods", "rlpd,residual,expo,dsrl").split(",")
    if task not in TASKS or "base" not in arguments:
        raise ConfigError("task= and base= must be given", remedy=valid_choices(task, TASKS))
    for method in methods:
        if method not in METHODS:
            raise ConfigError(f"method '{method}'", remedy=valid_choices(method, METHODS))
    root = Path(arguments.get("root", "."))
    results = root / "runs" / "steering" / f"{task}.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    if "one" in arguments:  # a session, in a process of its own
        method, seed = arguments["one"].split(":")
        row = session(root, task, Path(arguments["base"]), method, int(seed), arguments)
        append(results, {"method": method, "seed": int(seed), **row})
        return row
    finished = {(row["method"], row["seed"]) for row in read_rows(results)}
    wanted = [(method, seed) for seed in range(int(arguments.get("seeds", "3"))) for method in methods]
    with ThreadPoolExecutor(int(arguments.get("jobs", "2"))) as pool:
        list(pool.map(lambda one: alone(arguments, *one), [one for one in wanted if one not in finished]))
    rows = [row for row in read_rows(results) if row["method"] in METHODS]
    base = base_reports(find_checkpoint(Path(arguments["base"])))
    figure = str(plot(results.with_suffix(".png"), task, rows, base["base"].success_rate))
    return {"task": task, "base": arguments["base"], **summary(rows, base), "figure": figure}


def alone(arguments: Mapping[str, str], method: str, seed: int) -> None:
    """One session in a process of one thread. Raises RobotRlError when it failed."""
    words = [f"{key}={value}" for key, value in arguments.items()]
    command = [sys.executable, "-m", "tests.benchmarks.steering", *words, f"one={method}:{seed}"]
    if subprocess.run(command).returncode:
        raise RobotRlError(f"{method} with seed {seed} failed", remedy="See what it says above; the rest is kept")


def session(root: Path, task: str, base: Path, method: str, seed: int, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Learn up to each point and evaluate what would be deployed there; what it took, and the final score."""
    name = f"steering_{task}_{method}_seed{seed}"
    steps = int(arguments.get("steps", STEPS[method]))
    demos = read_manifest(find_checkpoint(base))["data"]["dataset"]
    words = [f"task={TASKS[task]}", f"root={root}", f"demos={demos}", f"name={name}", f"seed={seed}", *METHODS[method]]
    words += [] if method in WITHOUT_BASE else [f"base={base}"]
    words += [f"first_seed={1000 + 10_000 * seed}", f"evaluate_episodes={arguments.get('choosing', '50')}"]
    words += [f"evaluate_every={max(steps // 24, 1)}", "stop_success=0.95", "resume=true"]
    run = root / "runs" / name
    for part in POINTS:
        until = round(part * steps)
        points = {found["until"]: found for found in read_rows(run / POINTS_FILE)}
        if any(found["step"] < found["until"] for found in points.values()):
            break  # the session's own evaluations were enough
        if until in points:
            continue
        began = time.process_time()
        run_command("session", [*words, f"steps={until}"])
        core_s = time.process_time() - began  # what a kill cost before is not in it
        append(run / POINTS_FILE, {**point(root, run, until, forced=method not in WITHOUT_BASE), "core_s": core_s})
    points, evaluations = read_rows(run / POINTS_FILE), read_rows(run / "evaluations.jsonl")
    reached = steps_to(evaluations, 0.9)
    counted = training_episodes(EpisodeStore.open(run / "store"), reached)
    return {
        "run": str(run),
        "steps": int(read_manifest(find_checkpoint(run, LATEST))["step"]),
        "steps_to_90": reached,
        "failed": counted["failed_before_90"],
        "points": [{key: value for key, value in found.items() if key != "core_s"} for found in points],
        "core_minutes": sum(found["core_s"] for found in points) / 60,
        **final(root, run, int(arguments.get("episodes", "100"))),
    }


def point(root: Path, run: Path, until: int, forced: bool) -> dict[str, Any]:
    """Successes of the newest checkpoint on the seeds of the points, and with the hand-over forced open."""
    checkpoint = find_checkpoint(run, LATEST)
    found: dict[str, Any] = {"until": until, "step": int(read_manifest(checkpoint)["step"])}
    for name, words in {"deployed": [], **({"forced_open": ["+changes.forced_open=true"]} if forced else {})}.items():
        report = score(root, checkpoint, run, f"{name}_{until}", words, POINT_SEED, POINT_EPISODES)
        found[name] = report.success_rate
    return found


def final(root: Path, run: Path, episodes: int) -> dict[str, Any]:
    """The best checkpoint on seeds that nothing was chosen by, and what a plan of it costs."""
    best = run / "checkpoints" / BEST
    checkpoint = find_checkpoint(best if best.exists() else run)
    report = score(root, checkpoint, run, "final", [], FIRST_SEED, episodes)
    return {
        "at_steps": int(read_manifest(checkpoint)["step"]),
        "successes": {str(episode.seed): episode.success for episode in report.episodes},
        **plan_cost(checkpoint),
    }


def score(
    root: Path, checkpoint: Path, run: Path, label: str, words: list[str], first: int, episodes: int
) -> EvaluationReport:
    """Report of a checkpoint on reset seeds from ``first``."""
    folder = run / "scores" / label
    given = [f"checkpoint={checkpoint}", f"episodes={episodes}", f"first_seed={first}", "videos=0", f"root={root}"]
    run_command("evaluate", [*given, f"name={folder.relative_to(root / 'runs')}", *words])
    return EvaluationReport.load(max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime))


def append(path: Path, row: Mapping[str, Any]) -> None:
    """One line of JSON, in one write."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def base_reports(checkpoint: Path) -> dict[str, EvaluationReport]:
    """Of the base and its controls, as tests.benchmarks.base left them. Raises RobotRlError where it did not."""
    folder = checkpoint.parent.parent / "evaluation"
    newest = {path.parent.name: path for path in sorted(folder.glob("*/*.json"), key=lambda path: path.stat().st_mtime)}
    found = {name: EvaluationReport.load(path) for name, path in newest.items()}
    if not {"base", *CONTROLS} <= found.keys():
        raise RobotRlError(f"{folder} holds no controls", remedy="python -m tests.benchmarks.base task=...")
    return found


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
