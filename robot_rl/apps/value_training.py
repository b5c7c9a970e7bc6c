"""robot-rl train algorithm=iql|calql base=... data=...: a critic of a base's chunks, from stored episodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot_rl.apps.folders import run_folder
from robot_rl.apps.learning_side import take_encoders
from robot_rl.apps.main import instantiate
from robot_rl.apps.recorded_env import env_of_training
from robot_rl.apps.resume import check_resumed
from robot_rl.apps.train import describe
from robot_rl.errors import ConfigError, StoreError

_AS_THE_BASE = ("observation", "features", "cameras", "history")
_HELD_OUT = 0.1  # of the successes and of the failures, to judge the critic by
_FEWEST = 10  # successes, and failures: from the ones alone nothing is learnt about actions


def train(config: Any, store: Any, critic_config: Mapping[str, Any]) -> None:
    """Train the critic of ``critic_config`` to judge the chunks of ``config.base``, which stays as it is."""
    from robot_rl.learning.checkpoint import load_checkpoint
    from robot_rl.learning.offline_training import OfflineSchedule, OfflineTraining, Provenance
    from robot_rl.learning.targets import build
    from robot_rl.learning.training_run import TrainingRun
    from robot_rl.learning.value_report import report_values

    _check_outcomes(store)
    base, critic_config = _like_base(config.base, store.spec, critic_config)
    critic, judge = (build(critic_config, env_spec=store.spec) for _ in range(2))
    run = TrainingRun(run_folder(config.root, config.name or _name(config)), resume=config.resume, keep=config.keep)
    resuming = config.resume and run.resumable
    if not resuming:
        take_encoders(config, critic)
    learner = instantiate(config.algorithm)(critic)
    learnt, unseen = _samplers(config, store, learner, critic.image_size)
    if resuming:
        check_resumed(config, run.folder, critic_config)
        saved = load_checkpoint(run.folder, store.spec, kind=type(critic))
        critic.load_state_dict(saved.state_dict())  # its statistics are never fitted again
    else:
        critic.fit_normalizer(_rows(learnt.sampler))

    def evaluate(step: int, state: Mapping[str, Any]) -> dict[str, float]:
        judge.load_state_dict(state)
        found = report_values(judge, unseen)
        return {"score": found["rank_correlation"], **found}

    about = describe(config, learnt.sampler.episodes, critic.normalizer.sha256())
    about |= {"env": env_of_training(config, store), "base": {"checkpoint": base, "sha256": critic.base_sha256}}
    every = config.evaluate_every or max(config.steps // 5, 1)
    training = OfflineTraining(
        learner,
        learnt,
        run,
        OfflineSchedule(config.steps, config.group, config.log_every, config.checkpoint_every, every),
        Provenance(critic_config, store.spec, about),
        evaluate=evaluate,
    )
    if resuming:
        print(f"resuming at step {training.resume()}")
    print(f"{len(learnt.sampler.episodes)} episodes, {len(learnt)} chunks -> {run.folder}")
    _report(run.folder, training.train())


def _check_outcomes(store: Any) -> None:
    """Raise StoreError without both outcomes: where every episode succeeds, Q does not depend on the action."""
    outcomes = [info.success for info in store.infos()]
    for name, found in (("successes", outcomes.count(True)), ("failures", outcomes.count(False))):
        if found < _FEWEST:
            raise StoreError(
                f"dataset {store.root} holds {found} {name}",
                limit=f"at least {_FEWEST}; a few hundred episodes of the base are better",
                remedy="robot-rl record teleop=trained teleop.path=runs/<base> keep_failures=true episodes=...",
            )


def _like_base(base: str | None, spec: Any, critic_config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Checkpoint of the base, and the critic's configuration with what was left open taken from it."""
    from robot_rl.learning.checkpoint import find_checkpoint, load_checkpoint, read_config

    if not base:
        raise ConfigError("a critic judges the chunks of a base", remedy="Name it: base=runs/<run of the base>")
    folder = find_checkpoint(Path(base))
    policy, made = load_checkpoint(folder, spec, accept=["all"]), read_config(folder)
    if not hasattr(policy, "sha256"):
        raise ConfigError(
            f"{made['_target_']} proposes no chunks from noise", remedy="Give the run of a diffusion policy"
        )
    filled = dict(critic_config)
    if all(filled[key] is None for key in _AS_THE_BASE):
        filled |= {key: made[key] for key in _AS_THE_BASE if key in made}
    filled["history"] = policy.spec.history
    filled["horizon"] = filled["horizon"] or policy.spec.execute
    return str(folder), {**filled, "base_sha256": policy.sha256()}


def _name(config: Any) -> str:
    algorithm = str(config.algorithm["_target_"]).rpartition(".")[2].lower()
    return f"{config.data}-{algorithm}-seed{config.seed}"


def _samplers(config: Any, store: Any, learner: Any, image_size: Any) -> tuple[Any, Any]:
    """Chunks to learn from, and those of the episodes held out."""
    from robot_rl.data.frames import ImageOptions
    from robot_rl.data.labelled_frames import held_out
    from robot_rl.data.replay import ReplaySampler
    from robot_rl.learning.returns import WithReturns

    outside = held_out(store.infos(), _HELD_OUT)
    (view,) = learner.views.values()
    images = ImageOptions(size=image_size, threads=1) if image_size else None

    def chunks(held: bool) -> Any:
        def where(info: Any) -> bool:
            return (info.id in outside) is held

        sampler = ReplaySampler(store, view, batch=config.batch, seed=config.seed, where=where, images=images)
        return WithReturns(sampler, store, where=where, beyond=learner.bounds[0])

    return chunks(False), chunks(True)


def _rows(sampler: Any) -> Mapping[str, Any]:
    """Rows for the statistics: the steps that act."""
    acts = sampler.table["action_valid"]
    keys = [key for key in (*sampler.view.observation, sampler.view.action) if not key.startswith("images/")]
    return {key: sampler.table[key][acts] for key in keys}


def _report(folder: Path, checkpoint: Path) -> None:
    """How the critic judged the episodes held out, over its training."""
    from rich.console import Console
    from rich.table import Table

    from robot_rl.learning.training_run import read_rows

    names = ("q_minus_return", "return", "rank_correlation", "rank_between_episodes", "dq_da", "disagreement")
    table = Table("step", *(name.replace("_", " ") for name in names), title="episodes held out")
    for row in read_rows(folder / "evaluations.jsonl"):
        table.add_row(str(row["step"]), *(f"{row[name]:.3f}" for name in names))
    console = Console()
    console.print(table)
    console.print(f"checkpoint {checkpoint}", soft_wrap=True)
