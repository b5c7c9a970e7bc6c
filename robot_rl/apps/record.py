"""robot-rl record task=... teleop=...: demonstrations into a dataset."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import (
    at_least,
    closing,
    closing_human,
    companions,
    confirm_resets,
    given_env,
    make_demonstrator,
    make_env,
    progress,
)
from robot_rl.apps.folders import dataset_folder
from robot_rl.apps.judging import judged, score_extras, scored, verdicts
from robot_rl.errors import RobotRlError


@dataclass
class Config:
    """Types of the keys in conf/record.yaml."""

    root: str
    name: str | None
    episodes: int
    first_seed: int
    keep_failures: bool
    attempts: int | None
    operator: str
    classifier: str | None
    confirm: str | None
    show: str | None


@dataclass
class _Recording:
    """What a run consists of, and how far it has got."""

    env: Any
    policy: Any
    human: Any
    recorder: Any
    store: Any
    listeners: list[Any] = field(default_factory=list)
    kept: int = 0
    tried: int = 0


def run(config: Any) -> None:
    """Record until the dataset holds ``config.episodes``; an interrupted recording goes on where it stopped."""
    from robot_rl.data.store import EpisodeStore
    from robot_rl.runtime.recorder import EpisodeRecorder

    at_least(config, episodes=1, attempts=1, first_seed=0)
    with ExitStack() as opened:
        env = make_env(given_env(config, "record"))
        opened.enter_context(closing(env))
        policy, human = make_demonstrator(config, env.spec)
        opened.enter_context(closing_human(human))
        confirm_resets(config, env, human)
        env = judged(config, env)
        name = config.name or env.spec.task
        folder = dataset_folder(config.root, name)
        store = EpisodeStore.open_or_create(folder, spec=env.spec, name=name)
        metadata = _metadata(config, env.spec.task, human)
        extras = {**policy.spec.record, **score_extras(env)}
        recorder = EpisodeRecorder(store, metadata, extras=extras, keep_failures=config.keep_failures)
        listener = scored(recorder, env)
        recording = _Recording(env, policy, human, recorder, store)
        recording.listeners = [listener, *_shown(config, env, opened), *companions(human, env)]
        _record(config, recording)
    print(f"{recording.kept} episodes recorded in {recording.tried} attempts; {folder} holds {len(store.ids())}")
    print(verdicts(listener), end="")


def _shown(config: Any, env: Any, opened: ExitStack) -> list[Any]:
    """The viewer, where one is asked for."""
    from robot_rl.runtime.viewer import viewer_of

    if not config.show:
        return []
    viewer = viewer_of(env, config.show, Path(config.root) / "runs" / "record" / f"{env.spec.task}-seed{{seed}}")
    opened.callback(lambda: print(viewer.hint()) if viewer.written else None)
    opened.callback(viewer.close)
    return [viewer.listener]


def _record(config: Any, recording: _Recording) -> None:
    """Run seed after seed; one that a person wants to record again is run again."""
    from robot_rl.runtime.rollout import run_episode
    from robot_rl.runtime.tally import RERECORDED
    from robot_rl.types import Phase

    infos = recording.store.infos()
    missing = config.episodes - len(infos)
    seed = max([config.first_seed, *(int(info.metadata.get("seed", -1)) + 1 for info in infos)])
    attempts = config.attempts or 3 * max(missing, 0)
    source = Phase.SCRIPTED if recording.human is None else Phase.POLICY
    with progress("record", max(config.episodes, len(infos)), len(infos), bar=recording.human is None) as advance:
        while recording.kept < missing:
            if recording.tried == attempts:
                raise RobotRlError(
                    f"{recording.kept} of {missing} missing episodes were recorded in {recording.tried} attempts",
                    limit=f"attempts={attempts}",
                    remedy="Allow more attempts, keep_failures=true, or look at the task with robot-rl view",
                )
            end = run_episode(
                recording.env, recording.policy, recording.listeners, seed=seed, source=source, human=recording.human
            )
            if end.reason.startswith("fault"):
                print(f"seed {seed}: {end.reason}")
            if end.reason == RERECORDED:
                continue
            seed, recording.tried = seed + 1, recording.tried + 1
            if recording.recorder.kept is not None:
                recording.kept += 1
                advance(f"{end.length} steps, {end.reason}, {recording.tried - recording.kept} dropped")


def _metadata(config: Any, task: str, human: Any) -> dict[str, Any]:
    """What is stored with every episode, the configuration included."""
    from omegaconf import OmegaConf

    made_by = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("env", "teleop")}
    source = "scripted" if human is None else "human"
    return {"task": task, "source": source, "operator": config.operator, "config": made_by}
