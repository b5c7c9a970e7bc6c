"""robot-rl learner demos=...: learns from what actors ship, and gives them weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import open_dataset
from robot_rl.apps.learning_side import LearningKeys, check_learning_keys, make_training, open_run, run_folder
from robot_rl.apps.resume import with_words_of_run
from robot_rl.errors import StoreError

Tell = Callable[[Mapping[str, Any]], None]
completed = with_words_of_run  # learner resume=true name=<run>: as it was started


@dataclass
class Config(LearningKeys):
    """Types of the keys in conf/learner.yaml."""

    address: str
    keys: str


def run(config: Any) -> None:
    """Serve until ``config.steps`` control steps have arrived; what arrives is of the kind of the demonstrations."""
    check_learning_keys(config)
    serve(config, run_folder(config), config.address, lambda told: None)


def serve(config: Any, folder: Path, address: str, tell: Tell) -> None:
    """Learn in the run ``folder`` from the actors that come to ``address``.

    ``tell`` hears of every round of updates. Raises StoreError for demonstrations that do not describe themselves.
    """
    import torch

    from robot_rl.data.store import EpisodeStore
    from robot_rl.learning.service import LearnerService
    from robot_rl.transport.learner import ZmqLearner

    torch.set_num_threads(config.threads)
    spec = open_dataset(config.root, config.demos).spec
    if spec is None:
        raise StoreError(f"dataset '{config.demos}' does not describe its arrays", remedy="Record it again")
    training_run, resuming = open_run(config, folder)
    arriving = EpisodeStore.open_or_create(folder / "store", spec=spec, name=folder.name)
    with ZmqLearner(arriving, address, keys=config.get("keys") or "") as transport:
        store = EpisodeStore.open(folder / "store", recover=False)
        training = make_training(config, spec, training_run, store, transport)
        service = LearnerService(
            training,
            config.steps,
            checkpoint_every=config.checkpoint_every,
            evaluation=_evaluation(config, training) if config.evaluate_every else None,
            on_round=lambda steps: tell(_figures(training, transport)),
        )
        if resuming:
            print(f"resuming at step {service.resume()}", flush=True)
        print(f"learner at {transport.address}, run {folder}", flush=True)
        service.run()
    print(f"{training.steps} steps, {training.ratio.updates} updates -> {folder}", flush=True)


def _evaluation(config: Any, training: Any) -> Any:
    from robot_rl.learning.evaluations import Evaluations
    from robot_rl.learning.remote_evaluation import RemoteEvaluation

    evaluations = Evaluations(training.run, config.evaluate_every, config.stop_success)
    seeds = range(config.evaluate_seed, config.evaluate_seed + config.evaluate_episodes)
    return RemoteEvaluation(training, evaluations, seeds, tell=lambda text: print(text, flush=True))


def _figures(training: Any, transport: Any) -> dict[str, Any]:
    """What a table of the session shows of the learner."""
    actors = transport.actors()
    return {
        "steps": training.steps,
        "robot_minutes": training.robot_minutes,
        "actors": len(actors),
        "lag_bytes": sum(actor.lag_bytes for actor in actors),
        "lag_s": max((actor.lag_s for actor in actors), default=0.0),
        "problem": transport.problem,
        **training.traffic(),
    }
