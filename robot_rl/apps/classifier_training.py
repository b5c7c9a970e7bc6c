"""robot-rl train algorithm=success_classifier data=...: from judged episodes to a classifier with its threshold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot_rl.apps.folders import run_folder
from robot_rl.apps.learning_side import take_encoders
from robot_rl.apps.main import instantiate
from robot_rl.apps.train import describe


def train(config: Any, store: Any, judge_config: Mapping[str, Any], judges: tuple[Any, Any]) -> None:
    """Train the first of two equal classifiers ``judges`` on ``store``; the other takes its averaged weights and is
    the one that is tried on the held-out episodes."""
    from robot_rl.learning.offline_training import OfflineSchedule, OfflineTraining, Provenance
    from robot_rl.learning.success_classifier import Calibration, choose_threshold, success_bounds, trials
    from robot_rl.learning.training_plots import plot_losses
    from robot_rl.learning.training_run import TrainingRun

    judge, averaged = judges
    learnt, held_out = _split(config, store, judge)
    judge.rule = success_bounds(judge, learnt, judge.margin_m)
    choices: list[Calibration] = []

    def evaluate(step: int, state: Mapping[str, Any]) -> dict[str, float]:
        averaged.load_state_dict(state)
        choice = choose_threshold(trials(averaged, held_out))
        judge.rule = choice.applied_to(judge.rule)
        choices.append(choice)
        return {"score": choice.found / choice.successes, "false_upper_95": choice.false_upper_95}

    run = TrainingRun(_folder(config), resume=config.resume, keep=config.keep)
    resuming = config.resume and run.resumable
    if not resuming:
        take_encoders(config, judge)
    every = config.evaluate_every or config.steps
    training = OfflineTraining(
        instantiate(config.algorithm)(judge),
        learnt,
        run,
        OfflineSchedule(config.steps, config.group, config.log_every, config.checkpoint_every, every),
        Provenance(judge_config, store.spec, describe(config, learnt.table.ids)),
        evaluate=evaluate,
    )
    if resuming:
        print(f"resuming at step {training.resume()}")
    print(f"{len(learnt)} frames of {len(learnt.table.ids)} episodes -> {run.folder}")
    checkpoint = training.train()
    plot_losses(run.folder)
    if choices:
        _report(choices[-1], checkpoint)


def _folder(config: Any) -> Path:
    return run_folder(config.root, config.name or f"{config.data}-success-seed{config.seed}")


def _split(config: Any, store: Any, judge: Any) -> tuple[Any, Any]:
    """Frames to learn from, and those of the episodes held out."""
    from robot_rl.data.frames import ImageOptions
    from robot_rl.data.labelled_frames import LabelledFrames, held_out

    outside = held_out(store.infos(), judge.held_out)

    def frames(held: bool) -> Any:
        return LabelledFrames(
            store,
            judge.cameras,
            batch=config.batch,
            seed=config.seed,
            states=[name for name in judge.spec.observation if not name.startswith("images/")],
            positives=judge.positives,
            unsure=judge.unsure,
            images=ImageOptions(size=judge.image_size, threads=1),
            where=lambda info: (info.id in outside) is held,
        )

    return frames(False), frames(True)


def _report(choice: Any, checkpoint: Path) -> None:
    """The threshold, and what the held-out episodes can and cannot show of it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "threshold", "false successes", "95 % bound", "too early", "successes found", title="held-out episodes"
    )
    table.add_row(
        f"{choice.threshold:.3f}",
        f"{choice.false_successes} of {choice.failures} failures",
        f"{choice.false_upper_95:.1%}",
        f"{choice.early} of {choice.successes}",
        f"{choice.found} of {choice.successes}",
    )
    console = Console()
    console.print(table)
    if choice.caution:
        console.print(choice.caution, soft_wrap=True)
    console.print(f"checkpoint {checkpoint}", soft_wrap=True)
