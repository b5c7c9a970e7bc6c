"""robot-rl deploy checkpoint=... robot=...: a trained policy on an arm, after looking twice."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import (
    at_least,
    checkpoint_env,
    closing,
    closing_human,
    companions,
    confirm_resets,
    load_policy,
    make_env,
    make_human,
    with_task,
)
from robot_rl.apps.findings import FAIL, WARN, Finding, report
from robot_rl.apps.folders import run_folder
from robot_rl.apps.judging import judged, score_extras, scored, verdicts
from robot_rl.apps.preflight import look, waived
from robot_rl.errors import CheckpointError, ConfigError

completed = with_task  # deploy robot=bridge: the arm is named, the task is the checkpoint's


@dataclass
class Config:
    """Types of the keys in conf/deploy.yaml."""

    root: str
    checkpoint: str
    name: str | None
    episodes: int
    first_seed: int
    retries: int
    dry_run: bool
    dry_steps: int
    speed: float
    confirm: str | None
    classifier: str | None
    accept: list[str]
    changes: dict[str, Any]
    least_disk_gb: float
    threads: int


def run(config: Any) -> None:
    """Preflight and dry run, then the episodes, the first one slowed; a table, and where the log and episodes are."""
    import torch

    at_least(config, episodes=1, first_seed=0, retries=0, dry_steps=2, threads=1)
    if not 0.0 < config.speed <= 1.0:
        raise ConfigError(f"speed={config.speed}", limit="above 0, up to 1")
    torch.set_num_threads(config.threads)
    checkpoint, node = checkpoint_env(config, "deploy", config.checkpoint)
    folder = run_folder(config.root, config.name or f"{_run_name(checkpoint)}_deployed")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        env = make_env(node)
        opened.enter_context(closing(env))
        policy = _load(config, checkpoint, env)
        _preflight(config, checkpoint, env, policy, folder)
        if config.dry_run:
            print("dry run: nothing has moved. Without dry_run=true the episodes begin")
            return
        human = opened.enter_context(closing_human(make_human(config, env.spec)))
        confirm_resets(config, env, human)
        env = judged(config, env)
        _Deployment(config, env, policy, human, checkpoint, folder).run()


def _load(config: Any, checkpoint: Path, env: Any) -> Any:
    """The policy, checked against the env; a mismatch is shown as the preflight's finding."""
    try:
        return load_policy(str(checkpoint), env.spec, list(config.accept), dict(config.changes), config.get("policy"))
    except CheckpointError as error:
        report("preflight", [Finding("spec", FAIL, error.what, error.remedy or "")])
        raise


def _preflight(config: Any, checkpoint: Path, env: Any, policy: Any, folder: Path) -> None:
    """Print the table. Raises RobotRlError when a check failed."""
    from robot_rl.learning.checkpoint import read_spec
    from robot_rl.runtime.dry_run import dry_run

    robot = getattr(env, "robot", None)
    if robot is None:
        raise ConfigError("this task is a benchmark's own simulator", remedy="Use robot-rl evaluate")
    found = dry_run(env, robot, policy, config.dry_steps)
    findings = [*look(env.spec, read_spec(checkpoint), found, folder, config.least_disk_gb)]
    findings += [Finding("waived", WARN, told) for told in waived(config)]
    (folder / "preflight.json").write_text(json.dumps([asdict(each) for each in findings], indent=1))
    report("preflight", findings)


class _Deployment:
    """Episodes one after another, recorded, their cycles logged."""

    def __init__(self, config: Any, env: Any, policy: Any, human: Any, checkpoint: Path, folder: Path) -> None:
        from robot_rl.data.store import EpisodeStore
        from robot_rl.runtime.cycle_log import CycleLog
        from robot_rl.runtime.recorder import EpisodeRecorder

        self._config, self._env, self._policy, self._human, self._folder = config, env, policy, human, folder
        self._store = EpisodeStore.open_or_create(folder / "store", spec=env.spec, name=folder.name)
        metadata = {"task": env.spec.task, "source": "policy", "policies": [str(checkpoint)]}
        recorder = EpisodeRecorder(self._store, metadata, extras={**policy.spec.record, **score_extras(env)})
        self._log = CycleLog(folder / "cycles.csv")
        self._listeners = [scored(recorder, env), self._log, *companions(human, env)]
        self._ends: list[Any] = []

    def run(self) -> None:
        """All episodes. A failed one is tried again from the same start ``retries`` times; stopped by the person, the
        run ends."""
        from robot_rl.runtime.tally import OPERATOR

        first = self._config.first_seed
        for seed in range(first, first + self._config.episodes):
            if self._attempts(seed).reason == OPERATOR:
                break
        self._report()

    def _attempts(self, seed: int) -> Any:
        """The start of ``seed``, until it succeeds or was tried often enough; how it ended."""
        from robot_rl.runtime.tally import OPERATOR

        end = self._episode(seed, 0)
        for attempt in range(1, 1 + self._config.retries):
            if end.success or end.reason == OPERATOR:
                break
            end = self._episode(seed, attempt)
        return end

    def _episode(self, seed: int, attempt: int) -> Any:
        from robot_rl.runtime.rollout import run_episode
        from robot_rl.runtime.slowed import Slowed

        inner = getattr(self._env, "inner", self._env)
        steps, slow = inner.max_steps, not self._ends and self._config.speed < 1.0
        policy = Slowed(self._policy, self._config.speed) if slow else self._policy
        inner.max_steps = math.ceil(steps / self._config.speed) if slow else steps
        try:
            end = run_episode(self._env, policy, self._listeners, seed=seed, human=self._human)
        finally:
            inner.max_steps = steps
        self._ends.append(end)
        told = f"at {self._config.speed:.0%} of its speed" if slow else f"attempt {attempt + 1}" if attempt else ""
        print(f"seed {seed}: {end.reason} after {end.length} steps {told}".rstrip(), flush=True)
        return end

    def _report(self) -> None:
        from rich.console import Console
        from rich.table import Table

        from robot_rl.runtime.statistics import clopper_pearson

        figures, judged_ends = self._log.figures, [end for end in self._ends if end.success is not None]
        successes = sum(bool(end.success) for end in judged_ends)
        low, high = clopper_pearson(successes, max(len(judged_ends), 1))
        table = Table("episodes", "success", "95 % interval", "seen p99", "decision p50", "p99", "to send p99", "late")
        table.add_row(
            str(len(self._ends)), f"{successes}/{len(judged_ends)}", f"{low:.2f} to {high:.2f}",
            f"{figures.seen_p99_ms:.1f} ms", f"{figures.decision_p50_ms:.1f} ms", f"{figures.decision_p99_ms:.1f} ms",
            f"{figures.to_send_p99_ms:.1f} ms", str(figures.overruns),
        )  # fmt: skip
        console = Console()
        console.print(table)
        print(verdicts(self._listeners[0]), end="")
        console.print(f"cycles {self._log.path}\nepisodes {self._store.root}", soft_wrap=True)


def _run_name(checkpoint: Path) -> str:
    folder = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
    return folder.name
