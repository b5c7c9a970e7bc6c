"""robot-rl actor task=...: acts with the learner's newest weights and ships what happens."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import at_least, closing, given_env, make_env, make_human
from robot_rl.errors import RobotConnectionError


@dataclass
class Config:
    """Types of the keys in conf/actor.yaml."""

    root: str
    name: str | None
    address: str
    keys: str
    first_seed: int
    episodes: int | None
    wait_s: float
    threads: int


def run(config: Any) -> None:
    """Run exploring episodes until the learner says stop, or ``config.episodes`` of them."""
    import torch

    from robot_rl.data.store import EpisodeStore
    from robot_rl.transport.actor import ZmqActor

    at_least(config, first_seed=0, episodes=1, threads=1)
    torch.set_num_threads(config.threads)
    env = make_env(given_env(config, "actor"))
    folder = Path(config.root) / "actor" / (config.name or env.spec.task)
    with closing(env):
        store = EpisodeStore.open_or_create(folder, spec=env.spec, name=folder.name)
        with ZmqActor(folder, config.address, keys=config["keys"]) as transport:
            actor = _actor(config, env, store, transport)
            episodes = _act(config, actor, transport)
            delivered = transport.flush(timeout_s=10.0)
    print(f"{episodes} episodes{'' if delivered else ', not all delivered: they are shipped next time'}")


def _actor(config: Any, env: Any, store: Any, transport: Any) -> Any:
    """The policy is what the learner's weights say it is."""
    from robot_rl.learning.targets import build
    from robot_rl.runtime.actor import Actor, NewestPolicy
    from robot_rl.runtime.recorder import EpisodeRecorder

    until = time.monotonic() + config.wait_s
    while (weights := transport.latest()) is None:
        if time.monotonic() > until:
            raise RobotConnectionError(
                f"no weights from {config.address} within {config.wait_s} s", remedy="Start robot-rl learner"
            )
        time.sleep(0.02)
    policy = NewestPolicy(build(weights.meta["policy"], env_spec=env.spec), transport)
    recorder = EpisodeRecorder(store, {"task": env.spec.task, "source": "policy", "policies": ["online"]})
    seeds = [int(info.metadata.get("seed", -1)) for info in store.infos(excluded=True)]
    first = max([config.first_seed, *(seed + 1 for seed in seeds)])
    return Actor(env, policy, [recorder], next_seed=first, human=make_human(config, env.spec))


def _act(config: Any, actor: Any, transport: Any) -> int:
    """Episodes until told to stop; a learner that is behind is waited for between them."""
    episodes, paused = 0, False
    while config.episodes is None or episodes < config.episodes:
        for signal in transport.signals():
            if signal.kind == "stop":
                return episodes
            paused = {"pause_at_reset": True, "go_on": False}.get(signal.kind, paused)
        if paused:
            time.sleep(0.02)
            continue
        end = actor.run_episode()
        episodes += 1
        status = transport.status()
        print(
            f"episode {episodes:4d}  {end.length:3d} steps  {end.reason:<10}  weights {actor.policy.version}"
            f"  learner heard {status.age_s:.1f} s ago, {status.lag_bytes} bytes behind",
            flush=True,
        )
    return episodes
