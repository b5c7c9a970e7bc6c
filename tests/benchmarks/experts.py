"""How good the scripted experts are: ``python -m tests.benchmarks.experts [task=...] [seeds=100] [key=value ...]``.

Other words are overrides of the configuration, e.g. ``scene.clearance_m=0.0005`` or ``teleop.delay_steps=2``.
Keys of the JSON line, one object per task:
  success        share of the episodes that the expert solves
  interval       95 % Clopper-Pearson interval of it
  failed         seeds of the others, at most 20
  steps_mean     control steps of the solved episodes
  steps_max      the longest of them; max_steps is where the env truncates
  clipped        share of all steps whose command a layer of the safety chain changed
  steps_per_s    control steps per second of CPU time, resets included
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import robot_rl.conf
from robot_rl.apps.main import compose, instantiate
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.statistics import clopper_pearson
from robot_rl.types import StepRow


class Interventions:
    """Counts steps that the safety chain changed."""

    def __init__(self) -> None:
        self.steps = self.changed = 0

    def on_reset(self, observation: Any, spec: Any, seed: int) -> None: ...

    def on_decision(self, decision: Any) -> None: ...

    def on_step(self, row: StepRow) -> None:
        report = row.observation.report
        self.steps += 1
        self.changed += bool(report and report.interventions)

    def on_end(self, final: StepRow, end: Any) -> None: ...


def tasks_with_expert() -> list[str]:
    found = (Path(robot_rl.conf.__file__).parent / "task").glob("*.yaml")
    return sorted(path.stem for path in found if "\nexpert:" in path.read_text())


def measure(task: str, seeds: int, overrides: list[str]) -> dict[str, Any]:
    config = compose("record", [f"task={task}", *overrides])
    env, expert = instantiate(config.env), instantiate(config.teleop)
    heard, start = Interventions(), time.process_time()
    ends = [run_episode(env, expert, [heard], seed=seed) for seed in range(seeds)]
    spent = time.process_time() - start
    env.close()
    lengths = [end.length for end in ends if end.success] or [0]
    solved = sum(bool(end.success) for end in ends)
    low, high = clopper_pearson(solved, seeds)
    return {
        "success": solved / seeds,
        "interval": [round(low, 3), round(high, 3)],
        "failed": [seed for seed, end in enumerate(ends) if not end.success][:20],
        "steps_mean": round(float(np.mean(lengths)), 1),
        "steps_max": max(lengths),
        "max_steps": env.max_steps,
        "clipped": round(heard.changed / max(heard.steps, 1), 3),
        "steps_per_s": round(heard.steps / spent),
    }


def main(words: list[str]) -> dict[str, Any]:
    named = dict(word.split("=", 1) for word in words if word.startswith(("task=", "seeds=")))
    overrides = [word for word in words if word.split("=", 1)[0] not in named]
    tasks = [named["task"]] if "task" in named else tasks_with_expert()
    return {task: measure(task, int(named.get("seeds", 100)), overrides) for task in tasks}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
