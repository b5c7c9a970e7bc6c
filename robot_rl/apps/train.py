"""robot-rl train algorithm=... data=...: a policy from stored episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import at_least, closing, open_dataset, side_by_side
from robot_rl.apps.folders import dataset_folder, run_folder
from robot_rl.apps.learning_side import take_encoders
from robot_rl.apps.main import instantiate
from robot_rl.apps.recorded_env import env_of_training
from robot_rl.apps.resume import check_resumed, settings
from robot_rl.errors import ConfigError, StoreError


@dataclass
class Config:
    """Types of the keys in conf/train.yaml."""

    root: str
    data: str
    base: str | None
    encoders: str | None
    name: str | None
    resume: bool
    seed: int
    threads: int
    steps: int
    batch: int
    group: int
    log_every: int
    checkpoint_every: int
    keep: int
    evaluate_every: int
    evaluate_episodes: int
    evaluate_seed: int


def run(config: Any) -> None:
    """Train ``config.policy`` with ``config.algorithm`` on dataset ``config.data``; ends with a table."""
    import torch

    from robot_rl.learning.targets import build

    at_least(config, steps=1, batch=1, group=1, keep=1, threads=1, evaluate_episodes=1, evaluate_seed=0)
    torch.set_num_threads(config.threads)
    store = _store(config)
    if config.get("value"):  # the algorithm trains a critic of a base
        from robot_rl.apps.value_training import train as train_value

        train_value(config, store, _plain(config.value))
        return
    if "base" in config.policy:  # and a policy that acts around it
        from robot_rl.apps.steering_training import train as train_around

        train_around(config, store, _evaluation, _about, _report)
        return
    judges = config.get("judge")  # the algorithm trains one instead of a policy
    learner_config = _plain(judges or config.policy)
    if config.base and not judges:
        learner_config = _config_of(config.base)
    first, second = (build(learner_config, env_spec=store.spec) for _ in range(2))
    if judges:
        from robot_rl.apps.classifier_training import train
    elif hasattr(first, "windows"):
        train = _imitate
    else:
        raise ConfigError(
            f"{learner_config['_target_']} learns by acting", remedy="robot-rl session task=... demos=..."
        )
    train(config, store, learner_config, (first, second))


def _imitate(config: Any, store: Any, policy_config: Mapping[str, Any], policies: tuple[Any, Any]) -> None:
    """Train the first of two equal ``policies``; the other takes its averaged weights and is the one evaluated."""
    from robot_rl.data.windows import WindowSampler
    from robot_rl.learning.checkpoint import load_checkpoint
    from robot_rl.learning.offline_training import OfflineSchedule, OfflineTraining, Provenance
    from robot_rl.learning.training_plots import plot_losses, plot_samples
    from robot_rl.learning.training_run import TrainingRun

    (policy, acting), spec = policies, store.spec
    sampler = WindowSampler(
        store,
        policy.windows,
        batch=config.batch,
        seed=config.seed,
        images=_images(policy),
        where=(lambda info: bool(info.success)) if config.base else None,  # a session's store holds failures, too
    )
    folder = run_folder(config.root, config.name or f"{config.data}-seed{config.seed}")
    training_run = TrainingRun(folder, resume=config.resume, keep=config.keep)
    resuming = config.resume and training_run.resumable
    if resuming:
        saved = load_checkpoint(folder, spec)
        check_resumed(config, folder, policy_config)
        policy.load_state_dict(saved.state_dict())  # its statistics are never fitted again
    elif config.base:
        policy.load_state_dict(load_checkpoint(Path(config.base), spec).state_dict())  # and its statistics
    else:
        policy.fit_normalizer(_rows(sampler))
    if not resuming:
        take_encoders(config, policy)
    learner = instantiate(config.algorithm)(policy)
    evaluate, envs = _evaluation(config, acting) if config.evaluate_every else (None, [])
    training = OfflineTraining(
        learner,
        sampler,
        training_run,
        OfflineSchedule(config.steps, config.group, config.log_every, config.checkpoint_every, config.evaluate_every),
        Provenance(policy_config, spec, _about(config, store, sampler.episodes, policy.normalizer.sha256())),
        evaluate=evaluate,
    )
    if resuming:
        print(f"resuming at step {training.resume()}")
    parameters = sum(value.numel() for value in policy.module.parameters())
    print(f"{len(sampler.episodes)} episodes, {len(sampler)} windows, {parameters / 1e6:.1f} M parameters -> {folder}")
    with closing(*envs):
        checkpoint = training.train()
    acting.load_state_dict(learner.acting_state())
    plot_losses(folder)
    plot_samples(acting, sampler, folder / "samples.png")
    _report(folder, checkpoint)


def _config_of(base: str) -> dict[str, Any]:
    """Of the policy that goes on learning, in a run of its own."""
    from robot_rl.learning.checkpoint import find_checkpoint, read_config

    return read_config(find_checkpoint(Path(base)))


def _store(config: Any) -> Any:
    """The dataset, or the store of the session that is called so."""
    from robot_rl.data.store import EpisodeStore

    dataset, session = dataset_folder(config.root, config.data), run_folder(config.root, config.data) / "store"
    named = dataset.exists() or not session.exists()
    store = open_dataset(config.root, config.data) if named else EpisodeStore.open(session)
    if store.spec is None:
        raise StoreError(f"dataset {store.root} does not describe its arrays", remedy="Record or import it again")
    return store


def _plain(node: Any) -> dict[str, Any]:
    """The resolved ``_target_`` configuration that goes into checkpoints."""
    from omegaconf import OmegaConf

    plain = OmegaConf.to_container(node, resolve=True)
    if not isinstance(plain, dict):
        raise ConfigError("'policy' must be a configuration with _target_", remedy="Choose one with policy=")
    return {str(key): value for key, value in plain.items() if key != "_partial_"}


def _images(policy: Any) -> Any:
    from robot_rl.data.frames import ImageOptions

    return ImageOptions(size=policy.image_size, threads=1) if policy.image_size else None


def _rows(sampler: Any) -> Mapping[str, Any]:
    """Rows for the normaliser: the steps that act."""
    acts = sampler.table["action_valid"]
    keys = [key for key in sampler.spec.keys if not key.startswith("images/")]
    return {key: sampler.table[key][acts] for key in keys}


def describe(config: Any, episodes: Sequence[str], normalizer_sha256: str = "") -> dict[str, Any]:
    """Which data and which configuration made the checkpoint."""
    import hashlib

    digest = hashlib.sha256("\n".join(episodes).encode()).hexdigest()
    data = {"dataset": config.data, "episodes": len(episodes), "sha256": digest}
    return {"data": data, "normalizer_sha256": normalizer_sha256, "config": settings(config)}


def _about(config: Any, store: Any, episodes: Sequence[str], normalizer_sha256: str) -> dict[str, Any]:
    return {**describe(config, episodes, normalizer_sha256), "env": env_of_training(config, store)}


def _evaluation(config: Any, acting: Any) -> tuple[Any, list[Any]]:
    """(step, averaged weights) -> score on the seeds for choosing; and the envs that it needs."""
    from robot_rl.runtime.evaluation import check_judged, evaluate

    if not config.get("env"):
        raise ConfigError("evaluate_every needs an env", remedy="Choose a task=, or set evaluate_every=0")
    envs = [instantiate(config.env)]
    check_judged(envs[0])
    envs += [instantiate(config.env) for _ in range(min(config.evaluate_episodes, side_by_side(envs[0])) - 1)]
    seeds = range(config.evaluate_seed, config.evaluate_seed + config.evaluate_episodes)

    def score(step: int, state: Mapping[str, Any]) -> dict[str, float]:
        acting.load_state_dict(state)
        report = evaluate(envs if len(envs) > 1 else envs[0], acting, seeds)
        return {"score": report.best_reward_mean, "success": report.success_rate}

    return score, envs


def _report(folder: Path, checkpoint: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from robot_rl.learning.training_run import read_rows

    table = Table("step", "loss", "steps/s", "minutes", title="training")
    rows = read_rows(folder / "metrics.jsonl")
    for row in rows[-1:]:
        table.add_row(str(row["step"]), f"{row['loss']:.4f}", f"{row['steps_per_s']:.1f}", f"{row['wall_s'] / 60:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"checkpoint {checkpoint}\nplots      {folder / 'loss.png'}, {folder / 'samples.png'}", soft_wrap=True
    )
