"""robot-rl session task=... demos=...: reinforcement learning on the arm, actor and learner in one command."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import (
    at_least,
    closing,
    closing_human,
    companions,
    confirm_resets,
    given_env,
    make_env,
    make_human,
)
from robot_rl.apps.judging import by_rule, check_evaluated, judged, score_extras, scored, verdicts
from robot_rl.apps.learning_side import (
    LearningKeys,
    check_learning_keys,
    commanded_steps,
    make_training,
    open_run,
    run_folder,
)
from robot_rl.apps.resume import with_words_of_run
from robot_rl.apps.session_processes import run_processes
from robot_rl.apps.steering_start import tell_start
from robot_rl.errors import CheckpointError, ConfigError, valid_choices

LOCKSTEP, PROCESSES = "lockstep", "processes"
MODES = (LOCKSTEP, PROCESSES)
completed = with_words_of_run  # session resume=true name=<run>: as it was started


@dataclass
class Config(LearningKeys):
    """Types of the keys in conf/session.yaml."""

    mode: str | None
    wait_s: float
    learner_timeout_s: float | None
    retries: int
    restarts: int
    keep_local: bool
    first_seed: int
    classifier: str | None
    confirm: str | None


def run(config: Any) -> None:
    """Learn ``config.policy`` with ``config.algorithm`` for ``config.steps`` control steps; ends with a table."""
    from robot_rl.learning.training_plots import plot_learning_curve

    check_learning_keys(config)
    at_least(config, first_seed=0, retries=0, restarts=0, learner_timeout_s=1)
    if config.mode not in (None, *MODES):
        raise ConfigError(f"mode={config.mode}", remedy=valid_choices(config.mode, MODES))
    node = given_env(config, "session")
    check_evaluated(config, node)
    folder = run_folder(config)
    if config.mode == PROCESSES or not _by_turns(config, node, folder):
        run_processes(config, folder)
    plot_learning_curve(folder)
    _report(folder)


def _by_turns(config: Any, node: Any, folder: Path) -> bool:
    """Run in lockstep, where ``mode`` and robot allow it; whether they did. Raises ConfigError."""
    import torch

    with ExitStack() as opened:
        env = make_env(node)
        opened.enter_context(closing(env))
        if not (env.spec.simulated and env.clock.stepped):
            if config.mode == LOCKSTEP:
                raise ConfigError(
                    "in lockstep the arm waits for the learner after every step",
                    limit="simulated robots whose time waits, not one behind a bridge",
                )
            return False
        envs = [judged(config, env)]
        opened.enter_context(closing(envs[0]))
        if config.evaluate_every:
            envs.append(judged(config, make_env(node)))
            opened.enter_context(closing(envs[1]))
        torch.set_num_threads(config.threads)
        session = _lockstep(config, envs, folder, opened)
        session.run()
        print(verdicts(session.actor.listeners[0]), end="")
    return True


def _lockstep(config: Any, envs: list[Any], folder: Path, opened: ExitStack) -> Any:
    """The session, resumed where there is something to go on from."""
    from robot_rl.data.store import EpisodeStore
    from robot_rl.learning.lockstep_session import LockstepSession, SessionSchedule, Turns, rewind
    from robot_rl.learning.targets import build
    from robot_rl.runtime.actor import Actor, NewestPolicy
    from robot_rl.runtime.recorder import EpisodeRecorder
    from robot_rl.transport.local import LocalTransport

    spec = envs[0].spec
    human = opened.enter_context(closing_human(make_human(config, spec)))
    confirm_resets(config, envs[0], human)
    run, resuming = open_run(config, folder)
    store = EpisodeStore.open_or_create(folder / "store", spec=spec, name=folder.name)
    rewind(store, _recorded(folder) if resuming else 0)
    transport = LocalTransport(store)
    training = make_training(config, spec, run, store, transport)
    acting, tried = (build(training.provenance.policy_config, env_spec=spec) for _ in range(2))
    if config.evaluate_every:
        tell_start(config, tried, by_rule(envs[1]), folder)
    metadata = {"task": spec.task, "source": "policy", "policies": ["online"]}
    recorder = EpisodeRecorder(store, metadata, extras={**acting.spec.record, **score_extras(envs[0])})
    listeners = [scored(recorder, envs[0]), Turns(recorder, training), *companions(human, envs[0])]
    policy = NewestPolicy(acting, transport)
    actor = Actor(envs[0], policy, listeners, next_seed=config.first_seed, human=human)
    session = LockstepSession(
        actor,
        training,
        SessionSchedule(config.steps, config.checkpoint_every, config.evaluate_every, config.stop_success),
        evaluate=_evaluation(config, by_rule(envs[1]), tried) if config.evaluate_every else None,
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
        arms = getattr(policy, "arms", None)  # of a policy that shares its episodes with a base
        opened = {}
        if arms is not None:
            arms.forced = True
            opened["success_open"] = evaluate(env, policy, seeds).success_rate
            arms.forced = False
        return {
            **opened,
            "score": report.success_rate,
            "success": report.success_rate,
            "episodes": len(report.episodes),
            "mean_length": report.mean_length,
        }

    return score


def _tell(end: Any, counters: Mapping[str, float]) -> None:
    """One line per episode."""
    shown = "  ".join(
        f"{name} {counters[name]:.3g}"
        for name in ("q", "entropy", "temperature", "update_ratio", "human_share")
        if name in counters
    )
    print(
        f"episode {counters['episodes']:4.0f}  {end.length:3d} steps  {end.reason:<10}  step {counters['steps']:6.0f}"
        f"  {counters['robot_minutes']:5.1f} robot min  {shown}",
        flush=True,
    )


def _report(folder: Path) -> None:
    """The last evaluations, and what was made of what."""
    from rich.console import Console
    from rich.table import Table

    from robot_rl.data.store import EpisodeStore
    from robot_rl.learning.checkpoint import find_checkpoint, read_manifest
    from robot_rl.learning.training_run import read_rows
    from robot_rl.runtime.statistics import clopper_pearson

    table = Table("steps", "robot minutes", "success", "95 % interval")
    for row in read_rows(folder / "evaluations.jsonl")[-5:]:
        trials = int(row["episodes"])
        low, high = clopper_pearson(round(row["success"] * trials), trials)
        minutes = f"{row['robot_minutes']:.1f}"
        table.add_row(str(row["step"]), minutes, f"{row['success']:.2f}", f"{low:.2f} to {high:.2f}")
    console = Console()
    console.print(table)
    episodes = len(EpisodeStore.open(folder / "store", recover=False).ids(excluded=True))
    manifest = read_manifest(find_checkpoint(folder))
    text = f"{episodes} episodes, {manifest['step']} steps, {manifest['updates']} updates -> {folder}"
    console.print(text, soft_wrap=True)
