"""robot-rl replay data=... episode=...: stored actions played back from the same start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import closing, env_config, find_episode, make_env, open_dataset
from robot_rl.errors import ConfigError, SpecMismatchError, StoreError, valid_choices


@dataclass
class Config:
    """Types of the keys in conf/replay.yaml."""

    root: str
    data: str
    episode: str
    play: str
    show: str | None


def run(config: Any) -> None:
    """Play an episode back and print how far it strays from what was recorded."""
    from robot_rl.runtime.replay import Deviation, from_recording
    from robot_rl.runtime.rollout import run_episode
    from robot_rl.runtime.viewer import viewer_of

    store = open_dataset(config.root, config.data)
    episode = store.read(find_episode(store, config.episode))
    if config.play not in ("executed", "commanded"):
        raise ConfigError(f"play={config.play}", remedy=valid_choices(config.play, ("executed", "commanded")))
    if episode.steps == 0:
        raise StoreError(f"episode {episode.id} has no action to play")
    made_in, simulated = episode.metadata.get("config", {}).get("env"), store.spec is None or store.spec.simulated
    node = env_config(config, "replay", str(episode.metadata.get("task", "")), made_in, simulated)
    env = make_env(node, max_steps=episode.steps)
    with closing(env):
        _check(store, env)
        recorded = {path[4:]: value for path, value in episode.arrays.items() if path.startswith("obs/")}
        commanded = episode.arrays["action/commanded"]
        actions = episode.arrays.get(f"action/{config.play}", commanded)[: episode.steps]
        start, seed = from_recording(env, episode.metadata.get("seed"), {k: v[0] for k, v in recorded.items()})
        deviation = Deviation(recorded)
        path = Path(config.root) / "runs" / "replay" / episode.id
        viewer = viewer_of(env, config.show, path) if config.show else None
        listeners = [deviation] if viewer is None else [deviation, viewer.listener]
        try:
            policy = _policy(episode, actions, env.spec, config.play)
            end = run_episode(start, policy, listeners, seed=seed)
        finally:
            if viewer is not None:
                viewer.close()
    _report(episode, end, deviation)
    if viewer is not None and viewer.written:
        print(viewer.hint())


def _policy(episode: Any, actions: Any, spec: Any, play: str) -> Any:
    """Commands in the plans they were recorded in, where that is known: the robot looks as far ahead as it did. What
    was executed is one path, and is followed as one plan; row by row, each row would be late by the one before."""
    from robot_rl.runtime.replay import ReplayPolicy

    if play == "executed" or "decision/planned" not in episode.arrays:
        return ReplayPolicy(actions, spec)
    return ReplayPolicy(actions, spec, episode.arrays["decision/step"], episode.arrays["decision/planned"].shape[1])


def _check(store: Any, env: Any) -> None:
    from robot_rl.types import compare_specs

    refused = compare_specs(store.spec, env.spec)[0] if store.spec is not None else []
    refused = [difference for difference in refused if not difference.startswith("camera")]
    if refused:
        raise SpecMismatchError(
            f"dataset {store.root} was recorded in another env: {'; '.join(refused)}",
            remedy="Give the options it was recorded with",
        )


def _report(episode: Any, end: Any, deviation: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("observation", "mean difference", "largest", "at step", title=f"replay of episode {episode.id}")
    for name, largest in deviation.largest.items():
        table.add_row(name, f"{deviation.mean(name):.6g}", f"{largest:.6g}", str(deviation.at_step[name]))
    console = Console()
    console.print(table)
    recorded = float(episode.arrays["rl/reward"].sum())
    console.print(
        f"recorded {episode.steps} steps, reward {recorded:.4g}, success {episode.metadata.get('success')}\n"
        f"replayed {end.length} steps, reward {end.total_reward:.4g}, success {end.success}"
    )
