"""How quickly a chunk is denoised, and how far that can be pushed before Push-T notices.

    python -m tests.benchmarks.denoising [checkpoint=runs/<run>] [episodes=100] [first_seed=100000] [results=folder]

The last line is JSON:
    ratio_vs_diffusers_unet, ratio_vs_diffusers_mlp   time of the loop over a diffusers DDIMScheduler over time of ours:
                    same network, weights, 16 steps, float32, batch 1, one thread, interleaved; median of ratios
    unet_p50_ms, mlp_p50_ms    our loop
    plan            the quickest plan (steps, precision, compiled) whose mean best reward is at most 0.02 below that of
                    16 float32 steps on the same seeds; null without a checkpoint
    plan_speedup    p50 of 16 float32 steps over p50 of that plan, per ``act`` at batch 1, interleaved
    p50_ms, p99_ms  of that plan's ``act``; without a checkpoint of 16 float32 steps of an untrained network
    base_p50_ms     of 16 float32 steps
    scores          {plan: mean best reward} of every plan that was evaluated, over ``episodes`` seeds
    note            what was left out, and why
Evaluated episodes are appended to ``results`` and not run again.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from policies.chunk_mlp import ChunkMlp
from policies.denoising_plan import DenoisingPlan
from policies.noise_schedules import NoiseSchedule
from policies.samplers import DDIM
from policies.unet1d import ChunkUnet
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, read_manifest
from robot_rl.types import ActContext

STEPS, HORIZON, ACTION, CONDITION = 16, 16, 2, 44
ALLOWED_DROP = 0.02
LOCKSTEP_ENVS = 50


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    result: dict[str, Any] = {}
    for name, network in {"unet": ChunkUnet, "mlp": ChunkMlp}.items():
        ratio, p50 = against_diffusers(network(HORIZON, ACTION, CONDITION).eval())
        result |= {f"ratio_vs_diffusers_{name}": ratio, f"{name}_p50_ms": p50}
    if "checkpoint" not in arguments:
        note = "no checkpoint= was given: plans were not scored on Push-T, plan_speedup is not measured"
        return {**result, **untrained_latency(), "plan": None, "plan_speedup": None, "note": note}
    return {**result, **best_plan(arguments)}


def against_diffusers(network: Any, rounds: int = 60) -> tuple[float, float]:
    """(median ratio, our median [ms]) of both sampling loops, one after the other in every round."""
    ours = DenoisingPlan(network, DDIM(NoiseSchedule(steps=100), STEPS, "arange"), "float32", False)
    scheduler: Any = DDIMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    scheduler.set_timesteps(STEPS)

    def theirs(cond: Tensor, noise: Tensor) -> Tensor:
        x = noise
        for t in scheduler.timesteps:
            output = network(x, t.expand(len(x)), cond)
            x = scheduler.step(output, t, x, use_clipped_model_output=True).prev_sample
        return x

    cond, noise = torch.randn(1, CONDITION), torch.randn(1, HORIZON, ACTION)
    with torch.inference_mode():
        torch.testing.assert_close(ours(cond, noise), theirs(cond, noise), atol=1e-4, rtol=0)
        times = np.array([[_seconds(loop, cond, noise) for loop in (ours, theirs)] for _ in range(rounds)])
    return round(float(np.median(times[:, 1] / times[:, 0])), 3), round(float(np.median(times[:, 0]) * 1e3), 3)


def untrained_latency() -> dict[str, float]:
    """Latency alone, of a network of the Push-T recipe's size."""
    plan = DenoisingPlan(
        ChunkMlp(HORIZON, ACTION, CONDITION).eval(), DDIM(NoiseSchedule(steps=100), STEPS), "float32", False
    )
    cond, noise = torch.randn(1, CONDITION), torch.randn(1, HORIZON, ACTION)
    with torch.inference_mode():
        times = [_seconds(plan, cond, noise) for _ in range(200)]
    return {**_percentiles(times), "base_p50_ms": _percentiles(times)["p50_ms"]}


def best_plan(arguments: Mapping[str, str]) -> dict[str, Any]:
    """The quickest plan that keeps the score, tried from the quickest on."""
    checkpoint = find_checkpoint(Path(arguments["checkpoint"]))
    base = {"sampler.steps": STEPS, "precision": "float32", "compiled": False}
    plans = [
        {"sampler.steps": steps, "precision": precision, "compiled": compiled}
        for steps in (4, 6, 8, STEPS)
        for precision in ("float32", "bfloat16")
        for compiled in (False, True)
    ]
    policies = [load_checkpoint(checkpoint, changes=plan) for plan in plans]
    times = interleaved(policies)
    score = functools.partial(scored, checkpoint, arguments)
    base_at, scores = plans.index(base), {_name(base): score(base)}
    chosen = base_at
    for at in sorted(range(len(plans)), key=lambda index: float(np.median(times[index]))):
        if at == base_at:
            break
        name = _name({**plans[at], "compiled": False})  # compiling changes no number that matters
        if name not in scores:
            scores[name] = score({**plans[at], "compiled": False})
        if scores[name] >= scores[_name(base)] - ALLOWED_DROP:
            chosen = at
            break
    base_p50 = float(np.median(times[base_at]))
    return {
        "plan": plans[chosen],
        "plan_speedup": round(base_p50 / float(np.median(times[chosen])), 3),
        **_percentiles(times[chosen]),
        "base_p50_ms": round(base_p50 * 1e3, 3),
        "scores": scores,
        "episodes": int(arguments.get("episodes", 100)),
        "note": f"checkpoint {checkpoint}",
    }


def interleaved(policies: list[Any], rounds: int = 200) -> list[list[float]]:
    """Seconds of ``act`` at batch 1, per policy; every round asks each of them.

    The call before the timed one is not counted: on a robot one policy acts alone and finds its weights in the cache,
    here the others have just displaced them.
    """
    spec = policies[0].spec
    window = {key: np.zeros((1, spec.history, *value.shape), value.dtype) for key, value in spec.observation.items()}
    calls = [functools.partial(policy.act, window, ActContext.start(1)) for policy in policies]
    for call in calls:
        for _ in range(3):
            call()
    times = [[_warm_seconds(call) for call in calls] for _ in range(rounds)]
    return [list(column) for column in zip(*times, strict=True)]


def _warm_seconds(call: Callable[[], Any]) -> float:
    call()
    return _seconds(call)


def scored(checkpoint: Path, arguments: Mapping[str, str], plan: Mapping[str, Any]) -> float:
    """Mean best reward over the seeds; episodes that are in the results file already are not run again."""
    from robot_rl.runtime.evaluation import evaluate
    from robot_rl.runtime.scores import ScoreLog
    from sim.pusht_env import pusht_env

    first, count = int(arguments.get("first_seed", 100_000)), int(arguments.get("episodes", 100))
    envs = [pusht_env() for _ in range(LOCKSTEP_ENVS)]
    policy = load_checkpoint(checkpoint, envs[0].spec, changes=plan)
    results = Path(arguments.get("results", checkpoint.parent.parent / "denoising"))
    results.mkdir(parents=True, exist_ok=True)
    digest = read_manifest(checkpoint)["files"]["policy.safetensors"]
    log = ScoreLog(results / f"{checkpoint.name}-{_name(plan)}.jsonl", f"{digest}-{_name(plan)}")
    finished = log.read()
    log.start(finished.values())
    report = evaluate(envs, policy, range(first, first + count), finished=finished, on_episode=log.append)
    for env in envs:
        env.close()
    print(f"{_name(plan)}: best reward {report.best_reward_mean:.4f}, success {report.success_rate:.3f}", flush=True)
    return round(report.best_reward_mean, 4)


def _name(plan: Mapping[str, Any]) -> str:
    return f"{plan['sampler.steps']}-{plan['precision']}{'-compiled' if plan['compiled'] else ''}"


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def _percentiles(times: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(times) * 1e3, [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
