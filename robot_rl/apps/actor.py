"""robot-rl actor task=...: acts with the learner's newest weights and ships what happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from robot_rl.apps.environment import (
    at_least,
    closing,
    closing_human,
    companions,
    confirm_resets,
    given_env,
    make_env,
    make_human,
)
from robot_rl.apps.judging import by_rule, judged, score_extras, scored, verdicts
from robot_rl.errors import RobotConnectionError

FLUSH_S = 10.0
Tell = Callable[[Mapping[str, Any]], None]


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
    learner_timeout_s: float | None
    retries: int
    keep_local: bool
    threads: int
    classifier: str | None
    confirm: str | None


def run(config: Any) -> None:
    """Run exploring episodes until the learner says stop, or ``config.episodes`` of them."""
    at_least(config, first_seed=0, episodes=1, threads=1, retries=0, learner_timeout_s=1)
    env = judged(config, make_env(given_env(config, "actor")))
    folder = Path(config.root) / "actor" / (config.name or env.spec.task)
    with closing(env):
        act(config, env, folder, config.address, _print)


def act(config: Any, env: Any, folder: Path, address: str, tell: Tell) -> None:
    """Act for the learner at ``address``; what is recorded lies in the store in ``folder`` until it is delivered.

    ``tell`` hears of every episode. Raises RobotConnectionError when no weights come, RobotError after too many faults.
    """
    import torch

    from robot_rl.data.store import EpisodeStore
    from robot_rl.runtime.priority import run_first
    from robot_rl.transport.actor import ZmqActor

    torch.set_num_threads(config.threads)
    store = EpisodeStore.open_or_create(folder, spec=env.spec, name=folder.name)
    with (
        ZmqActor(folder, address, keys=config.get("keys") or "") as transport,
        closing_human(make_human(config, env.spec)) as human,
    ):
        confirm_resets(config, env, human)
        service, listener = _service(config, env, human, store, transport, tell)
        if not env.clock.stepped:  # an arm that does not wait
            run_first()
        try:
            service.run(config.get("episodes"))
        except BaseException:
            transport.flush(timeout_s=FLUSH_S / 5)  # what stays is shipped next time
            raise
        delivered = transport.flush(timeout_s=FLUSH_S / 5 if service.dismissed else FLUSH_S)  # it has had enough then
        service.tidy()
    print(f"{service.episodes} episodes{'' if delivered else ', not all delivered: they are shipped next time'}")
    print(verdicts(listener), end="")


def _service(config: Any, env: Any, human: Any, store: Any, transport: Any, tell: Tell) -> tuple[Any, Any]:
    """And who records. The policy is what the learner's weights say it is."""
    from robot_rl.learning.targets import build
    from robot_rl.runtime.acting import ActorService
    from robot_rl.runtime.actor import Actor, NewestPolicy
    from robot_rl.runtime.loop_meter import LoopMeter
    from robot_rl.runtime.recorder import EpisodeRecorder

    weights = _first_weights(config, transport)
    policy = NewestPolicy(build(weights.meta["policy"], env_spec=env.spec), transport)
    metadata = {"task": env.spec.task, "source": "policy", "policies": ["online"]}
    extras = {**policy.spec.record, **score_extras(env)}
    listener = scored(EpisodeRecorder(store, metadata, extras=extras), env)
    meter = LoopMeter()
    listeners = [listener, meter, *companions(human, env)]
    actor = Actor(env, policy, listeners, next_seed=config.first_seed, human=human)

    def on_episode(end: Any) -> None:
        status = transport.status()
        tell(
            {
                "episode": service.episodes,
                "length": end.length,
                "reason": end.reason,
                "success": end.success,
                **asdict(meter.figures),
                "version": policy.version,
                "learner_age_s": status.age_s,
                "lag_bytes": status.lag_bytes,
            }
        )

    service = ActorService(
        actor,
        policy,
        transport,
        store,
        retries=config.retries,
        learner_timeout_s=config.learner_timeout_s,
        keep_local=config.keep_local,
        evaluated_in=by_rule(env),
        on_episode=on_episode,
        tell=lambda text: print(text, flush=True),
    )
    return service, listener


def _first_weights(config: Any, transport: Any) -> Any:
    until = time.monotonic() + config.wait_s
    while (weights := transport.latest()) is None:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise RobotConnectionError(f"no weights within {config.wait_s} s", remedy="Start robot-rl learner")
        transport.wait(left_s)
    return weights


def _print(told: Mapping[str, Any]) -> None:
    """One line per episode."""
    print(
        f"episode {told['episode']:4d}  {told['length']:3d} steps  {told['reason']:<10}  weights {told['version']}"
        f"  learner heard {told['learner_age_s']:.1f} s ago, {told['lag_bytes']} bytes behind",
        flush=True,
    )
