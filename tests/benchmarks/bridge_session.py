"""A session over the ROS 2 bridge in real time makes a weak policy better.

    python -m tests.benchmarks.bridge_session [root=<temporary>] [demos=20] [weak_steps=1000] [steps=4000]
        [episodes=50] [seed=0]

Real processes over DDS (LOCALHOST) and ZMQ: sim_robot and the bridge in real time; actor and learner of the session.
RLPD on lift, state observations, from ``demos`` demonstrations of the scripted expert that were recorded over the
bridge; nobody helps. The weak policy is what a session (robot-rl session robot=bridge mode=processes) has after
``weak_steps`` control steps. The session is then resumed and goes on to ``steps``. Both policies are evaluated over the
bridge, without exploration, on the same ``episodes`` seeds from 100000, which nothing was chosen by. With a root, what
was recorded there already is not done again. The last line is JSON:
    before, before_interval     success of the weak policy over the bridge, Clopper-Pearson 95 %
    after, after_interval       success of what the session ends with
    only_before, only_after, p  seeds that only one of them solved, exact McNemar
    improved                    after above before with p below 0.05
    session_minutes             wall time of both parts of the session: start of processes, resets, saving included
    record_s                    wall time of the demonstrations
    steps, updates, update_ratio, training_episodes   of the session at its end
    training_success            share of successes in its first and in its last 20 training episodes
    period_p50_ms, period_p99_ms, late       of its control loop at 50 ms; share of steps that were late
    valid                       share of steps whose command was followed as it was meant
    staleness_s                 how old the weights that acted were, median
    faults                      of the arm (contacts), cleared by an operator as on hardware; they count as failures
    interrupted                 evaluations that one, or a stream silenced by load, broke off, and that went on
    load_before, load_after     of the machine around the session, per core
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, read_manifest
from robot_rl.learning.training_run import read_rows
from robot_rl.runtime.evaluation import compare
from robot_rl.runtime.scores import EvaluationReport
from tests.benchmarks.bridge_deploy import DATA, newest, on_an_arm, rounded, timed
from tests.ros.running_arm import Operator, RunningArm

SESSION, WINDOW = "bridge_session", 20
DEFAULTS = {"demos": "20", "weak_steps": "1000", "steps": "4000", "episodes": "50", "seed": "0"}


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    return on_an_arm(measure, {**DEFAULTS, **arguments})


def measure(arm: RunningArm, operator: Operator, root: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """The weak policy, the session that goes on from it, both evaluated."""
    run, load = root / "runs" / SESSION, load_per_core()
    demos = ["task=lift", f"name={DATA}", f"episodes={given['demos']}", f"root={root}"]
    record_s = timed("record", *demos, *arm.words)
    shutil.rmtree(run, ignore_errors=True)
    seconds = learned(arm, root, given["weak_steps"], given["seed"])
    before = evaluated(arm, operator, root, run, "weak", given["episodes"])
    seconds += learned(arm, root, given["steps"], given["seed"], "resume=true")
    loads = {"load_before": load, "load_after": load_per_core()}
    after = evaluated(arm, operator, root, run, "better", given["episodes"])
    paired, told = compare(after, before), of_session(run)
    return {
        "before": before.success_rate, "before_interval": before.success_interval,
        "after": after.success_rate, "after_interval": after.success_interval,
        "only_before": paired.only_second, "only_after": paired.only_first, "p": paired.p_success,
        "improved": paired.success_difference > 0.0 and paired.p_success < 0.05,
        "session_minutes": seconds / 60.0, "record_s": record_s, **told,
        "faults": operator.faults, "interrupted": operator.interrupted, **loads,
    }  # fmt: skip


def learned(arm: RunningArm, root: Path, steps: str, seed: str, *more: str) -> float:
    """A session up to so many steps; its wall time [s]."""
    words = ["task=lift", "algorithm=rlpd", "mode=processes", f"demos={DATA}", f"name={SESSION}", f"root={root}"]
    asked = [f"steps={steps}", f"seed={seed}", "evaluate_every=0", "confirm=none"]
    return timed("session", *words, *asked, *more, *arm.words)


def evaluated(arm: RunningArm, operator: Operator, root: Path, run: Path, name: str, episodes: str) -> EvaluationReport:
    """The newest checkpoint, over the bridge."""
    folder = f"{run.name}_{name}"
    asked = [f"checkpoint={find_checkpoint(run)}", f"episodes={episodes}", "videos=0", f"name={folder}", f"root={root}"]
    operator.beside(lambda: timed("evaluate", *asked, *arm.words))  # goes on where it was interrupted
    return EvaluationReport.load(newest(root / "runs" / folder))


def of_session(run: Path) -> dict[str, Any]:
    """What its episodes and its newest checkpoint tell."""
    store, manifest = EpisodeStore.open(run / "store"), read_manifest(find_checkpoint(run))
    assert not store.verify()
    infos = store.infos(excluded=True)
    episodes = [store.read(info.id).arrays for info in infos]
    periods = np.concatenate([np.diff(arrays["time/action_sent_ns"][:-1]) * 1e-6 for arrays in episodes])
    outcomes = [bool(info.success) for info in infos]
    stale = [row["staleness_s"] for row in read_rows(run / "metrics.jsonl") if "staleness_s" in row]
    return {
        "steps": manifest["step"], "updates": manifest["updates"],
        "update_ratio": manifest["updates"] / manifest["step"], "training_episodes": len(infos),
        "training_success": [float(np.mean(outcomes[:WINDOW])), float(np.mean(outcomes[-WINDOW:]))],
        "period_p50_ms": float(np.median(periods)), "period_p99_ms": float(np.percentile(periods, 99)),
        "late": float(np.mean(np.concatenate([arrays["flags/overrun"][:-1] for arrays in episodes]))),
        "valid": float(np.mean(np.concatenate([arrays["action_valid"][:-1] for arrays in episodes]))),
        "staleness_s": float(np.median(stale)) if stale else None,
    }  # fmt: skip


def load_per_core() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


if __name__ == "__main__":
    result = main(dict(word.split("=", 1) for word in sys.argv[1:]))
    print(json.dumps({name: rounded(value) for name, value in result.items()}))
