"""The actor's service over a real env and store: pauses, evaluates what it is asked to, tries again, tidies, stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.gaussian import GaussianPolicy
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ResetError, RobotError
from robot_rl.interfaces import Env
from robot_rl.runtime import acting
from robot_rl.runtime.acting import ActorService
from robot_rl.runtime.actor import Actor, NewestPolicy
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.transport.actor import ZmqActor
from robot_rl.transport.learner import ZmqLearner
from robot_rl.transport.local import LocalTransport
from robot_rl.transport.signals import EVALUATE, GO_ON, NO_EVALUATION, PAUSE, SCORE, STOP
from robot_rl.types import EpisodeEnd
from tests.contracts.options import build_env
from tests.runtime.test_actor import ARM, fitted, weights


class Ends:
    """A service, the learner that it hears, and what it tells."""

    def __init__(self, env: Env, root: Path, **options: Any) -> None:
        self.store = EpisodeStore.open_or_create(root)
        self.transport = LocalTransport(self.store)
        self.transport.publish(4, weights(fitted(env.spec, seed=1)), {})
        policy = NewestPolicy(GaussianPolicy(env.spec, hidden=(8,)), self.transport)
        self.told: list[str] = []
        self.ended: list[EpisodeEnd] = []
        actor = Actor(env, policy, [EpisodeRecorder(self.store)], next_seed=5)
        self.service = ActorService(
            actor, policy, self.transport, self.store, on_episode=self.ended.append, tell=self.told.append, **options
        )

    def seeds(self) -> list[int]:
        """Of the training episodes."""
        return [info.metadata["seed"] for info in self.store.infos()]

    def ask(self, id: str, version: int, episodes: int = 3) -> None:
        payload = {"id": id, "version": version, "first_seed": 200_000, "episodes": episodes}
        self.transport.signal(EVALUATE, payload)


@pytest.fixture
def env() -> Iterator[Env]:
    made = build_env("lift", *ARM)
    yield made
    made.close()


def test_seeds_go_on_after_a_restart_and_a_stop_ends_it(env: Env, tmp_path: Path) -> None:
    Ends(env, tmp_path / "store").service.run(episodes=2)
    again = Ends(env, tmp_path / "store")
    again.service.run(episodes=1)
    assert again.seeds() == [5, 6, 7]
    again.transport.signal(STOP)
    again.service.run()
    assert again.service.episodes == 1


def test_an_evaluation_is_deterministic_reported_and_not_recorded(env: Env, tmp_path: Path) -> None:
    ends = Ends(env, tmp_path / "store")
    for id in ("first", "second"):
        ends.ask(id, version=4)
        ends.service.run(episodes=ends.service.episodes + 1)  # it goes before the next training episode
    reports = [(report.kind, report.payload) for report in ends.transport.arrivals().reports]
    assert [(kind, told["id"]) for kind, told in reports] == [(SCORE, "first")] * 3 + [(SCORE, "second")] * 3
    assert {told["seed"] for _, told in reports[:3]} == {200_000, 200_001, 200_002}
    first, second = ([{**told, "id": ""} for _, told in part] for part in (reports[:3], reports[3:]))
    assert first == second
    assert all(told["length"] == 6 and told["success"] is False for told in first)
    assert ends.seeds() == [5, 6]
    assert ends.told == ["evaluated weights 4"] * 2


def test_an_evaluation_that_is_over_or_of_a_learner_that_is_no_more_is_left(env: Env, tmp_path: Path) -> None:
    ends = Ends(env, tmp_path / "store")
    ends.ask("of older weights", version=3)
    ends.service.run(episodes=1)
    ends.ask("over", version=4)
    ends.transport.signal(EVALUATE, {"id": NO_EVALUATION})
    ends.service.run(episodes=2)
    assert ends.transport.arrivals().reports == ()
    assert ends.seeds() == [5, 6]


def test_it_waits_at_a_reset_until_it_may_go_on(env: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = Ends(env, tmp_path / "store")
    waits: list[float] = []

    def wait(timeout_s: float) -> None:
        waits.append(timeout_s)
        if len(waits) == 3:
            ends.transport.signal(GO_ON)

    monkeypatch.setattr(ends.transport, "wait", wait)
    ends.transport.signal(PAUSE)
    ends.service.run(episodes=1)
    assert len(waits) == 3
    assert ends.seeds() == [5]


def test_without_a_learner_it_goes_on_for_a_while_and_then_waits_at_a_reset(env: Env, tmp_path: Path) -> None:
    """Over real sockets: the learner dies, the actor runs ahead, waits, and goes on with the next learner."""
    session = EpisodeStore.create(tmp_path / "session")
    store = EpisodeStore.create(tmp_path / "actor", spec=env.spec)
    told: list[tuple[str, int]] = []
    acts, waits, goes_on = (threading.Event() for _ in range(3))

    def tell(text: str) -> None:
        told.append((text.partition(" for ")[0], service.episodes))
        (waits if "waiting" in text else goes_on).set()

    with ZmqLearner(session, "tcp://127.0.0.1:0") as learner, ExitStack() as opened:
        address = learner.address
        learner.publish(4, weights(fitted(env.spec, seed=1)), {})
        transport = ZmqActor(store.root, address)
        opened.enter_context(transport)
        policy = NewestPolicy(GaussianPolicy(env.spec, hidden=(8,)), transport)
        actor = Actor(env, policy, [EpisodeRecorder(store)], next_seed=5)
        service = ActorService(
            actor, policy, transport, store, learner_timeout_s=0.3, on_episode=lambda end: acts.set(), tell=tell
        )
        while transport.latest() is None:
            transport.wait(1.0)
        pool = opened.enter_context(ThreadPoolExecutor(1))
        running = pool.submit(service.run)
        assert acts.wait(30.0)
        left = opened.pop_all()
    with left:
        assert waits.wait(30.0)
        with ZmqLearner(EpisodeStore.open(session.root), address) as learner:
            assert goes_on.wait(30.0)
            learner.signal(STOP, keep=True)
            running.result(30.0)
    (first, at), (second, later) = told
    assert (first, second) == ("no word of the learner", "the learner is back: going on")
    assert at == later >= 1


class Faulty:
    """An env whose resets of some seeds fail."""

    def __init__(self, env: Env, seeds: tuple[int, ...]) -> None:
        self._env, self._seeds = env, seeds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, seed: int) -> Any:
        if seed in self._seeds:
            raise ResetError(f"the arm did not reach the start of seed {seed}")
        return self._env.reset(seed)


def test_faults_are_tried_again_and_too_many_in_a_row_are_raised(
    env: Env, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "RETRY_S", 0.0)
    faulty: Any = Faulty(env, (5, 6, 8, 10, 11, 12))
    ends = Ends(faulty, tmp_path / "store", retries=2)
    with pytest.raises(RobotError, match=r"3 faults in a row, the last: .* seed 12.*limit: retries=2.*clear its fault"):
        ends.service.run()
    assert ends.seeds() == [7, 9]  # each success begins the count anew
    assert [text.rpartition(", ")[2] for text in ends.told] == ["1 of 2", "2 of 2", "1 of 2", "1 of 2", "2 of 2"]


class Reflexive:
    """An env in which every step trips the arm's reflex."""

    def __init__(self, env: Env) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def step(self, plan: Any) -> Any:
        return replace(self._env.step(plan), truncated=True, info={"fault": "reflex"})


@pytest.mark.parametrize("evaluated", [False, True])
def test_episodes_that_end_by_a_fault_count_whoever_asked_for_them(
    env: Env, tmp_path: Path, evaluated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acting, "RETRY_S", 0.0)
    reflexive: Any = Reflexive(env)
    ends = Ends(reflexive, tmp_path / "store", retries=1)
    if evaluated:
        ends.ask("wanted", version=4)
    with pytest.raises(RobotError, match=r"^2 faults in a row, the last: the episode ended by a fault: reflex"):
        ends.service.run()
    assert len(ends.told) == 1
    assert ends.seeds() == ([] if evaluated else [5, 6])
    assert [report.payload["success"] for report in ends.transport.arrivals().reports] == [False, False] * evaluated


@pytest.mark.parametrize("keep_local", [False, True])
def test_what_the_learner_has_is_removed_here(
    env: Env, tmp_path: Path, keep_local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Ends(env, tmp_path / "store", keep_local=keep_local)
    monkeypatch.setattr(ends.transport, "delivered", lambda: [*ends.store.ids()[:1], "NOT-HERE"])
    ends.service.run(episodes=2)
    assert ends.seeds() == ([5, 6] if keep_local else [])
    assert ends.store.verify() == []
