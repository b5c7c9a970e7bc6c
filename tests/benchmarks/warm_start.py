"""Replanning at every control step from the last plan, against full denoising, and what real-time chunking smooths.

    python -m tests.benchmarks.warm_start checkpoint=runs/<run> [timesteps=20,11,4,0] [noise=1] [settled=4]
        [episodes=500] [execute=8] [first_seed=100000] [border_episodes=50] [delay_steps=3] [root=.]
        [fewest_calls=2] [first_timesteps=[12,20,30]]

Without ``timesteps`` they are those that `robot-rl warm_start` found for the checkpoint, else found now on the seeds
for choosing. ``execute`` is T_a of full denoising and of real-time chunking; the checkpoint's own where it is not
given. Finished episodes are not run again. The last line is JSON:
    timesteps, noise, settled      the warm start: noise levels that a plan visits, share of the first one's noise, rows
                                   that stay as they are
    calls_per_plan                 network calls of a plan that continues the last one
    score_full, score_warm         mean best reward over ``episodes`` seeds; full is 100 steps and plans every T_a,
                                   warm plans at every step
    score_drop, score_drop_interval_95   full minus warm, paired over seeds; bootstrap
    success_full, success_warm     share of episodes that succeeded
    p50_ms, p99_ms                 of one warm ``act`` at batch 1, one thread, wall time: run on an idle core
    cpu_p99_ms                     the same in CPU time of the thread, which other processes disturb less
    full_p50_ms, ratio_vs_full     of one full ``act``; its median over the warm one's, interleaved
    border_jump, border_jump_chunked, border_jump_warm   distance between a plan's first new action and what the plan
                                   before had for that step, mean over borders of ``border_episodes`` seeds, in units of
                                   the action: the checkpoint alone, under real-time chunking, warm-started
    border_jump_delayed, border_jump_delayed_chunked     the same when a plan takes ``delay_steps`` steps to compute
    score_chunked, score_delayed, score_delayed_chunked  mean best reward of these episodes, beside score_plain
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies.real_time_chunking import RealTimeChunked
from policies.warm_started import WarmStarted
from robot_rl.apps.main import run_command
from robot_rl.interfaces import Policy
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint
from robot_rl.runtime.evaluation import FIRST_SEED
from robot_rl.runtime.lockstep import run_in_lockstep
from robot_rl.runtime.scores import EvaluationReport
from robot_rl.runtime.statistics import bootstrap_mean
from robot_rl.types import ActContext, ActionChunk, Array, Arrays

FULL_STEPS = 100
ENVS = 25
SEARCH = ("fewest_calls", "first_timesteps")  # of robot-rl warm_start
ROUNDS = 400
SETTLED = 4


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    torch.set_num_threads(1)
    root, checkpoint = Path(arguments.get("root", ".")), find_checkpoint(Path(arguments["checkpoint"]))
    around = {"noise": float(arguments.get("noise", "1")), "settled": int(arguments.get("settled", SETTLED))}
    around["timesteps"] = chosen_timesteps(arguments, root, checkpoint, around)
    result = {**around, **scores(arguments, root, checkpoint, around)}
    full = load_checkpoint(checkpoint, changes={"sampler.steps": FULL_STEPS})
    warm = WarmStarted(load_checkpoint(checkpoint), **around)
    result |= {"calls_per_plan": warm.calls_per_plan, **latencies(full, warm)}
    return {**result, **borders(arguments, checkpoint, warm)}


def chosen_timesteps(
    arguments: Mapping[str, str], root: Path, checkpoint: Path, around: Mapping[str, Any]
) -> list[int]:
    """Those given, those found that keep the score, or the best that were tried."""
    if "timesteps" in arguments:
        return [int(t) for t in arguments["timesteps"].split(",")]
    name = f"{_run(checkpoint)}_warm_start"
    found = root / "runs" / name / "warm_start.json"
    if not found.exists():
        words = [f"checkpoint={checkpoint}", f"root={root}", f"name={name}"]
        words += [f"policy.{key}={value}" for key, value in around.items()]
        words += [f"+changes.{key}={value}" for key, value in changes(arguments).items()]
        run_command("warm_start", [*words, *(f"{key}={arguments[key]}" for key in SEARCH if key in arguments)])
    told = json.loads(found.read_text())
    return told["timesteps"] or max(told["scores"], key=lambda tried: tried[1])[0]


def changes(arguments: Mapping[str, str]) -> dict[str, int]:
    """What is changed of the checkpoint's policy."""
    return {"execute": int(arguments["execute"])} if "execute" in arguments else {}


def scores(arguments: Mapping[str, str], root: Path, checkpoint: Path, around: Mapping[str, Any]) -> dict[str, Any]:
    """Full and warm on the same seeds, by the command that users compare with."""
    episodes, first_seed = arguments.get("episodes", "500"), arguments.get("first_seed", str(FIRST_SEED))
    name = f"{_run(checkpoint)}_warm_scores"
    words = [f"first={checkpoint}", f"second={checkpoint}", f"+first_changes.sampler.steps={FULL_STEPS}"]
    words += [f"+first_changes.{key}={value}" for key, value in changes(arguments).items()]
    words += ["policy@second_policy=warm_started", f"root={root}", f"name={name}"]
    words += [f"second_policy.{key}={value}".replace(" ", "") for key, value in around.items()]
    run_command("compare", [*words, f"first_seed={first_seed}", f"episodes={episodes}"])
    folder = root / "runs" / name
    paths = sorted(folder.glob(f"*-seed{first_seed}-{episodes}-*.json"), key=lambda path: path.stat().st_mtime)
    full, warm = (EvaluationReport.load(path) for path in paths[-2:])  # in the order in which they were evaluated
    compared = json.loads((folder / "comparison.json").read_text())
    return {
        "score_full": round(full.best_reward_mean, 4),
        "score_warm": round(warm.best_reward_mean, 4),
        "score_drop": round(compared["best_reward_difference"], 4),
        "score_drop_interval_95": [round(value, 4) for value in compared["best_reward_interval_95"]],
        "success_full": round(full.success_rate, 4),
        "success_warm": round(warm.success_rate, 4),
    }


def latencies(full: Policy, warm: Policy) -> dict[str, float]:
    """Interleaved; timed is the second call in a row, since the other one's weights have displaced the first's."""
    spec = warm.spec
    random = np.random.default_rng(0)
    window = {
        key: random.normal(size=(1, spec.history, *value.shape)).astype(value.dtype)
        for key, value in spec.observation.items()
    }
    for policy in (full, warm):
        policy.reset(np.array([0]), np.array([0]))
    wall: dict[str, list[float]] = {"full": [], "warm": []}
    cpu: dict[str, list[float]] = {"full": [], "warm": []}
    for step in range(2 * ROUNDS):
        context = ActContext(np.array([step]), np.array([min(step, 1)]), np.array([0]), np.array([False]))
        order = [("full", full), ("full", full), ("warm", warm)] if step % 2 == 0 else [("warm", warm)]
        for turn, (name, policy) in enumerate(order):
            began, busy = time.perf_counter(), time.thread_time()
            policy.act(window, context)
            if turn == 1 or len(order) == 1:  # the second in a row of either
                cpu[name].append(1e3 * (time.thread_time() - busy))
                wall[name].append(1e3 * (time.perf_counter() - began))
    p50, p99 = np.percentile(wall["warm"][5:], [50, 99])
    full_p50 = float(np.median(wall["full"][5:]))
    return {
        "p50_ms": round(float(p50), 3),
        "p99_ms": round(float(p99), 3),
        "cpu_p99_ms": round(float(np.percentile(cpu["warm"][5:], 99)), 3),
        "full_p50_ms": round(full_p50, 3),
        "ratio_vs_full": round(full_p50 / float(p50), 2),
    }


class Bordered:
    """Acts as ``policy``, whose plans keep the first ``settled`` rows of the one before, and measures its jumps; with
    ``delay``, plans take effect that many steps late."""

    def __init__(self, policy: Policy, delay: int = 0, settled: int = 0) -> None:
        self.policy, self.spec, self.delay, self.jumps = policy, policy.spec, delay, []
        self._first = max(delay, settled)  # row of a plan that is new
        self._last: Array | None = None
        self._step = np.zeros(0)

    def reset(self, rows: Array, seeds: Array) -> None:
        self.policy.reset(rows, seeds)
        self._last = None

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        chunk = self.policy.act(window, context)
        actions, done = np.array(chunk.actions), chunk.execute
        if self._last is not None:  # lanes replan together; those that have ended stand still
            running = context.step > self._step
            if self.delay:
                actions[:, : self.delay] = self._last[:, done : done + self.delay]
            jump = np.linalg.norm(actions[:, self._first] - self._last[:, done + self._first], axis=-1)
            self.jumps += jump[running].tolist()
        self._last, self._step = actions, context.step
        return ActionChunk(actions, done, decision=chunk.decision)


def borders(arguments: Mapping[str, str], checkpoint: Path, warm: WarmStarted) -> dict[str, Any]:
    """Jumps and scores with and without real-time chunking, with and without a delay."""
    from sim.pusht_env import pusht_env

    count, delay = int(arguments.get("border_episodes", "50")), int(arguments.get("delay_steps", "3"))
    first = int(arguments.get("first_seed", FIRST_SEED))
    base = load_checkpoint(checkpoint, changes=changes(arguments))
    envs = [pusht_env() for _ in range(min(ENVS, count))]
    variants = {
        "plain": Bordered(base),
        "chunked": Bordered(RealTimeChunked(base)),
        "delayed": Bordered(base, delay),
        "delayed_chunked": Bordered(RealTimeChunked(base, delay_steps=delay), delay),
        "warm": Bordered(warm, settled=int(arguments.get("settled", SETTLED))),
    }
    result: dict[str, Any] = {}
    for name, policy in variants.items():
        rewards = [score.best_reward for score in run_in_lockstep(envs, policy, range(first, first + count))]
        suffix = "" if name == "plain" else f"_{name}"
        result[f"border_jump{suffix}"] = round(float(np.mean(policy.jumps)), 3)
        result[f"score_{name}" if name != "warm" else "score_warm_here"] = round(float(np.mean(rewards)), 4)
        print(
            f"{name}: score {np.mean(rewards):.3f} {bootstrap_mean(rewards)}, jump {np.mean(policy.jumps):.2f}",
            flush=True,
        )
    for env in envs:
        env.close()
    return result


def _run(checkpoint: Path) -> str:
    return checkpoint.parent.parent.name if checkpoint.parent.name == "checkpoints" else checkpoint.name


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
