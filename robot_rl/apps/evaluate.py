"""robot-rl evaluate checkpoint=...: success and reward on fixed seeds, with intervals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import (
    at_least,
    checkpoint_env,
    closing,
    dotted,
    load_policy,
    make_env,
    progress,
    side_by_side,
    with_task,
    wrapper_title,
)
from robot_rl.apps.judging import classifier_path, judged

completed = with_task  # evaluate robot=bridge: the arm is named, the task is the checkpoint's


@dataclass
class Config:
    """Types of the keys in conf/evaluate.yaml."""

    root: str
    checkpoint: str
    episodes: int
    first_seed: int
    batch: int | None
    videos: int
    classifier: str | None
    accept: list[str]
    changes: dict[str, Any]
    name: str | None
    threads: int


def run(config: Any) -> None:
    """Evaluate, write JSON and videos, print a table and where they are."""
    from rich.console import Console

    from robot_rl.runtime.score_table import score_table

    checkpoint, node = checkpoint_env(config, "evaluate", config.checkpoint)
    folder = results_folder(config.root, config.name, checkpoint)
    report = evaluate_checkpoint(config, node, checkpoint, dict(config.changes), folder, config.get("policy"))
    path = folder / f"{report.meta['label']}.json"
    report.save(path)
    console = Console()
    console.print(score_table(report))
    console.print(f"results {path}", soft_wrap=True)
    for video in _film(config, node, checkpoint, folder):
        console.print(f"video   {video}", soft_wrap=True)


def results_folder(root: str, name: str | None, checkpoint: Path) -> Path:
    """``root``/runs/``name``, else the folder ``evaluation`` of the run that the checkpoint belongs to."""
    if name:
        return Path(root) / "runs" / name
    run_folder = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return run_folder / "evaluation"


def evaluate_checkpoint(
    config: Any, node: Any, checkpoint: Path, changes: Mapping[str, Any], folder: Path, wrapper: Any = None
) -> Any:
    """EvaluationReport of a checkpoint in the env of ``node``; an interrupted one goes on where it stopped.

    ``wrapper`` is the configuration of a policy that acts around the checkpoint's.
    """
    import torch

    from robot_rl.runtime.evaluation import evaluate
    from robot_rl.runtime.scores import ScoreLog

    at_least(config, episodes=1, first_seed=0, batch=1, threads=1)
    torch.set_num_threads(config.threads)
    envs = [judged(config, make_env(node))]
    envs += [judged(config, make_env(node)) for _ in range((config.batch or side_by_side(envs[0])) - 1)]
    with closing(*envs):
        policy = load_policy(str(checkpoint), envs[0].spec, list(config.accept), changes, wrapper)
        key = _key(config, node, checkpoint, changes, len(envs), wrapper)
        log = ScoreLog(folder / f"{checkpoint.name}-{key[:8]}.jsonl", key)
        label = f"{checkpoint.name}-seed{config.first_seed}-{config.episodes}-{key[:8]}"
        seeds = range(config.first_seed, config.first_seed + config.episodes)
        known = log.read()
        log.start(known.values())  # those of other seeds stay: they cost as much
        finished = {seed: score for seed, score in known.items() if seed in seeds}
        with progress("evaluate", config.episodes, len(finished)) as advance:

            def on_episode(score: Any) -> None:
                log.append(score)
                advance(f"seed {score.seed}: {score.reason}, best reward {score.best_reward:.3f}")

            meta = {"checkpoint": str(checkpoint), "changes": dotted(changes), "envs": len(envs), "label": label}
            meta["policy"] = wrapper_title(wrapper)
            name = _name(checkpoint, changes, wrapper)
            return evaluate(
                envs if len(envs) > 1 else envs[0], policy, seeds,
                name=name, finished=finished, on_episode=on_episode, meta=meta,
            )  # fmt: skip


def _film(config: Any, node: Any, checkpoint: Path, folder: Path) -> list[Path]:
    """The first ``config.videos`` seeds once more, with a camera running."""
    from robot_rl.runtime.rollout import run_episode
    from robot_rl.runtime.video import video_of

    if config.videos < 1:
        return []
    env = judged(config, make_env(node))
    with closing(env):
        policy = load_policy(str(checkpoint), env.spec, list(config.accept), dict(config.changes), config.get("policy"))
        video = video_of(env, folder / f"{checkpoint.name}-seed{{seed}}.mp4")
        if video is None:
            print("no video: the env has no camera and cannot draw itself")
            return []
        for seed in range(config.first_seed, config.first_seed + min(config.videos, config.episodes)):
            run_episode(env, policy, [video], seed=seed)
        return video.written


def _name(checkpoint: Path, changes: Mapping[str, Any], wrapper: Any) -> str:
    """<run>/<checkpoint>, what acts around it, and what was changed."""
    run_folder = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    changed = "".join(f" {key}={value}" for key, value in dotted(changes).items())
    around = f" {wrapper_title(wrapper)}" if wrapper else ""
    return f"{run_folder.name}/{checkpoint.name}{around}{changed}"


def _key(config: Any, node: Any, checkpoint: Path, changes: Mapping[str, Any], envs: int, wrapper: Any) -> str:
    """Names exactly what is evaluated: the checkpoint's content, what was changed or put around it, env, batch and
    classifier."""
    from omegaconf import OmegaConf

    from robot_rl.learning.checkpoint import find_checkpoint

    manifest = (checkpoint / "manifest.json").read_text()
    parts = [manifest, json.dumps(dotted(changes)), OmegaConf.to_yaml(node, resolve=True), str(envs)]
    if wrapper:
        parts.append(OmegaConf.to_yaml(wrapper, resolve=True))
        named = [Path(value) for value in wrapper.values() if isinstance(value, str) and Path(value).is_dir()]
        parts += [(find_checkpoint(path) / "manifest.json").read_text() for path in named]
    if config.get("classifier"):
        parts.append((find_checkpoint(classifier_path(config)) / "manifest.json").read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
