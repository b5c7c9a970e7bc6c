"""robot-rl learner demos=...: learns from what actors ship, and gives them weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_rl.apps.environment import at_least, open_dataset
from robot_rl.apps.learning_side import make_training, open_run, run_folder
from robot_rl.errors import StoreError


@dataclass
class Config:
    """Types of the keys in conf/learner.yaml."""

    root: str
    demos: str
    draw_demos: bool
    name: str | None
    address: str
    keys: str
    resume: bool
    seed: int
    threads: int
    steps: int
    batch: int
    lowest_ratio: float
    update_ratio: float
    group: int
    start: int
    publish_every: int
    log_every: int
    diagnose_every: int
    checkpoint_every: int
    keep: int


def run(config: Any) -> None:
    """Serve until ``config.steps`` control steps have arrived; what arrives is of the kind of the demonstrations."""
    import torch

    from robot_rl.data.store import EpisodeStore
    from robot_rl.learning.service import LearnerService
    from robot_rl.transport.learner import ZmqLearner

    at_least(config, steps=1, batch=2, group=1, keep=1, threads=1, start=0)
    torch.set_num_threads(config.threads)
    spec = open_dataset(config.root, config.demos).spec
    if spec is None:
        raise StoreError(f"dataset '{config.demos}' does not describe its arrays", remedy="Record it again")
    folder = run_folder(config)
    training_run, resuming = open_run(config, folder)
    arriving = EpisodeStore.open_or_create(folder / "store", spec=spec, name=folder.name)
    with ZmqLearner(arriving, config.address, keys=config["keys"]) as transport:
        store = EpisodeStore.open(folder / "store", recover=False)
        training = make_training(config, spec, training_run, store, transport)
        service = LearnerService(training, config.steps, checkpoint_every=config.checkpoint_every)
        if resuming:
            print(f"resuming at step {service.resume()}")
        print(f"learner at {transport.address}, run {folder}", flush=True)
        service.run()
    print(f"{training.steps} steps, {training.ratio.updates} updates -> {folder}")
