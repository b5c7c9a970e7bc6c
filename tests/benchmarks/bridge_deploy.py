"""From demonstrations over the ROS 2 bridge to a policy that is deployed over it, and the same policy in process.

    python -m tests.benchmarks.bridge_deploy [root=<temporary>] [demos=20] [steps=4000] [episodes=50] [seed=0]

Real processes over DDS (LOCALHOST) and ZMQ: sim_robot and the bridge, in real time. The scripted expert records
``demos`` lift episodes over the bridge (robot-rl record), a diffusion policy is trained on them (train), deployed over
the bridge on ``episodes`` seeds from 100000 (deploy, which looks twice first) and evaluated in process on the same
seeds (evaluate). With a root, what is recorded and trained there already is not done again. The last line is JSON:
    bridge, bridge_interval           success over the bridge, Clopper-Pearson 95 %
    in_process, in_process_interval   the same for the same checkpoint on the same seeds in process
    only_bridge, only_in_process, p   seeds that only one of them solved, exact McNemar
    within_interval                   whether the success in process lies in the interval of that over the bridge
    demos, tried                      episodes recorded over the bridge, starts that it took
    faults, interrupted               faults of the arm that an operator cleared; commands that were started again
    record_s, train_s, deploy_s, evaluate_s   wall time; deployed and recorded in real time
    seen_p50_ms, seen_p99_ms          age of an observation when the policy has it
    decision_p50_ms, decision_p99_ms  the policy's plan
    to_send_p99_ms                    from the observation's arrival to the command
    late                              share of steps whose end had passed before the plan was sent
    load                              of the machine at the end, per core
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.apps.main import run_command
from robot_rl.data.store import EpisodeStore
from robot_rl.runtime.evaluation import FIRST_SEED
from robot_rl.runtime.scores import EvaluationReport
from robot_rl.runtime.statistics import clopper_pearson, mcnemar_exact
from tests.ros.running_arm import Operator, RunningArm, operated, running_arm

DATA, RUN, DEPLOYED = "bridged", "bridged", "bridged_deployed"
DEFAULTS = {"demos": "20", "steps": "4000", "episodes": "50", "seed": "0"}


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    return on_an_arm(measure, {**DEFAULTS, **arguments})


def on_an_arm(measure: Callable[..., dict[str, Any]], given: Mapping[str, str]) -> dict[str, Any]:
    """``measure(arm, operator, root, given)`` with an arm that runs and who clears its faults, in the folder ``root``
    of ``given`` or a temporary one."""
    with ExitStack() as opened:
        root = Path(given.get("root") or opened.enter_context(tempfile.TemporaryDirectory()))
        arm = opened.enter_context(running_arm())
        return measure(arm, opened.enter_context(operated(arm)), root, given)


def measure(arm: RunningArm, operator: Operator, root: Path, given: Mapping[str, str]) -> dict[str, Any]:
    """Record, train, deploy, evaluate."""
    where, episodes, deployed = f"root={root}", int(given["episodes"]), root / "runs" / DEPLOYED
    checkpoint = f"checkpoint={root / 'runs' / RUN}"
    seconds = {"record": timed("record", "task=lift", f"name={DATA}", f"episodes={given['demos']}", where, *arm.words)}
    trained = ["task=lift", f"data={DATA}", f"name={RUN}", f"steps={given['steps']}", f"seed={given['seed']}"]
    seconds["train"] = timed("train", "algorithm=diffusion", *trained, "evaluate_every=0", "resume=true", where)
    shutil.rmtree(deployed, ignore_errors=True)
    seconds["deploy"] = deploy(arm, operator, deployed, [checkpoint, where], episodes)
    seconds["evaluate"] = timed(
        "evaluate", checkpoint, where, f"episodes={episodes}", "task=lift", "videos=0", f"name={RUN}_in_process"
    )
    bridge = verdicts(deployed)
    report = EvaluationReport.load(newest(root / "runs" / f"{RUN}_in_process"))
    here = {episode.seed: episode.success for episode in report.episodes}
    assert bridge.keys() == here.keys() == set(range(FIRST_SEED, FIRST_SEED + episodes))
    demos = EpisodeStore.open(root / "data" / DATA).infos()
    return {
        **compared(bridge, here), "faults": operator.faults, "interrupted": operator.interrupted,
        "demos": len(demos), "tried": 1 + max(int(info.metadata["seed"]) for info in demos),
        **{f"{name}_s": value for name, value in seconds.items()}, **latencies(deployed / "cycles.csv"),
        "load": os.getloadavg()[0] / (os.cpu_count() or 1),
    }  # fmt: skip


def deploy(arm: RunningArm, operator: Operator, folder: Path, words: list[str], episodes: int) -> float:
    """All seeds; after a fault that ends the command it goes on with the next one. How long it took [s]."""
    began = time.monotonic()

    def rest() -> None:
        done = len(verdicts(folder))
        left = [f"first_seed={FIRST_SEED + done}", f"episodes={episodes - done}"]
        timed("deploy", *words, *left, f"name={folder.name}", "speed=1", "confirm=none", *arm.words)

    operator.beside(rest)
    return time.monotonic() - began


def verdicts(folder: Path) -> dict[int, bool]:
    """Success by seed of a deployment; an episode that was broken off has none."""
    store = folder / "store"
    infos = EpisodeStore.open(store).infos() if store.exists() else []
    return {int(info.metadata["seed"]): info.success for info in infos if info.success is not None}


def compared(bridge: Mapping[int, bool], here: Mapping[int, bool]) -> dict[str, Any]:
    """Success of both, and whether they differ."""
    rates = {name: sum(found.values()) / len(found) for name, found in (("bridge", bridge), ("in_process", here))}
    interval = clopper_pearson(sum(bridge.values()), len(bridge))
    only = [sum(one[seed] and not other[seed] for seed in one) for one, other in ((bridge, here), (here, bridge))]
    return {
        **rates,
        "bridge_interval": interval,
        "in_process_interval": clopper_pearson(sum(here.values()), len(here)),
        "only_bridge": only[0],
        "only_in_process": only[1],
        "p": mcnemar_exact(*only),
        "within_interval": interval[0] <= rates["in_process"] <= interval[1],
    }


def latencies(path: Path) -> dict[str, float]:
    """Of all cycles of a deployment."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    times = {name: np.array([float(row[f"{name}_ms"]) for row in rows]) for name in ("seen", "decision", "to_send")}
    decided = times["decision"][times["decision"] > 0.0]
    return {
        "seen_p50_ms": float(np.median(times["seen"])),
        "seen_p99_ms": float(np.percentile(times["seen"], 99)),
        "decision_p50_ms": float(np.median(decided)),
        "decision_p99_ms": float(np.percentile(decided, 99)),
        "to_send_p99_ms": float(np.percentile(times["to_send"], 99)),
        "late": float(np.mean([int(row["overrun"]) for row in rows])),
    }


def timed(command: str, *words: str) -> float:
    """Run a command; how long it took [s]."""
    began = time.monotonic()
    run_command(command, words)
    return time.monotonic() - began


def newest(folder: Path) -> Path:
    """The newest report in a folder of results."""
    return max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)


def rounded(value: Any) -> Any:
    """For a line that people read."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    return [rounded(each) for each in value] if isinstance(value, (list, tuple)) else value


if __name__ == "__main__":
    found = main(dict(word.split("=", 1) for word in sys.argv[1:]))
    print(json.dumps({name: rounded(value) for name, value in found.items()}))
