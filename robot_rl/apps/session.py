"""robot-rl session task=... demos=...: reinforcement learning on the arm, actor and learner in one command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import at_least, closing, given_env, make_env, make_human
from robot_rl.apps.learning_side import commanded_steps, make_training, open_run, plain, run_folder
from robot_rl.errors import CheckpointError, ConfigError, valid_choices

MODES = ("lockstep",)


@dataclass
class Config:
    """Types of the keys in conf/session.yaml."""

    root: str
    demos: str
    draw_demos: bool
    name: str | None
    mode: str
    resume: bool
    seed: int
    threads: int
    steps: int
    batch: int
    update_ratio: float
    group: int
    start: int
    publish_every: int
    log_every: int
    diagnose_every: int
    checkpoint_every: int
    keep: int
    first_seed: int
    evaluate_every: int
    evaluate_episodes: int
    evaluate_seed: int
    stop_success: float | None


def run(config: Any) -> None:
    """Learn ``config.policy`` with ``config.algorithm`` for ``config.steps`` control steps; ends with a table."""
    import torch

    from robot_rl.learning.training_plots import plot_learning_curve

    at_least(
        config,
        steps=1,
        batch=2,
        group=1,
        keep=1,
        threads=1,
        evaluate_episodes=1,
        evaluate_seed=0,
        start=0,
        first_seed=0,
    )
    if config.mode not in MODES:
        raise ConfigError(f"mode={config.mode}", remedy=valid_choices(config.mode, MODES))
    torch.set_num_threads(config.threads)
    node = given_env(config, "session")
    folder = run_folder(config)
    envs = [make_env(node)] + ([make_env(node)] if config.evaluate_every else [])
    with closing(*envs):
        session = _lockstep(config, envs, folder)
        session.run()
    plot_learning_curve(folder)
    _report(folder, session)


def _lockstep(config: Any, envs: list[Any], folder: Path) -> Any:
    """The session, resumed where there is something to go on from."""
    from robot_rl.data.store import EpisodeStore
    from robot_rl.learning.lockstep_session import LockstepSession, SessionSchedule, Turns, rewind
    from robot_rl.learning.targets import build
    from robot_rl.runtime.actor import Actor, NewestPolicy
    from robot_rl.runtime.recorder import EpisodeRecorder
    from robot_rl.transport.local import LocalTransport

    spec = envs[0].spec
    if not spec.simulated:
        raise ConfigError("in lockstep the arm waits for the learner after every step", limit="simulated robots")
    run, resuming = open_run(config, folder)
    store = EpisodeStore.open_or_create(folder / "store", spec=spec, name=folder.name)
    rewind(store, _recorded(folder) if resuming else 0)
    transport = LocalTransport(store)
    training = make_training(config, spec, run, store, transport)
    acting, scored = (build(plain(config.policy), env_spec=spec) for _ in range(2))
    recorder = EpisodeRecorder(store, {"task": spec.task, "source": "policy", "policies": ["online"]})
    listeners = [recorder, Turns(recorder, training)]
    human = make_human(config, spec)
    policy = NewestPolicy(acting, transport)
    actor = Actor(envs[0], policy, listeners, next_seed=config.first_seed, human=human)
    session = LockstepSession(
        actor,
        training,
        SessionSchedule(config.steps, config.checkpoint_every, config.evaluate_every, config.stop_success),
        evaluate=_evaluation(config, envs[1], scored) if config.evaluate_every else None,
        on_episode=_tell,
    )
    if resuming:
        print(f"resuming at step {session.resume()}")
        if human is not None:
            human.steps = commanded_steps(store)
    return session


def _recorded(folder: Path) -> int:
    """Episodes recorded when the newest checkpoint was made."""
    from robot_rl.learning.checkpoint import find_checkpoint, read_manifest

    manifest = read_manifest(find_checkpoint(folder))
    if "episodes" not in manifest:
        raise CheckpointError(f"run {folder} was not made in lockstep", remedy="Resume it with robot-rl learner")
    return int(manifest["episodes"])


def _evaluation(config: Any, env: Any, policy: Any) -> Any:
    """Acting state -> success of the mean action on the seeds for choosing."""
    from robot_rl.runtime.evaluation import evaluate

    seeds = range(config.evaluate_seed, config.evaluate_seed + config.evaluate_episodes)

    def score(state: Mapping[str, Any]) -> dict[str, float]:
        policy.load_state_dict(state)
        report = evaluate(env, policy, seeds)
        return {
            "score": report.success_rate,
            "success": report.success_rate,
            "episodes": len(report.episodes),
            "mean_length": report.mean_length,
        }

    return score


def _tell(end: Any, counters: Mapping[str, float]) -> None:
    """One line per episode."""
    shown = "  ".join(
        f"{name} {counters[name]:.3g}" for name in ("q", "entropy", "temperature", "update_ratio") if name in counters
    )
    print(
        f"episode {counters['episodes']:4.0f}  {end.length:3d} steps  {end.reason:<10}  step {counters['steps']:6.0f}"
        f"  {counters['robot_minutes']:5.1f} robot min  {shown}",
        flush=True,
    )


def _report(folder: Path, session: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    from robot_rl.learning.training_run import read_rows
    from robot_rl.runtime.statistics import clopper_pearson

    rows = read_rows(folder / "evaluations.jsonl")
    table = Table("steps", "robot minutes", "success", "95 % interval")
    for row in rows[-5:]:
        trials = int(row["episodes"])
        low, high = clopper_pearson(round(row["success"] * trials), trials)
        minutes = f"{row['robot_minutes']:.1f}"
        table.add_row(str(row["step"]), minutes, f"{row['success']:.2f}", f"{low:.2f} to {high:.2f}")
    console = Console()
    console.print(table)
    console.print(f"{session.episodes} episodes, {session.training.steps} steps -> {folder}", soft_wrap=True)
