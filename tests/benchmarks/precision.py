"""Learning curves of RLPD in float32 and in bfloat16, both compiled: the same problem and seeds, one over the other.

    python -m tests.benchmarks.precision [root=.] [problems=bandit,lift] [seeds=10] [updates=1500] [lift_seeds=4]
        [steps=4000] [compiled=true]

``bandit``: a contextual bandit of reward 1 - |a - a*(s)|^2 / 8, where a* moves with four of the state's 18 numbers;
both precisions are given the same draws, so that a pair of curves differs by the precision alone. The mean action is
scored by its distance to the known optimum on 512 states that are never trained on.
``lift``: sessions of the recipe, which choose their own data, so that equal seeds give other runs; the mean action is
scored by its success on 20 seeds every 500 control steps. Finished sessions are kept.
The last line is JSON, by problem:
    float32, bfloat16   mean over seeds: of the distance over the last fifth of the updates; of success over the session
    difference          of bfloat16 from float32, its mean over pairs of a seed
    interval            of that mean, 95 % (Student's t)
    gap          mean over points and seeds of |curve in bfloat16 - curve in float32|
    spread       the same between seeds in float32: what chance alone makes of a curve
    entropy_gap  bandit: |entropy in bfloat16 - in float32| over the last fifth
    figure       of all curves, in <root>/runs/precision
"""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from policies.gaussian import GaussianPolicy
from policies.q_ensemble import QEnsemble
from robot_rl.apps.main import run_command
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.learning.rlpd import Rlpd
from robot_rl.learning.training_run import read_rows
from robot_rl.types import Array
from tests.benchmarks.learner_updates import ACTION, BATCH, SPEC, STATE

PRECISIONS = ("float32", "bfloat16")
EVERY = 25  # updates between two points of a bandit's curve
EVALUATE_EVERY = 500  # control steps between two points of a session's
DEMOS = 20
Curves = dict[str, Array]  # by precision [seeds, points]


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    torch.set_num_threads(1)
    problems = arguments.get("problems", "bandit,lift").split(",")
    for problem in problems:
        if problem not in ("bandit", "lift"):
            raise ConfigError(f"problem '{problem}'", remedy=valid_choices(problem, ("bandit", "lift")))
    found: dict[str, Any] = {}
    drawn: dict[str, tuple[Curves, int, str, str]] = {}
    if "bandit" in problems:
        curves, found["bandit"] = bandits(arguments)
        drawn["bandit"] = curves, EVERY, "updates", "distance to the best action"
    if "lift" in problems:
        curves, found["lift"] = sessions(arguments)
        drawn["lift"] = curves, EVALUATE_EVERY, "control steps", "success"
    return {**found, "figure": str(draw(drawn, Path(arguments.get("root", ".")) / "runs" / "precision"))}


def compared(curves: Curves, scores: Curves) -> dict[str, Any]:
    """What the curves, and a score [seeds] of each, say of the two precisions."""
    difference = scores["bfloat16"] - scores["float32"]
    reach = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference) if len(difference) > 1 else np.nan
    pairs = [np.abs(a - b).mean() for a, b in itertools.combinations(curves["float32"], 2)]
    return {
        **{name: round(float(value.mean()), 4) for name, value in scores.items()},
        "difference": round(float(difference.mean()), 4),
        "interval": [round(float(difference.mean() + sign * reach), 4) for sign in (-1, 1)],
        "gap": round(float(np.abs(curves["bfloat16"] - curves["float32"]).mean()), 4),
        "spread": round(float(np.mean(pairs)), 4) if pairs else 0.0,
    }


# --- the bandit ------------------------------------------------------------------------------------------------------


def bandits(arguments: Mapping[str, str]) -> tuple[Curves, dict[str, Any]]:
    """Curves of the distance to the optimum, and what they say."""
    updates, seeds = int(arguments.get("updates", "1500")), range(int(arguments.get("seeds", "10")))
    compiled = arguments.get("compiled", "true") == "true"
    runs = {name: np.stack([bandit(name, seed, updates, compiled) for seed in seeds]) for name in PRECISIONS}
    distance, entropy = ({name: value[:, row] for name, value in runs.items()} for row in (0, 1))
    last = max(1, distance["float32"].shape[1] // 5)
    gap = abs(float((entropy["bfloat16"] - entropy["float32"])[:, -last:].mean()))
    scores = {name: value[:, -last:].mean(axis=1) for name, value in distance.items()}
    return distance, {**compared(distance, scores), "entropy_gap": round(gap, 4)}


def bandit(precision: str, seed: int, updates: int, compiled: bool) -> Array:
    """Distance to the optimum, and entropy, every ``EVERY`` updates, [2, points]."""
    torch.compiler.reset()  # of a limited number of compiled learners
    policy = GaussianPolicy(SPEC, seed=seed)
    policy.fit_normalizer({"obs/state": np.random.default_rng(seed).normal(size=(512, STATE)).astype(np.float32)})
    critic = functools.partial(QEnsemble, members=2)
    learner = Rlpd(policy, critic, demonstrations=False, precision=precision, compiled=compiled, seed=seed)
    held_out = torch.randn((512, 1, STATE), generator=torch.Generator().manual_seed(10_000))
    points = []
    for step in range(updates):
        metrics = learner.update(batch(seed * updates + step))
        if step % EVERY == EVERY - 1:
            points.append((error(policy, held_out), metrics["entropy"]))
    return np.array(points).T


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


# --- sessions --------------------------------------------------------------------------------------------------------


def sessions(arguments: Mapping[str, str]) -> tuple[Curves, dict[str, Any]]:
    """Curves of success, and what they say."""
    root, data = Path(arguments.get("root", ".")), f"lift_demos{DEMOS}"
    run_command("record", ["task=lift", f"root={root}", f"name={data}", f"episodes={DEMOS}"])
    seeds = range(int(arguments.get("lift_seeds", "4")))
    curves = {name: np.stack([session(root, data, name, seed, arguments) for seed in seeds]) for name in PRECISIONS}
    return curves, compared(curves, {name: value.mean(axis=1) for name, value in curves.items()})


def session(root: Path, data: str, precision: str, seed: int, arguments: Mapping[str, str]) -> Array:
    """Success at every evaluation."""
    torch.compiler.reset()
    name, steps = f"precision_{precision}_seed{seed}", int(arguments.get("steps", "4000"))
    words = [f"root={root}", f"demos={data}", f"name={name}", f"seed={seed}", f"first_seed={1000 + 10_000 * seed}"]
    words += [f"steps={steps}", f"evaluate_every={EVALUATE_EVERY}", "evaluate_episodes=20", "diagnose_every=0"]
    words += [f"algorithm.precision={precision}", f"algorithm.compiled={arguments.get('compiled', 'true')}"]
    run_command("session", ["task=lift", *words, "resume=true"])
    rows = read_rows(root / "runs" / name / "evaluations.jsonl")
    return np.array([row["success"] for row in rows])[: steps // EVALUATE_EVERY]


def draw(problems: Mapping[str, tuple[Curves, int, str, str]], folder: Path) -> Path:
    """Curves of both precisions, mean and range over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, len(problems), figsize=(5 * len(problems), 3.5), squeeze=False)
    for axes, (title, (curves, every, counted, scored)) in zip(places[0], problems.items(), strict=True):
        for name, values in curves.items():
            at = every * np.arange(1, values.shape[1] + 1)
            axes.plot(at, values.mean(axis=0), label=name)
            axes.fill_between(at, values.min(axis=0), values.max(axis=0), alpha=0.2)
        axes.set(xlabel=counted, ylabel=scored, title=title)
        axes.legend()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "precision.png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return folder / "precision.png"


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
