"""Acting with the newest weights: taken between decisions, stamped on what they decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from policies.gaussian import GaussianPolicy
from robot_rl.data.store import EpisodeStore
from robot_rl.runtime.actor import Actor, NewestPolicy
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.transport.local import LocalTransport
from robot_rl.types import ActContext, Array, Decision, EnvSpec, EpisodeEnd, Observation, StepRow
from tests.contracts.options import build_env

ARM = ["robot=fake", "robot.objects=[cube]", "env.max_steps=6"]


def weights(policy: GaussianPolicy) -> dict[str, Array]:
    return {name: value.numpy().copy() for name, value in policy.state_dict().items()}


def fitted(spec: EnvSpec, seed: int) -> GaussianPolicy:
    policy = GaussianPolicy(spec, hidden=(8,), seed=seed)
    shapes = {name: value.shape for name, value in policy.spec.observation.items()}
    rng = np.random.default_rng(0)
    policy.fit_normalizer({f"obs/{n}": rng.normal(size=(9, *shape)).astype(np.float32) for n, shape in shapes.items()})
    return policy


class Publishing:
    """Listener that publishes version 10 t once step t has been made."""

    def __init__(self, transport: LocalTransport, policy: GaussianPolicy) -> None:
        self._transport, self._policy = transport, policy

    def on_reset(self, observation: Observation, spec: EnvSpec, seed: int) -> None: ...

    def on_decision(self, decision: Decision) -> None: ...

    def on_step(self, row: StepRow) -> None:
        latest = self._transport.latest()
        self._transport.publish((latest.version if latest else 0) + 10, weights(self._policy), {})

    def on_end(self, final: StepRow, end: EpisodeEnd) -> None: ...


def test_each_decision_is_made_and_stamped_with_the_newest_weights(tmp_path: Path) -> None:
    env = build_env("lift", *ARM)
    store = EpisodeStore.create(tmp_path / "session")
    transport, learnt = LocalTransport(store), fitted(env.spec, seed=2)
    transport.publish(0, weights(fitted(env.spec, seed=1)), {})
    policy = NewestPolicy(GaussianPolicy(env.spec, hidden=(8,), seed=7), transport)
    actor = Actor(env, policy, [EpisodeRecorder(store), Publishing(transport, learnt)], next_seed=5)
    for _ in range(2):
        assert actor.run_episode().length == 6
    env.close()
    assert actor.next_seed == 7
    first, second = (store.read(id) for id in store.ids())
    assert [first.metadata["seed"], second.metadata["seed"]] == [5, 6]
    assert first.arrays["policy/version"][:-1].tolist() == [0, 10, 20, 30, 40, 50]
    assert second.arrays["policy/version"][:-1].tolist() == [60, 70, 80, 90, 100, 110]


def test_the_newest_weights_act_as_the_policy_they_were_taken_from(tmp_path: Path) -> None:
    env = build_env("lift", *ARM)
    transport = LocalTransport(EpisodeStore.create(tmp_path / "session"))
    learnt = fitted(env.spec, seed=2)
    policy = NewestPolicy(GaussianPolicy(env.spec, hidden=(8,), seed=7), transport)
    transport.publish(4, weights(learnt), {})
    window = {name: np.ones((1, 1, *value.shape), np.float32) for name, value in policy.spec.observation.items()}
    chunk = policy.act(window, ActContext.start(1))
    np.testing.assert_array_equal(chunk.actions, learnt.act(window, ActContext.start(1)).actions)
    assert chunk.version == 4
    env.close()
