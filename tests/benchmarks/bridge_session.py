"""A session over the ROS 2 bridge in real time makes a weak policy better.

    python -m tests.benchmarks.bridge_session [root=<temporary>] [steps=8000] [episodes=50] [demos=10] [narrow=0.2]
        [base_steps=4000] [algorithm=residual] [seed=0]

Real processes over DDS (LOCALHOST) and ZMQ: sim_robot and the bridge in real time; actor and learner of the session.
The weak policy is a diffusion policy of few demonstrations (``demos`` of the scripted expert, from the inner ``narrow``
of every range of starts), recorded over the bridge. A session (robot-rl session robot=bridge mode=processes) learns a
residual around it from these demonstrations and ``steps`` control steps, state observations, nobody helps. Both are
evaluated over the bridge, without exploration, on the same ``episodes`` seeds from 100000, which nothing was chosen by.
With a root, what is recorded and trained there already is not done again. The last line is JSON:
    before, before_interval     success of the weak policy over the bridge, Clopper-Pearson 95 %
    after, after_interval       success of what the session ends with
    only_before, only_after, p  seeds that only one of them solved, exact McNemar
    improved                    after above before with p below 0.05
    session_minutes             wall time of the session: starting processes, resets and saving included
    steps, updates, update_ratio, episodes   of the session; episodes are the training ones
    training_success            share of successes in its first and in its last 30 training episodes
    period_p50_ms, period_p99_ms, late       of its control loop at 50 ms; share of steps that were late
    faults                      of its episodes and of both evaluations
    staleness_s                 how old the weights that acted were, median
    load_before, load_after     of the machine around the session, per core
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, read_manifest
from robot_rl.learning.training_run import read_rows
from robot_rl.runtime.evaluation import compare
from robot_rl.runtime.scores import EvaluationReport
from tests.benchmarks.bridge_deploy import newest, rounded, timed
from tests.ros.running_arm import RunningArm, running_arm

DATA, BASE, SESSION = "weak", "weak_base", "bridge_session"
DEFAULTS = {
    "steps": "8000", "episodes": "50", "demos": "10", "narrow": "0.2", "base_steps": "4000", "algorithm": "residual",
    "seed": "0",
}  # fmt: skip


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    with ExitStack() as opened:
        root = Path(arguments.get("root") or opened.enter_context(tempfile.TemporaryDirectory()))
        arm = opened.enter_context(running_arm())
        return measure(arm, root, {**DEFAULTS, **arguments})


def measure(arm: RunningArm, root: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """The weak policy, the session, both evaluated."""
    base, run = root / "runs" / BASE, root / "runs" / SESSION
    weak = [f"name={DATA}", f"episodes={given['demos']}", f"task.narrow={given['narrow']}"]
    timed("record", "task=lift", *weak, f"root={root}", *arm.words)
    trained = [f"data={DATA}", f"name={BASE}", f"steps={given['base_steps']}", f"seed={given['seed']}", "resume=true"]
    timed("train", "task=lift", "algorithm=diffusion", *trained, "evaluate_every=0", f"root={root}")
    before = evaluated(arm, root, base, given["episodes"])
    shutil.rmtree(run, ignore_errors=True)
    load = load_per_core()
    learning = [f"base={base}", f"demos={DATA}", f"steps={given['steps']}", f"seed={given['seed']}", f"name={SESSION}"]
    learning += [f"algorithm={given['algorithm']}", "evaluate_every=0", "confirm=none", f"root={root}"]
    seconds = timed("session", "task=lift", "mode=processes", *learning, *arm.words)
    loads = {"load_before": load, "load_after": load_per_core()}
    after = evaluated(arm, root, run, given["episodes"])
    paired = compare(after, before)
    found = {
        "before": before.success_rate, "before_interval": before.success_interval,
        "after": after.success_rate, "after_interval": after.success_interval,
        "only_before": paired.only_second, "only_after": paired.only_first, "p": paired.p_success,
        "improved": paired.success_difference > 0.0 and paired.p_success < 0.05,
        "session_minutes": seconds / 60.0, **of_session(run),
    }  # fmt: skip
    found["faults"] += len(before.faults) + len(after.faults)
    return {**found, **loads}


def evaluated(arm: RunningArm, root: Path, checkpoint: Path, episodes: str) -> EvaluationReport:
    """A checkpoint over the bridge."""
    folder = f"{checkpoint.name}_over_bridge"
    timed(
        "evaluate", f"checkpoint={checkpoint}", f"episodes={episodes}", "videos=0", f"name={folder}", f"root={root}",
        *arm.words,
    )  # fmt: skip
    return EvaluationReport.load(newest(root / "runs" / folder))


def of_session(run: Path) -> dict[str, Any]:
    """What its episodes and its checkpoint tell."""
    store, manifest = EpisodeStore.open(run / "store"), read_manifest(find_checkpoint(run))
    assert not store.verify()
    infos = store.infos(excluded=True)
    episodes = [store.read(info.id) for info in infos]
    sent = [np.diff(episode.arrays["time/action_sent_ns"][:-1]) * 1e-6 for episode in episodes]
    periods, outcomes = np.concatenate(sent), [bool(info.success) for info in infos]
    stale = [row["staleness_s"] for row in read_rows(run / "metrics.jsonl") if "staleness_s" in row]
    return {
        "steps": manifest["step"], "updates": manifest["updates"],
        "update_ratio": manifest["updates"] / manifest["step"], "episodes": len(infos),
        "training_success": [float(np.mean(outcomes[:30])), float(np.mean(outcomes[-30:]))],
        "period_p50_ms": float(np.median(periods)), "period_p99_ms": float(np.percentile(periods, 99)),
        "late": float(np.mean(np.concatenate([episode.arrays["flags/overrun"] for episode in episodes]))),
        "staleness_s": float(np.median(stale)) if stale else None,
        "faults": sum(str(info.metadata.get("end_reason", "")).startswith("fault") for info in infos),
    }  # fmt: skip


def load_per_core() -> float:
    return os.getloadavg()[0] / (os.cpu_count() or 1)


if __name__ == "__main__":
    result = main(dict(word.split("=", 1) for word in sys.argv[1:]))
    print(json.dumps({name: rounded(value) for name, value in result.items()}))
