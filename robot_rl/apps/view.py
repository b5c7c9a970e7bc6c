"""robot-rl view task=...: watch a policy, live where there is a display, as a rerun recording or mp4 elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import (
    at_least,
    checkpoint_env,
    closing,
    given_env,
    load_policy,
    make_demonstrator,
    make_env,
)
from robot_rl.errors import ConfigError


@dataclass
class Config:
    """Types of the keys in conf/view.yaml."""

    root: str
    checkpoint: str | None
    episodes: int
    first_seed: int
    show: str


def run(config: Any) -> None:
    """Run episodes in front of a window, or into files."""
    from robot_rl.runtime.rollout import run_episode
    from robot_rl.runtime.viewer import viewer_of

    at_least(config, episodes=1, first_seed=0)
    env = make_env(_node(config))
    with closing(env):
        policy = _policy(config, env.spec)
        viewer = viewer_of(env, config.show, Path(config.root) / "runs" / "view" / f"{env.spec.task}-seed{{seed}}")
        try:
            for seed in range(config.first_seed, config.first_seed + config.episodes):
                end = run_episode(env, policy, [viewer.listener], seed=seed)
                print(f"seed {seed}: {end.reason} after {end.length} steps, reward {end.total_reward:.3g}")
        finally:
            viewer.close()
            if viewer.written:
                print(viewer.hint())


def _node(config: Any) -> Any:
    if config.checkpoint:
        return checkpoint_env(config, "view", config.checkpoint)[1]
    return given_env(config, "view")


def _policy(config: Any, spec: Any) -> Any:
    wrapper = config.get("policy")
    if config.checkpoint:
        return load_policy(config.checkpoint, spec, ["all"], {}, wrapper)
    if wrapper:
        raise ConfigError("policy= acts around a checkpoint", remedy="Add checkpoint=<run>, or name a teleop= instead")
    return make_demonstrator(config, spec)[0]
