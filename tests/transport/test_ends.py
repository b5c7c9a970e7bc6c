"""Both ends over real sockets, with the other one late, slow, stopped, dead or restarted."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, ProtocolError, StoreError
from robot_rl.transport.actor import ZmqActor
from robot_rl.transport.keys import KeyRing
from robot_rl.transport.learner import ZmqLearner
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec

SPEC = make_spec()


def until(link: ZmqActor | ZmqLearner, condition: Callable[[], Any]) -> Any:
    """What ``condition`` returns once it is true; looked at whenever ``link`` has news, and now and then."""
    end = time.monotonic() + 30.0
    while not (found := condition()):
        assert time.monotonic() < end, "the condition never came true"
        link.wait(0.05)
    return found


def record(store: EpisodeStore, ordinal: int, steps: int = 5) -> str:
    with store.begin(SPEC, {"ordinal": ordinal}) as writer:
        for t in range(steps + 1):
            writer.append(make_row(SPEC, ordinal, t, final=t == steps))
        writer.end(EpisodeEnd("time_limit", None, steps))
    return writer.id


@pytest.fixture
def stores(tmp_path: Path) -> tuple[EpisodeStore, EpisodeStore]:
    """The actor's and the learner's."""
    return EpisodeStore.create(tmp_path / "actor", spec=SPEC), EpisodeStore.create(tmp_path / "session")


def test_what_was_recorded_without_a_learner_arrives_when_there_is_one(
    stores: tuple[EpisodeStore, EpisodeStore],
) -> None:
    recorded, session = stores
    with ZmqLearner(session, "tcp://127.0.0.1:0") as learner:
        address = learner.address
    with ZmqActor(recorded.root, address) as actor:
        ids = [record(recorded, ordinal) for ordinal in range(12)]  # more than are open at a time
        until(actor, lambda: actor.status().lag_bytes > 0)
        assert actor.status().age_s == math.inf
        assert not actor.flush(0.02)
        with ZmqLearner(EpisodeStore.open(session.root), address) as learner:
            assert actor.flush(30.0)
            assert until(actor, lambda: actor.status().age_s < 5.0)
            assert learner.arrivals().committed == tuple(ids)
    assert list((recorded.root / "outbox").glob("*.journal")) == []


def test_a_restarted_actor_delivers_what_its_predecessor_had_not(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    recorded, session = stores
    with ZmqLearner(session, "tcp://127.0.0.1:0") as learner:
        with ZmqActor(recorded.root, "tcp://127.0.0.1:9"):  # nobody is there
            first = record(recorded, 0)
            with recorded.begin(SPEC, {"ordinal": 1}) as killed:
                for t in range(4):
                    killed.append(make_row(SPEC, 1, t))
        again = EpisodeStore.open(recorded.root)
        with ZmqActor(again.root, learner.address) as actor:
            third = record(again, 2)
            assert actor.flush(30.0)
    told = EpisodeStore.open(session.root)
    assert told.ids() == [first, killed.id, third]
    cut = told.read(killed.id)
    assert (cut.rows, cut.metadata["ended"], bool(cut.arrays["rl/truncated"][-2])) == (4, False, True)


def test_an_actor_that_stood_still_gets_the_newest_weights_and_no_backlog(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from robot_rl.transport.actor import ZmqActor\n"
        "with ZmqActor(sys.argv[1], sys.argv[2]) as link:\n"
        "    last = None\n"
        "    while last is None or last < 60:\n"
        "        weights = link.latest()\n"
        "        if weights is not None and weights.version != last:\n"
        "            last = weights.version\n"
        "            print(last, flush=True)\n"
    )
    tensors = {"w": np.zeros(100_000, np.float32)}
    EpisodeStore.create(tmp_path / "actor", spec=SPEC)
    with ZmqLearner(EpisodeStore.create(tmp_path / "session"), "tcp://127.0.0.1:0") as learner:
        learner.publish(1, tensors, {})
        command = [sys.executable, "-c", program, str(tmp_path / "actor"), learner.address]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as actor:
            assert actor.stdout is not None
            assert actor.stdout.readline() == "1\n"
            actor.send_signal(signal.SIGSTOP)
            for version in range(2, 61):
                learner.publish(version, tensors, {})
            actor.send_signal(signal.SIGCONT)
            seen = [int(line) for line in actor.stdout]
        assert actor.returncode == 0
    assert seen[-1] == 60
    assert len(seen) <= 2  # at most the one it was in the middle of


def test_late_actors_hear_what_was_said_to_stay_said(stores: tuple[EpisodeStore, EpisodeStore], tmp_path: Path) -> None:
    EpisodeStore.create(tmp_path / "late", spec=SPEC)
    with ZmqLearner(stores[1], "tcp://127.0.0.1:0") as learner:
        with ZmqActor(stores[0].root, learner.address, name="early") as early:
            until(early, learner.actors)
            learner.signal("stop", {})
            learner.signal("pause_at_reset", {"paused": True}, keep=True)
            learner.signal("pause_at_reset", {"paused": False}, keep=True)
            heard: list[Any] = []
            until(early, lambda: heard.extend(early.signals()) or len(heard) == 3)
            with ZmqActor(tmp_path / "late", learner.address, name="late") as late:
                (only,) = until(late, late.signals)
                assert (only.kind, only.payload) == ("pause_at_reset", {"paused": False})
                until(late, lambda: [actor.name for actor in learner.actors()] == ["early", "late"])
            learner.signal("go_on", keep=True)
            learner.signal("pause_at_reset", {"paused": True}, keep=True)
            with ZmqActor(tmp_path / "late", learner.address, name="late") as late:
                assert [signal.kind for signal in until(late, late.signals)] == ["go_on", "pause_at_reset"]
            until(early, lambda: [actor.name for actor in learner.actors()] == ["early", "late"])  # which started twice
        with pytest.raises(ProtocolError, match="too large"):
            learner.signal("relabel", {"text": "x" * 3000})


def test_the_last_word_of_a_learner_that_leaves_is_heard(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    for _ in range(3):
        learner = ZmqLearner(EpisodeStore.open(stores[1].root), "tcp://127.0.0.1:0")
        with ZmqActor(stores[0].root, learner.address) as actor:
            until(actor, learner.actors)
            learner.signal("stop", keep=True)
            learner.close()
            assert [signal.kind for signal in actor.signals()] == ["stop"]


def test_a_revoked_actor_is_cut_off_while_it_is_connected(
    stores: tuple[EpisodeStore, EpisodeStore], tmp_path: Path
) -> None:
    recorded, session = stores
    ring = KeyRing(tmp_path / "keys")
    for name in ("server", "robot1"):
        ring.new(name)
    with ZmqLearner(session, "tcp://0.0.0.0:0", keys="server", key_folder=ring.folder) as learner:
        address = "tcp://127.0.0.1:" + learner.address.rpartition(":")[2]
        with ZmqActor(recorded.root, address, keys="robot1", key_folder=ring.folder) as actor:
            first = record(recorded, 0)
            assert actor.flush(30.0)
            ring.revoke("robot1")
            record(recorded, 1)
            until(actor, lambda: learner.dropped["unauthorized"] > 1)
            assert not actor.flush(0.1)
            assert actor.status().lag_bytes > 0
    assert EpisodeStore.open(session.root).ids() == [first]


def test_no_keys_no_wide_address(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    with pytest.raises(ConfigError, match="without keys"):
        ZmqLearner(stores[1], "tcp://*:5588")
    with pytest.raises(ConfigError, match="without keys"):
        ZmqActor(stores[0].root, "tcp://192.168.1.7:5588")
    with pytest.raises(StoreError, match="Create the store before"):
        ZmqActor(stores[0].root / "nowhere")
    with ZmqActor(stores[0].root), pytest.raises(StoreError, match="another process"):
        ZmqActor(stores[0].root)


def test_two_learners_cannot_share_a_store(stores: tuple[EpisodeStore, EpisodeStore]) -> None:
    with ZmqLearner(stores[1], "tcp://127.0.0.1:0"), pytest.raises(StoreError, match="another learner"):
        ZmqLearner(stores[1], "tcp://127.0.0.1:0")


def test_the_control_thread_waits_for_nothing_while_the_learner_stands_still(tmp_path: Path) -> None:
    """A stopped learner takes nothing; calls of the control thread go on, the window bounds what is under way."""
    program = (
        "import sys\n"
        "from robot_rl.data.store import EpisodeStore\n"
        "from robot_rl.transport.learner import ZmqLearner\n"
        "with ZmqLearner(EpisodeStore.create(sys.argv[1]), 'tcp://127.0.0.1:0') as link:\n"
        "    print(link.address, flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    recorded = EpisodeStore.create(tmp_path / "actor", spec=SPEC)
    command = [sys.executable, "-c", program, str(tmp_path / "session")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as learner:
        assert learner.stdin is not None and learner.stdout is not None
        with ZmqActor(recorded.root, learner.stdout.readline().strip(), window_bytes=4000) as actor:
            until(actor, lambda: actor.status().age_s < 1.0)
            learner.send_signal(signal.SIGSTOP)
            ids = [record(recorded, ordinal, steps=40) for ordinal in range(4)]
            until(actor, lambda: actor.status().lag_bytes > 40_000)
            assert actor.latest() is None and actor.signals() == []
            until(actor, lambda: actor.status().lag_s > 0.2)
            learner.send_signal(signal.SIGCONT)
            assert actor.flush(30.0)
        learner.communicate("end\n", timeout=20)
    assert EpisodeStore.open(tmp_path / "session").ids() == ids
