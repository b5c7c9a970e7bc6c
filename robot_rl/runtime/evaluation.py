"""Evaluation on fixed seeds, and the paired comparison of two evaluations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError, RobotRlError
from robot_rl.interfaces import Env, Listener, Policy
from robot_rl.runtime.lockstep import run_in_lockstep
from robot_rl.runtime.rollout import run_episode
from robot_rl.runtime.scores import EpisodeScore, EvaluationReport
from robot_rl.runtime.statistics import bootstrap_mean, mcnemar_exact, sign_flip_test
from robot_rl.types import Decision, EnvSpec, EpisodeEnd, Observation, StepRow

FIRST_SEED = 100_000
"""Reset seeds of reported evaluations start here; checkpoints are chosen on seeds from 200000."""


def evaluate(
    env: Env | Sequence[Env],
    policy: Policy,
    seeds: Iterable[int],
    *,
    name: str = "policy",
    listeners: Sequence[Listener] = (),
    finished: Mapping[int, EpisodeScore] | None = None,
    on_episode: Callable[[EpisodeScore], None] = lambda episode: None,
    meta: Mapping[str, Any] | None = None,
) -> EvaluationReport:
    """Deterministic episodes on ``seeds``, without exploration.

    Raises ConfigError for an env in which nothing tells a success.

    Several envs run in lockstep (robot_rl.runtime.lockstep) with one batched policy call per replanning round;
    listeners are for a single env. ``finished`` are episodes of an interrupted evaluation, which are not run again;
    ``on_episode`` hears of each new one.
    """
    wanted = list(dict.fromkeys(int(seed) for seed in seeds))
    if not wanted:
        raise ConfigError("an evaluation needs at least one seed", remedy="Ask for episodes=1 or more")
    scores = {seed: score for seed, score in (finished or {}).items() if seed in wanted}
    missing = [seed for seed in wanted if seed not in scores]
    envs = list(env) if isinstance(env, Sequence) else [env]
    check_judged(*envs)
    if len(envs) > 1 and listeners:
        raise ConfigError("listeners hear one env at a time", remedy="Evaluate with a single env to record or film")
    if len(envs) == 1:
        fresh = (_run_one(envs[0], policy, listeners, seed) for seed in missing)
    else:
        fresh = run_in_lockstep(envs, policy, missing)
    for score in fresh:
        scores[score.seed] = score
        on_episode(score)
    return EvaluationReport(name, envs[0].spec.task, tuple(scores[seed] for seed in wanted), dict(meta or {}))


def check_judged(*envs: Env) -> None:
    """Raise ConfigError for an env that tells no success: every score would be 0."""
    if not all(getattr(env, "judges", True) for env in envs):
        raise ConfigError(
            "nothing tells a success here: env.rule=false, and no classifier",
            remedy="Name a classifier=, or set env.rule=true where the robot measures what the rule reads",
        )


class _BestReward:
    """Listener that keeps the best reward of the episode."""

    def __init__(self) -> None:
        self.best = -np.inf

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None: ...

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        self.best = max(self.best, row.reward)

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None: ...


def _run_one(env: Env, policy: Policy, listeners: Sequence[Listener], seed: int) -> EpisodeScore:
    best = _BestReward()
    end = run_episode(env, policy, [*listeners, best], seed=seed)
    return EpisodeScore(seed, bool(end.success), float(best.best), end.total_reward, end.length, end.reason)


@dataclass(frozen=True)
class PairedComparison:
    """Two policies on the same seeds; ``first`` minus ``second``."""

    first: str
    second: str
    pairs: int
    both: int
    only_first: int
    only_second: int
    neither: int
    p_success: float  # exact McNemar
    best_reward_difference: float
    best_reward_interval_95: tuple[float, float]
    p_best_reward: float  # sign flips

    @property
    def success_difference(self) -> float:
        return (self.only_first - self.only_second) / self.pairs

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "success_difference": self.success_difference}


def compare(first: EvaluationReport, second: EvaluationReport) -> PairedComparison:
    """Compare over the seeds that both have. Raises RobotRlError when there are none, or the tasks differ."""
    if first.task != second.task:
        raise RobotRlError(f"'{first.policy}' was evaluated on {first.task}, '{second.policy}' on {second.task}")
    others = {episode.seed: episode for episode in second.episodes}
    pairs = [(episode, others[episode.seed]) for episode in first.episodes if episode.seed in others]
    if not pairs:
        raise RobotRlError("the two evaluations share no seed", remedy="Evaluate both on the same seeds")
    counts = Counter((one.success, other.success) for one, other in pairs)
    gains = np.array([one.best_reward - other.best_reward for one, other in pairs])
    return PairedComparison(
        first.policy,
        second.policy,
        len(pairs),
        counts[True, True],
        counts[True, False],
        counts[False, True],
        counts[False, False],
        mcnemar_exact(counts[True, False], counts[False, True]),
        float(gains.mean()),
        bootstrap_mean(gains),
        sign_flip_test(gains),
    )
