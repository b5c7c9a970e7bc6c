"""Learning curves of RLPD in float32 and in bfloat16, compiled: the same problem, the same draws, one over the other.

    python -m tests.benchmarks.precision [updates=1500] [seeds=3] [compiled=true] [figure=precision.png]

A contextual bandit of reward 1 - |a - a*(s)|^2 / 8, where a* moves with four of the state's 18 numbers: the mean action
is scored by its distance to the known optimum on 512 states that are never trained on. The last line is JSON:
    final_float32, final_bfloat16   mean distance over the last fifth of the updates and the seeds
    gap          mean over updates and seeds of |curve in bfloat16 - curve in float32|
    spread       the same between seeds in float32: what chance alone makes of a curve
    entropy_gap  |entropy in bfloat16 - in float32| over the last fifth
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.gaussian import GaussianPolicy
from policies.q_ensemble import QEnsemble
from robot_rl.learning.rlpd import Rlpd
from tests.benchmarks.learner_updates import ACTION, BATCH, SPEC, STATE

EVERY = 25  # updates between two points of a curve


def main(arguments: Mapping[str, str]) -> dict[str, float]:
    torch.set_num_threads(1)
    updates, seeds = int(arguments.get("updates", "1500")), range(int(arguments.get("seeds", "3")))
    compiled = arguments.get("compiled", "true") == "true"
    runs = {precision: [curve(precision, seed, updates, compiled) for seed in seeds] for precision in
            ("float32", "bfloat16")}  # fmt: skip
    distance = {precision: np.stack([run[0] for run in kept]) for precision, kept in runs.items()}
    entropy = {precision: np.stack([run[1] for run in kept]) for precision, kept in runs.items()}
    last = max(1, distance["float32"].shape[1] // 5)
    pairs = [float(np.abs(a - b).mean()) for a, b in itertools.combinations(distance["float32"], 2)]
    if "figure" in arguments:
        draw(distance, arguments["figure"])
    return {
        **{f"final_{name}": round(float(value[:, -last:].mean()), 4) for name, value in distance.items()},
        "gap": round(float(np.abs(distance["bfloat16"] - distance["float32"]).mean()), 4),
        "spread": round(float(np.mean(pairs)), 4) if pairs else 0.0,
        "entropy_gap": round(abs(float((entropy["bfloat16"] - entropy["float32"])[:, -last:].mean())), 4),
    }


def curve(precision: str, seed: int, updates: int, compiled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the optimum, and entropy, every ``EVERY`` updates."""
    policy = GaussianPolicy(SPEC, seed=seed)
    policy.fit_normalizer({"obs/state": np.random.default_rng(seed).normal(size=(512, STATE)).astype(np.float32)})
    critic = functools.partial(QEnsemble, members=2)
    learner = Rlpd(policy, critic, demonstrations=False, precision=precision, compiled=compiled, seed=seed)
    held_out = torch.randn((512, 1, STATE), generator=torch.Generator().manual_seed(10_000))
    distance, entropy = [], []
    for step in range(updates):
        metrics = learner.update(batch(seed * updates + step))
        if step % EVERY == EVERY - 1:
            distance.append(error(policy, held_out))
            entropy.append(metrics["entropy"])
    return np.array(distance), np.array(entropy)


def batch(number: int) -> dict[str, dict[str, Tensor]]:
    """States and actions at random, rewarded; every episode ends at once."""
    generator = torch.Generator().manual_seed(number)
    state = torch.randn((1, BATCH, 1, STATE), generator=generator)
    action = torch.rand((1, BATCH, 1, ACTION), generator=generator) * 2.0 - 1.0
    reward = 1.0 - (action[:, :, 0] - optimum(state[:, :, 0])).square().sum(-1) / 8.0
    rows = {"obs/state": state, "next/obs/state": state, "action": action, "reward": reward}
    return {"online": {**rows, "bootstrap": torch.zeros((1, BATCH))}}


def optimum(state: Tensor) -> Tensor:
    """a*(s) in [-0.6, 0.6]: four of the components follow a number of the state, the others rest."""
    wanted = 0.6 * torch.tanh(state[..., :4])
    return torch.cat((wanted, torch.zeros((*wanted.shape[:-1], ACTION - 4))), dim=-1)


@torch.inference_mode()
def error(policy: GaussianPolicy, state: Tensor) -> float:
    """Mean distance of the mean action to the optimum."""
    features = policy.features({"state": state})
    action, _ = policy.sample(features, torch.zeros((len(state), ACTION)))
    return float((action - optimum(state[:, 0])).norm(dim=-1).mean())


def draw(distance: Mapping[str, Any], path: str) -> None:
    """Both curves, mean and range over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5))
    for name, curves in distance.items():
        updates = EVERY * np.arange(1, curves.shape[1] + 1)
        axes.plot(updates, curves.mean(axis=0), label=name)
        axes.fill_between(updates, curves.min(axis=0), curves.max(axis=0), alpha=0.2)
    axes.set(xlabel="updates", ylabel="distance to the best action")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
