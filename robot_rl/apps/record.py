"""robot-rl record task=... teleop=...: demonstrations into a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robot_rl.apps.environment import at_least, closing, given_env, make_env, make_teleop, progress
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


def run(config: Any) -> None:
    """Record until the dataset holds ``config.episodes``; an interrupted recording goes on where it stopped."""
    from robot_rl.data.store import EpisodeStore
    from robot_rl.runtime.recorder import EpisodeRecorder

    at_least(config, episodes=1, attempts=1, first_seed=0)
    env = judged(config, make_env(given_env(config, "record")))
    with closing(env):
        policy = make_teleop(config, env.spec)
        name = config.name or env.spec.task
        folder = dataset_folder(config.root, name)
        store = EpisodeStore.open_or_create(folder, spec=env.spec, name=name)
        recorder = EpisodeRecorder(
            store,
            _metadata(config, env.spec.task),
            extras={**policy.spec.record, **score_extras(env)},
            keep_failures=config.keep_failures,
        )
        listener = scored(recorder, env)
        kept, tried = _record(config, env, policy, recorder, listener, store)
    print(f"{kept} episodes recorded in {tried} attempts; {folder} holds {len(store.ids())}")
    print(verdicts(listener), end="")


def _record(config: Any, env: Any, policy: Any, recorder: Any, listener: Any, store: Any) -> tuple[int, int]:
    """Run seed after seed; returns (kept, tried)."""
    from robot_rl.runtime.rollout import run_episode
    from robot_rl.types import Phase

    infos = store.infos()
    missing = config.episodes - len(infos)
    seed = max([config.first_seed, *(int(info.metadata.get("seed", -1)) + 1 for info in infos)])
    attempts = config.attempts or 3 * max(missing, 0)
    kept = tried = 0
    with progress("record", max(config.episodes, len(infos)), len(infos)) as advance:
        while kept < missing:
            if tried == attempts:
                raise RobotRlError(
                    f"{kept} of {missing} missing episodes were recorded in {tried} attempts",
                    limit=f"attempts={attempts}",
                    remedy="Allow more attempts, keep_failures=true, or look at the task with robot-rl view",
                )
            end = run_episode(env, policy, [listener], seed=seed, source=Phase.SCRIPTED)
            if end.reason.startswith("fault"):
                print(f"seed {seed}: {end.reason}")
            seed, tried = seed + 1, tried + 1
            if recorder.kept is not None:
                kept += 1
                advance(f"{end.length} steps, {end.reason}, {tried - kept} dropped")
    return kept, tried


def _metadata(config: Any, task: str) -> dict[str, Any]:
    """What is stored with every episode, the configuration included."""
    from omegaconf import OmegaConf

    made_by = {key: OmegaConf.to_container(config[key], resolve=True) for key in ("env", "teleop")}
    return {"task": task, "source": "scripted", "operator": config.operator, "config": made_by}
