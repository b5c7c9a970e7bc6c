"""robot-rl view task=...: watch a policy, live where there is a display, as mp4 elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import (
    at_least,
    checkpoint_spec,
    closing,
    env_config,
    filmable_env,
    given_env,
    load_policy,
    make_teleop,
)
from robot_rl.errors import ConfigError


@dataclass
class Config:
    """Types of the keys in conf/view.yaml."""

    root: str
    checkpoint: str | None
    episodes: int
    first_seed: int
    window: bool | None
    film: str | None


def run(config: Any) -> None:
    """Run episodes in front of a window or a camera."""
    from robot_rl.runtime.rollout import run_episode
    from robot_rl.runtime.video import video_of
    from robot_rl.runtime.viewer import MujocoWindow, physics_of

    at_least(config, episodes=1, first_seed=0)
    if config.checkpoint:
        node = env_config(config, "view", checkpoint_spec(config.checkpoint)[1].task)
    else:
        node = given_env(config, "view")
    env = filmable_env(node, "view", config.film)
    with closing(env):
        policy = (
            load_policy(config.checkpoint, env.spec, ["all"], {})
            if config.checkpoint
            else make_teleop(config, env.spec)
        )
        physics = physics_of(env)
        display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
        live = physics is not None and display if config.window is None else config.window
        if live and (physics is None or not display):
            raise ConfigError("no window can be opened: no display, or no MuJoCo simulation", remedy="window=false")
        path = Path(config.root) / "runs" / "view" / f"{env.spec.task}-seed{{seed}}.mp4"
        listener = MujocoWindow(physics) if live and physics is not None else video_of(env, path)
        if listener is None:
            raise ConfigError("the env has no camera and cannot draw itself", remedy="Add a camera=... option")
        for seed in range(config.first_seed, config.first_seed + config.episodes):
            end = run_episode(env, policy, [listener], seed=seed)
            print(f"seed {seed}: {end.reason} after {end.length} steps, reward {end.total_reward:.3g}")
        for written in () if isinstance(listener, MujocoWindow) else listener.written:
            print(f"video {written}")
