"""The contracts of both transports' ends: in one process over one store, and over ZMQ between two stores."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.interfaces import ActorTransport, Arrivals, LearnerTransport, Report
from robot_rl.transport.actor import ZmqActor
from robot_rl.transport.learner import ZmqLearner
from robot_rl.transport.local import LocalTransport
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec

SPEC = make_spec()


@dataclass
class Ends:
    """Both ends, the store that the actor records into and a second view of the learner's."""

    actor: ActorTransport
    learner: LearnerTransport
    recorded: EpisodeStore
    root: Path
    arrived: Arrivals = field(default_factory=Arrivals)

    def until(self, condition: Callable[[], Any]) -> Any:
        """What ``condition`` returns once it is true."""
        until = time.monotonic() + 30.0
        while not (found := condition()):
            assert time.monotonic() < until, "the condition never came true"
            self.actor.wait(0.02)  # shorter where there is news
        return found

    def collect(self) -> Arrivals:
        """All arrivals so far."""
        self.arrived += self.learner.arrivals()
        return self.arrived

    def arrives(self, **wanted: Any) -> None:
        """Wait until all arrivals together are as wanted."""
        self.until(lambda: all(getattr(self.collect(), name) == value for name, value in wanted.items()))


@pytest.fixture(params=["local", "zmq"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    with ExitStack() as stack:
        if request.param == "local":
            store = EpisodeStore.create(tmp_path / "shared", spec=SPEC)
            link = stack.enter_context(LocalTransport(store))
            yield Ends(link, link, EpisodeStore.open(tmp_path / "shared"), tmp_path / "shared")
        else:
            store = EpisodeStore.create(tmp_path / "session")
            learner = stack.enter_context(ZmqLearner(store, "tcp://127.0.0.1:0"))
            recorded = EpisodeStore.create(tmp_path / "actor", spec=SPEC)
            actor = stack.enter_context(ZmqActor(tmp_path / "actor", learner.address))
            found = Ends(actor, learner, recorded, tmp_path / "session")
            found.until(learner.actors)
            yield found


def record(store: EpisodeStore, ordinal: int, steps: int) -> str:
    """An episode of ``steps`` control steps, ended."""
    with store.begin(SPEC, {"ordinal": ordinal}) as writer:
        for t in range(steps + 1):
            writer.append(make_row(SPEC, ordinal, t, final=t == steps))
        writer.end(EpisodeEnd("time_limit", None, steps))
        return writer.id


def test_episodes_arrive_once_and_bit_for_bit(ends: Ends) -> None:
    ids = tuple(record(ends.recorded, ordinal, steps=5 + ordinal) for ordinal in range(3))
    ends.arrives(committed=ids, steps=5 + 6 + 7)
    session = EpisodeStore.open(ends.root, recover=False)
    assert session.verify() == []
    assert session.ids() == list(ids)
    for id in ids:
        ours, theirs = ends.recorded.read(id), session.read(id)
        assert ours.arrays.keys() == theirs.arrays.keys()
        for name, value in ours.arrays.items():
            np.testing.assert_array_equal(value, theirs.arrays[name])
        assert bytes(ours.cameras["wrist"].data) == bytes(theirs.cameras["wrist"].data)
        assert ours.metadata == theirs.metadata
    assert ends.learner.arrivals() == Arrivals()


def test_steps_arrive_while_the_episode_runs(ends: Ends) -> None:
    with ends.recorded.begin(SPEC) as writer:
        for t in range(7):
            writer.append(make_row(SPEC, 0, t))
        ends.arrives(steps=6, committed=())
        for t in range(7, 10):
            writer.append(make_row(SPEC, 0, t, final=t == 9))
        writer.end(EpisodeEnd("time_limit", None, 9))
    ends.arrives(steps=9, committed=(writer.id,))


def test_a_discarded_episode_is_never_among_the_learners(ends: Ends) -> None:
    with ends.recorded.begin(SPEC) as writer:
        for t in range(4):
            writer.append(make_row(SPEC, 0, t))
        ends.arrives(steps=3)
        writer.discard("the operator says so")
    kept = record(ends.recorded, 1, steps=2)
    ends.arrives(steps=3 + 2, committed=(kept,))
    assert EpisodeStore.open(ends.root, recover=False).ids() == [kept]


def test_annotations_by_episode_id(ends: Ends) -> None:
    first, second = record(ends.recorded, 0, steps=3), record(ends.recorded, 1, steps=3)
    ends.arrives(committed=(first, second))
    ends.actor.annotate(first, {"success": True, "note": "by key"})
    ends.actor.annotate(second, {"deleted": True})
    ends.arrives(edited=(first, second))
    (info,) = EpisodeStore.open(ends.root, recover=False).infos()
    assert (info.id, info.success, info.note) == (first, True, "by key")
    with pytest.raises(ConfigError, match="cannot note"):
        ends.actor.annotate(first, {"sucess": True})


def test_only_the_newest_weights_are_there(ends: Ends) -> None:
    assert ends.actor.latest() is None
    tensors = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(4, np.int64)}
    for version in (3, 4, 9):
        ends.learner.publish(version, {name: value * version for name, value in tensors.items()}, {"seed": 1})
    ends.until(lambda: (found := ends.actor.latest()) and found.version == 9)
    weights = ends.actor.latest()
    assert weights is not None and weights.meta == {"seed": 1}
    for name, value in tensors.items():
        np.testing.assert_array_equal(weights.tensors[name], value * 9)
        assert weights.tensors[name].dtype == value.dtype
    ends.until(lambda: ends.learner.actors()[0].version == 9)
    with pytest.raises(ConfigError, match="rising"):
        ends.learner.publish(9, tensors, {})


def test_what_was_published_does_not_change_with_the_learner(ends: Ends) -> None:
    value = np.ones(1000, np.float32)
    ends.learner.publish(1, {"w": value}, {})
    value[:] = 0
    weights = ends.until(ends.actor.latest)
    assert weights.tensors["w"].min() == 1
    with pytest.raises(ValueError, match="read-only"):
        weights.tensors["w"][0] = 5


def test_signals_come_once_in_order_to_whom_they_are_meant_for(ends: Ends) -> None:
    name = ends.learner.actors()[0].name
    ends.learner.signal("pause_at_reset", {"seconds": 2.0})
    ends.learner.signal("stop", {}, actor="somebody else")
    ends.learner.signal("discard", {"episode": "X"}, actor=name)
    heard: list[Any] = []
    ends.until(lambda: heard.extend(ends.actor.signals()) or len(heard) == 2)
    assert [(s.kind, s.payload) for s in heard] == [("pause_at_reset", {"seconds": 2.0}), ("discard", {"episode": "X"})]
    ends.learner.signal("stop", {})
    ends.until(lambda: heard.extend(ends.actor.signals()) or len(heard) == 3)
    assert len({signal.id for signal in heard}) == 3


def test_reports_arrive_in_order(ends: Ends) -> None:
    for number in range(3):
        ends.actor.report("score", {"seed": number})
    ends.arrives(reports=tuple(Report("score", {"seed": number}) for number in range(3)))


def test_what_waits_is_woken_by_the_other_end(ends: Ends) -> None:
    """Each waits for longer than a test may take."""
    waited = threading.Event()

    def wait() -> None:
        while not ends.actor.signals():
            ends.actor.wait(1000.0)
        waited.set()

    threading.Thread(target=wait, daemon=True).start()
    ends.learner.signal("stop")
    assert waited.wait(60.0)
    ends.actor.report("score", {})
    while not ends.learner.arrivals().reports:
        ends.learner.wait(1000.0)


def test_only_what_the_learner_has_in_a_file_of_its_own_is_delivered(ends: Ends) -> None:
    id = record(ends.recorded, 0, steps=3)
    ends.arrives(committed=(id,))
    if isinstance(ends.actor, LocalTransport):
        assert ends.actor.delivered() == []  # there is one copy
    else:
        assert ends.until(ends.actor.delivered) == [id]
        ends.recorded.drop([id])
        assert EpisodeStore.open(ends.recorded.root).ids() == []
        assert EpisodeStore.open(ends.root, recover=False).ids() == [id]
    assert ends.actor.delivered() == []


def test_both_ends_know_of_each_other(ends: Ends) -> None:
    ends.until(lambda: ends.actor.status().age_s < math.inf)
    status = ends.actor.status()
    assert (status.version, status.problem) == (None, "")
    ends.until(lambda: ends.actor.status().lag_bytes == 0)
    (actor,) = ends.learner.actors()
    assert actor.age_s < 30.0 and actor.name
