"""Updates per second of RLPD beside stable-baselines3's SAC, interleaved in one process on one thread.

    python -m tests.benchmarks.learner_updates [rounds=20] [updates=20]

Same networks on both sides (256 x 256, LayerNorm after every hidden layer of actor and critics), batch 256 of float32
transitions with state 18 and action 7, drawn from each side's own replay; one critic, one actor and one temperature
step per update. Times are processor time of the process, so that a busy neighbour counts little; each ratio is the
median over rounds in which all sides take turns. Needs stable-baselines3 (extra ``dev``). The last line is JSON:
    ratio_fp32_vs_sb3_e2   ours in float32 (the better of eager and compiled) over SAC's, both with 2 critics
    ratio_best_vs_sb3_e2   the best of ours (bfloat16, compiled, where the processor has it) over SAC's
    cost_e10_over_e2       time of an update with 10 critics over one with 2, both as in ratio_best
    updates_per_s_e10, updates_per_s_e2, updates_per_s_sb3   of the best variants and of SAC
    peak_rss_mb            of this process before the peer was loaded
    variants               updates per second of each variant
"""

from __future__ import annotations

import functools
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies.gaussian import GaussianPolicy
from policies.q_ensemble import QEnsemble
from robot_rl.data.episode import Episode
from robot_rl.data.replay import ReplaySampler
from robot_rl.learning.rlpd import Rlpd
from robot_rl.types import ActionKind, ActionPart, ActionSpec, ArraySpec, EnvSpec

STATE, ACTION, BATCH, HIDDEN, ROWS = 18, 7, 256, (256, 256), 10_000
SPEC = EnvSpec(
    robot="benchmark",
    step_rate_hz=20.0,
    observation={"state": ArraySpec((STATE,))},
    action=ActionSpec((ActionPart("a", ActionKind.RAW, (-1.0,) * ACTION, (1.0,) * ACTION),)),
)
Update = Callable[[], Any]


def main(arguments: Mapping[str, str]) -> dict[str, Any]:
    torch.set_num_threads(1)
    rounds, updates = int(arguments.get("rounds", "20")), int(arguments.get("updates", "20"))
    bfloat16 = torch.backends.cpu.get_cpu_capability() >= "AVX512" and _has("avx512_bf16", "amx_bf16")
    variants: dict[str, Update] = {"fp32_eager_e2": ours(2), "fp32_compiled_e2": ours(2, compiled=True)}
    fast: dict[str, Any] = {"compiled": True, "precision": "bfloat16"} if bfloat16 else {"compiled": True}
    name = "bf16_compiled" if bfloat16 else "fp32_compiled"
    variants |= {f"{name}_e2": ours(2, **fast), f"{name}_e10": ours(10, **fast)}
    for update in variants.values():
        for _ in range(5):  # the first ones compile
            update()
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    variants["sb3"] = stable_baselines3()
    times = measure(variants, rounds, updates)
    rate = {name: 1.0 / statistics.median(taken) for name, taken in times.items()}
    float32 = max((n for n in rate if n.startswith("fp32") and n.endswith("e2")), key=lambda n: rate[n])
    best = max((n for n in rate if n.endswith("_e2")), key=lambda n: rate[n])
    return {
        "ratio_fp32_vs_sb3_e2": ratio(times["sb3"], times[float32]),
        "ratio_best_vs_sb3_e2": ratio(times["sb3"], times[best]),
        "cost_e10_over_e2": ratio(times[f"{name}_e10"], times[f"{name}_e2"]),
        "updates_per_s_e10": round(rate[f"{name}_e10"], 1),
        "updates_per_s_e2": round(rate[best], 1),
        "updates_per_s_sb3": round(rate["sb3"], 1),
        "peak_rss_mb": round(peak_rss_mb),
        "variants": {name: round(value, 1) for name, value in rate.items()},
    }


def _has(*flags: str) -> bool:
    found = Path("/proc/cpuinfo").read_text()
    return any(flag in found for flag in flags)


def ratio(first: list[float], second: list[float]) -> float:
    """Median over rounds of first / second."""
    return round(statistics.median(a / b for a, b in zip(first, second, strict=True)), 3)


def measure(variants: Mapping[str, Update], rounds: int, updates: int) -> dict[str, list[float]]:
    """Seconds of processor time per update, one number per round and variant."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for update in variants.values():
        update()
    for number in range(rounds):
        for name in random.Random(number).sample(
            list(variants), len(variants)
        ):  # no variant always follows the same one
            began = time.process_time()
            for _ in range(updates):
                variants[name]()
            times[name].append((time.process_time() - began) / updates)
    return times


# --- the two sides ---------------------------------------------------------------------------------------------------


def ours(members: int, **options: Any) -> Update:
    """RLPD without demonstrations and with all critics in the target, which is SAC with LayerNorm."""
    policy = GaussianPolicy(SPEC, hidden=HIDDEN)
    rows = transitions()
    policy.fit_normalizer({"obs/state": rows["obs"]})
    critic = functools.partial(QEnsemble, members=members, hidden=HIDDEN)
    learner = Rlpd(policy, critic, subset=2, demonstrations=False, entropy_backup=True, **options)
    sampler = ReplaySampler([_episode(rows)], learner.views["online"], batch=BATCH)  # type: ignore[arg-type]
    step = 0

    def update() -> None:
        nonlocal step
        batch = sampler.batch(step)
        learner.update({"online": {key: torch.from_numpy(value)[None] for key, value in batch.items()}})
        step += 1

    return update


def stable_baselines3() -> Update:
    """Its SAC with LayerNorm put into its networks and a full replay buffer."""
    import gymnasium
    from stable_baselines3 import SAC
    from stable_baselines3.common.logger import Logger

    class Space(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (STATE,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

    model = SAC(
        "MlpPolicy", Space(), batch_size=BATCH, buffer_size=ROWS, device="cpu", policy_kwargs={"net_arch": list(HIDDEN)}
    )
    _normalise_layers(model)
    model.set_logger(Logger(None, []))
    rows = transitions()
    for t in range(ROWS - 1):
        done = np.array([rows["terminated"][t]])
        model.replay_buffer.add(  # type: ignore[union-attr]
            rows["obs"][t], rows["obs"][t + 1], rows["action"][t], rows["reward"][t : t + 1], done, [{}]
        )
    return lambda: model.train(gradient_steps=1, batch_size=BATCH)


def _normalise_layers(model: Any) -> None:
    """LayerNorm behind every hidden linear layer of actor, critics and targets, and new optimisers for them."""
    from torch import nn

    def normalised(network: nn.Sequential) -> nn.Sequential:
        layers: list[nn.Module] = []
        for layer in network:
            hidden = isinstance(layer, nn.Linear) and layer.out_features != 1
            layers += [layer, nn.LayerNorm(layer.out_features)] if hidden else [layer]  # type: ignore[union-attr]
        return nn.Sequential(*layers)

    model.actor.latent_pi = normalised(model.actor.latent_pi)
    for critic in (model.critic, model.critic_target):
        for index, network in enumerate(critic.q_networks):
            critic.q_networks[index] = normalised(network)
            setattr(critic, f"qf{index}", critic.q_networks[index])
    for part in (model.actor, model.critic):
        part.optimizer = torch.optim.Adam(part.parameters(), lr=3e-4)


@functools.cache
def transitions() -> dict[str, Any]:
    """Random rows that both sides learn from."""
    rng = np.random.default_rng(0)
    return {
        "obs": rng.normal(size=(ROWS, STATE)).astype(np.float32),
        "action": rng.uniform(-1.0, 1.0, (ROWS, ACTION)).astype(np.float32),
        "reward": (rng.random(ROWS) < 0.01).astype(np.float32),
        "terminated": np.zeros(ROWS, dtype=bool),
    }


def _episode(rows: Mapping[str, Any]) -> Episode:
    nothing = np.zeros(ROWS, dtype=bool)
    arrays = {
        "obs/state": rows["obs"],
        "action/commanded": rows["action"],
        "action_valid": np.arange(ROWS) < ROWS - 1,
        "time/t_ns": np.arange(ROWS, dtype=np.int64),
        "rl/reward": rows["reward"],
        "rl/success": nothing,
        "rl/terminated": rows["terminated"],
        "rl/truncated": nothing,
    }
    return Episode("random", arrays, {"success": None})


if __name__ == "__main__":
    print(json.dumps(main(dict(word.split("=", 1) for word in sys.argv[1:]))))
