"""Does re-ranking a base's chunks by value help, and not less with more of them (learning.md, section 7)? Resumable.

    python -m tests.benchmarks.reranking task=peg_insert|pusht base=runs/<run> [root=.] [algorithm=iql|calql]
        [critics=3] [steps=<the recipe's>] [rollouts=320] [episodes=700] [batch=20]

Takes the base's demonstrations, where they were judged, records ``rollouts`` episodes of the base with failures, trains
``critics`` critics and as many that were shuffled, and evaluates base, controls and K = 1, 4, 16, 64 on nested noise on
the same reset seeds from 100000, of which every critic has its equal share, ``batch`` episodes side by side. Medoid and
random choose among as many as are judged. Finished parts are not done again. The last line is JSON:
    task, base_run, algorithm, critics, episodes
    base, zero_noise, half_noise, medoid, random_of_k     success
    best_control                                          the highest of w = 0, half noise and medoid
    success_1, success_4, success_16, success_64          of the re-ranked base
    equal_at_1                  share of the episodes that K = 1 ends as the base does; all, at equal batch shape
    gain, gain_interval, gain_p K = 16 against the best control on the same seeds; bootstrap 95 %, exact McNemar
    fall, fall_lower_95         success at K = 64 minus that at 16
    shuffled_gain, shuffled_upper_95                      of the shuffled critics at K = 16 against the base
    q_minus_return, rank_correlation, rank_between_episodes, dq_da   on episodes held out, by critic
    p50_ms                      of a plan by K, wall time: of a base alone where K is 1
    train_minutes               of each critic, wall time
    passed                      gain with p < 0.05, fall_lower_95 > -0.05, shuffled_upper_95 < 0.05
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from policies.reranked import Reranked
from robot_rl.apps.main import run_command
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, read_manifest, read_spec
from robot_rl.learning.training_run import read_rows
from robot_rl.runtime.evaluation import FIRST_SEED, compare
from robot_rl.runtime.scores import EvaluationReport
from robot_rl.runtime.statistics import bootstrap_mean, mcnemar_exact
from robot_rl.types import ActContext
from tests.benchmarks.base import CONTROLS

CANDIDATES, JUDGED = (1, 4, 16, 64), 16
AMONG_K = ("medoid", "random_of_k")
FIRST_ROLLOUT = 10_000  # reset seeds for training count from 0, those of demonstrations first
TOLD = ("q_minus_return", "rank_correlation", "rank_between_episodes", "dq_da")


@dataclass(frozen=True)
class Setting:
    """What is the same for all that is trained and evaluated."""

    root: Path
    task: str
    base: Path
    algorithm: str
    data: str
    episodes: int
    batch: int

    @property
    def name(self) -> str:
        """Folder of the evaluations below <root>/runs; the critics' begin with it."""
        return f"{self.data}_{self.algorithm}"


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    if not {"task", "base"} <= arguments.keys():
        raise ConfigError("task= and base= must be given", remedy="base=runs/peg_insert_base, of tests.benchmarks.base")
    root, base = Path(arguments.get("root", ".")), find_checkpoint(Path(arguments["base"]))
    count, steps = int(arguments.get("critics", "3")), [f"steps={arguments['steps']}"] if "steps" in arguments else []
    data = collect(root, arguments["task"], base, int(arguments.get("rollouts", "320")))
    setting = Setting(
        root,
        arguments["task"],
        base,
        arguments.get("algorithm", "iql"),
        data,
        int(arguments.get("episodes", "700")),
        int(arguments.get("batch", "20")),
    )
    critics = [train(setting, str(seed), seed, *steps) for seed in range(count)]
    shuffled = [train(setting, f"shuffled_{seed}", seed, *steps, "algorithm.shuffled=true") for seed in range(count)]
    reports = {"base": evaluate(setting, "base", [], setting.episodes)}
    for control in (*CONTROLS, "random_of_k"):
        words = [f"policy={control}", *([f"policy.candidates={JUDGED}"] if control in AMONG_K else [])]
        reports[control] = evaluate(setting, control, words, setting.episodes)
    for many in CANDIDATES:
        reports[f"success_{many}"] = shared(setting, critics, many)
    reports["shuffled"] = shared(setting, shuffled, JUDGED)
    result = {"task": setting.task, "base_run": str(base), "algorithm": setting.algorithm}
    result |= {"critics": count, "episodes": setting.episodes}
    result |= summary(reports) | told(critics) | {"p50_ms": latency(base, critics[0])}
    (root / "runs" / setting.name / "reranking.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def collect(root: Path, task: str, base: Path, rollouts: int) -> str:
    """Name of the dataset with the base's judged demonstrations and its own episodes."""
    name, manifest = f"{task}_value", read_manifest(base)
    store = EpisodeStore.open_or_create(root / "data" / name, spec=read_spec(base), name=name)
    demonstrations = EpisodeStore.open(root / "data" / manifest["data"]["dataset"])
    judged = [info.id for info in demonstrations.infos() if info.success is not None]
    for id in judged:
        if id not in store.ids(excluded=True):
            store.write(demonstrations.read(id))
    words = [f"task={task}", f"root={root}", f"name={name}", "teleop=trained", f"teleop.path={base}"]
    words += ["keep_failures=true", f"episodes={len(judged) + rollouts}", f"first_seed={FIRST_ROLLOUT}"]
    run_command("record", words)
    return name


def train(setting: Setting, label: str, seed: int, *more: str) -> Path:
    """Run folder of a critic, by the recipe of task and algorithm; goes on where it was stopped."""
    words = [f"task={setting.task}", f"algorithm={setting.algorithm}", f"base={setting.base}", f"data={setting.data}"]
    words += [f"root={setting.root}", f"name={setting.name}_{label}", f"seed={seed}"]
    run_command("train", [*words, "resume=true", *more])
    return setting.root / "runs" / f"{setting.name}_{label}"


def evaluate(setting: Setting, label: str, words: list[str], episodes: int, skip: int = 0) -> EvaluationReport:
    """The base, with what acts around it, on reset seeds from 100000 + ``skip``."""
    folder = setting.root / "runs" / setting.name / label
    given = [f"task={setting.task}", f"checkpoint={setting.base}", f"episodes={episodes}", "videos=0"]
    given += [f"first_seed={FIRST_SEED + skip}", f"batch={setting.batch}", f"root={setting.root}"]
    run_command("evaluate", [*given, f"name={setting.name}/{label}", *words])
    return EvaluationReport.load(max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime))


def shared(setting: Setting, critics: list[Path], many: int) -> EvaluationReport:
    """K candidates on all seeds, of which each critic has its share: pairs stay independent of one another."""
    borders = np.linspace(0, setting.episodes, len(critics) + 1).round().astype(int).tolist()
    parts = []
    for critic, first, last in zip(critics, borders, borders[1:], strict=False):
        words = ["policy=reranked", f"policy.critic={find_checkpoint(critic)}", f"policy.candidates={many}"]
        parts.append(evaluate(setting, f"{critic.name}_k{many}", words, last - first, first))
    scores = tuple(score for part in parts for score in part.episodes)
    return EvaluationReport(f"{setting.name} K={many}", parts[0].task, scores)


def summary(reports: Mapping[str, EvaluationReport]) -> dict[str, Any]:
    """What learning.md asks of re-ranking."""
    best = max(CONTROLS, key=lambda control: reports[control].success_rate)
    judged, most = reports[f"success_{JUDGED}"], reports[f"success_{CANDIDATES[-1]}"]
    gains, falls = differences(judged, reports[best]), differences(most, judged)
    chance = differences(reports["shuffled"], reports["base"])
    ended = [[(score.success, score.length) for score in reports[name].episodes] for name in ("base", "success_1")]
    p = mcnemar_exact(int((gains > 0).sum()), int((gains < 0).sum()))
    lower, upper = bootstrap_mean(falls)[0], bootstrap_mean(chance)[1]
    passed = gains.mean() > 0 and p < 0.05 and lower > -0.05 and upper < 0.05
    return {
        **{name: round(report.success_rate, 4) for name, report in reports.items() if name != "shuffled"},
        "best_control": best,
        "equal_at_1": round(float(np.mean([one == other for one, other in zip(*ended, strict=True)])), 4),
        "gain": round(float(gains.mean()), 4),
        "gain_interval": [round(value, 4) for value in bootstrap_mean(gains)],
        "gain_p": round(p, 5),
        "fall": round(float(falls.mean()), 4),
        "fall_lower_95": round(lower, 4),
        "shuffled_gain": round(float(chance.mean()), 4),
        "shuffled_upper_95": round(upper, 4),
        "passed": bool(passed),
    }


def differences(first: EvaluationReport, second: EvaluationReport) -> np.ndarray:
    """Success of ``first`` minus that of ``second``, seed by seed."""
    pairs = compare(first, second)  # refuses reports that share no seed
    won = {score.seed: score.success for score in second.episodes}
    found = np.array([float(score.success) - won[score.seed] for score in first.episodes if score.seed in won])
    assert len(found) == pairs.pairs
    return found


def told(critics: list[Path]) -> dict[str, Any]:
    """What the critics' own held-out episodes say of them."""
    last = [read_rows(critic / "evaluations.jsonl")[-1] for critic in critics]
    minutes = [round(read_rows(critic / "metrics.jsonl")[-1]["wall_s"] / 60, 1) for critic in critics]
    return {**{name: [round(row[name], 4) for row in last] for name in TOLD}, "train_minutes": minutes}


def latency(base: Path, critic: Path, plans: int = 50) -> dict[str, float]:
    """Median milliseconds of a plan by K, one row."""
    policy, found = load_checkpoint(base), {}
    for many in CANDIDATES:
        reranked = Reranked(policy, str(critic), many)
        spec = reranked.spec
        window = {
            key: np.zeros((1, spec.history, *value.shape), value.dtype) for key, value in spec.observation.items()
        }
        times = []
        for _ in range(plans):
            began = time.perf_counter()
            reranked.act(window, ActContext.start(1))
            times.append(time.perf_counter() - began)
        found[str(many)] = round(1e3 * float(np.median(times)), 2)
    return found


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
