"""Outbox and inbox without sockets: any order of losses, repeats and restarts delivers every journal exactly once."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.journal import scan_records
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError, StoreError
from robot_rl.interfaces import Arrivals
from robot_rl.transport import outbox as outbox_module
from robot_rl.transport import shipment as shipment_module
from robot_rl.transport.inbox import Inbox
from robot_rl.transport.messages import Message, decode, encode
from robot_rl.transport.notes import RESEND_S
from robot_rl.transport.outbox import Outbox
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec

SPEC = make_spec()
Drop = Callable[[], bool]


class Pair:
    """An outbox and an inbox, a clock, and a wire between them."""

    def __init__(self, root: Path, *, window_bytes: int = 2**20) -> None:
        self.root, self.window_bytes, self.now_s = root, window_bytes, 0.0
        self.recorded = EpisodeStore.create(root / "actor", spec=SPEC)
        EpisodeStore.create(root / "session")
        self.outbox = Outbox(root / "actor", window_bytes=window_bytes)
        self.restart_learner()
        self.messages: list[Message] = []

    def restart_actor(self) -> None:
        self.outbox.close()
        self.recorded = EpisodeStore.open(self.root / "actor")
        self.outbox = Outbox(self.root / "actor", window_bytes=self.window_bytes)

    def restart_learner(self) -> None:
        if hasattr(self, "inbox"):
            self.inbox.close()
        self.session = EpisodeStore.open(self.root / "session")
        self.inbox = Inbox(self.session)
        self.inbox.resume()
        self.outbox.ask_again()

    def step(
        self, lost: Drop = lambda: False, answer_lost: Drop = lambda: False, repeated: Drop = lambda: False
    ) -> int:
        """Everything due is sent once, with some of it lost or repeated; returns how many messages were sent."""
        self.now_s += 0.3
        self.outbox.look()
        sent = []
        while (message := self.outbox.next_message(self.now_s)) is not None:
            sent.append(decode([bytes(frame) for frame in encode(message)]))
        self.messages += sent
        arrived = [message for message in sent if not lost()]
        arrived += [message for message in arrived if repeated()]
        for _, answer in self.inbox.take([(b"peer", message) for message in arrived]):
            if not answer_lost():
                self.outbox.heard(decode([bytes(frame) for frame in encode(answer)]), self.now_s)
        return len(sent)

    def run(self, steps: int = 60) -> None:
        """Until the learner has everything."""
        for _ in range(steps):
            self.step()
            if self.outbox.empty:
                return
        raise AssertionError(f"not delivered: {[path.name for path in self.outbox.folder.iterdir()]}")

    def ids(self) -> list[str]:
        return EpisodeStore.open(self.root / "session", recover=False).ids()

    def close(self) -> None:
        self.outbox.close()
        self.inbox.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def record(store: EpisodeStore, ordinal: int, steps: int, *, end: str = "time_limit") -> str:
    """An episode that ended, was killed before its last row, or was discarded."""
    with store.begin(SPEC, {"ordinal": ordinal}) as writer:
        for t in range(steps + 1 if end != "killed" else steps):
            writer.append(make_row(SPEC, ordinal, t, final=t == steps))
        if end == "discarded":
            writer.discard("test")
        elif end != "killed":
            writer.end(EpisodeEnd(end, None, steps))
    return writer.id


def same(pair: Pair, id: str) -> bool:
    ours, theirs = pair.recorded.read(id), EpisodeStore.open(pair.root / "session", recover=False).read(id)
    arrays = all(np.array_equal(value, theirs.arrays[name]) for name, value in ours.arrays.items())
    return arrays and bytes(ours.cameras["wrist"].data) == bytes(theirs.cameras["wrist"].data)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31))
def test_any_losses_repeats_and_restarts_deliver_each_journal_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, seed: int
) -> None:
    random = np.random.default_rng(seed)
    pair = Pair(tmp_path_factory.mktemp("pair"), window_bytes=3000)
    kept = []
    for ordinal in range(3):
        end = data.draw(st.sampled_from(["time_limit", "killed", "discarded"]))
        id = record(pair.recorded, ordinal, steps=data.draw(st.integers(1, 25)), end=end)
        if end != "discarded":
            kept.append(id)
        for _ in range(data.draw(st.integers(0, 4))):
            pair.step(*(lambda: random.random() < 0.3 for _ in range(3)))
        match data.draw(st.sampled_from(["", "actor", "learner"])):
            case "actor":
                pair.restart_actor()
            case "learner":
                pair.restart_learner()
    pair.run()
    pair.restart_actor()  # recovers what was killed
    assert pair.ids() == kept == pair.recorded.ids()
    assert all(same(pair, id) for id in kept)
    assert list((pair.root / "session" / "journal").iterdir()) == []
    pair.close()


def test_parts_are_whole_records_and_stay_inside_the_window(pair: Pair) -> None:
    pair.window_bytes = pair.outbox.window_bytes = 2000
    writer = pair.recorded.begin(SPEC)
    for t in range(40):
        writer.append(make_row(SPEC, 0, t))
    while writer.pending:
        pass
    pair.step()  # where?
    pair.now_s += 1.0
    in_flight = 0
    while (message := pair.outbox.next_message(pair.now_s)) is not None:
        assert message.kind == "part"
        in_flight += message.arrays["data"].nbytes
        pair.now_s += 0.1
    assert in_flight >= 2000
    size = (pair.root / "actor" / "journal" / f"{writer.id}.journal").stat().st_size
    assert pair.outbox.lag_bytes == size > in_flight - 2000
    assert pair.outbox.lag_s(pair.now_s) > 0.0
    writer.close()


def test_a_part_with_a_flipped_bit_is_counted_and_sent_again(pair: Pair) -> None:
    id = record(pair.recorded, 0, steps=5)
    pair.step()
    pair.now_s += 1.0
    pair.outbox.look()
    message = pair.outbox.next_message(pair.now_s)
    assert message is not None and message.kind == "part"
    data = bytearray(message.arrays["data"].tobytes())
    data[len(data) // 2] ^= 1
    broken = Message("part", message.fields, {"data": np.frombuffer(bytes(data), np.uint8)})
    for _, answer in pair.inbox.take([(b"peer", broken)]):
        pair.outbox.heard(answer, pair.now_s)
    assert pair.inbox.counts["corrupt"] == 1
    pair.run()
    assert pair.ids() == [id] and same(pair, id)


def test_damage_on_the_actors_disk_ends_the_episode_there(pair: Pair) -> None:
    id = record(pair.recorded, 0, steps=20)
    path = pair.root / "actor" / "outbox" / f"{id}.journal"
    ends = [end for _, end in scan_records(memoryview(path.read_bytes()))]
    with path.open("r+b") as file:
        file.seek(ends[10] + 40)  # in the record after the begin and ten rows
        file.write(b"\xff\xff")
    pair.run()
    read = EpisodeStore.open(pair.root / "session").read(id)
    assert (read.rows, read.metadata["ended"], read.metadata["recovered"]) == (10, False, True)


def test_data_of_another_robot_is_refused_and_kept(pair: Pair) -> None:
    first = record(pair.recorded, 0, steps=3)
    pair.run()
    other = EpisodeStore.create(pair.root / "other", spec=make_spec(proprio=9))
    stranger = Outbox(other.root)
    ours, pair.outbox = pair.outbox, stranger
    with other.begin(make_spec(proprio=9)) as writer:
        writer.append(make_row(make_spec(proprio=9), 0, 0))
        writer.append(make_row(make_spec(proprio=9), 0, 1, final=True))
        writer.end(EpisodeEnd("time_limit", None, 1))
    pair.run()
    assert "holds other data" in stranger.problem
    assert [path.suffix for path in stranger.folder.glob("*.refused")] == [".refused"]
    assert pair.ids() == [first]
    stranger.close()
    pair.outbox = ours


def test_a_discard_is_heard_although_the_learner_died_in_it(pair: Pair) -> None:
    """It had committed the episode and was killed before it could delete it."""
    with pair.recorded.begin(SPEC) as writer:
        for t in range(5):
            writer.append(make_row(SPEC, 0, t))
        while writer.pending:
            pass
        for _ in range(3):
            pair.step()
        writer.discard("test")
    assert pair.session.commit_remote(pair.root / "session" / "journal" / f"{writer.id}.remote") is not None
    pair.restart_learner()
    assert pair.ids() == [writer.id]
    pair.run()
    assert pair.ids() == []


def test_what_ended_is_committed_when_the_actor_never_comes_back(pair: Pair) -> None:
    id = record(pair.recorded, 0, steps=4)
    for _ in range(20):
        pair.step(lost=lambda: False, answer_lost=lambda: bool(pair.messages) and pair.messages[-1].kind == "finish")
        if pair.messages[-1].kind == "part":
            break
    pair.restart_learner()
    assert pair.ids() == [id]
    assert pair.inbox.arrivals() == Arrivals()  # earlier learners took it


def test_a_learner_killed_between_commit_and_clean_up_leaves_nothing(pair: Pair) -> None:
    with pair.recorded.begin(SPEC) as writer:
        for t in range(5):
            writer.append(make_row(SPEC, 0, t))
        while writer.pending:
            pass
        for _ in range(3):
            pair.step()
        journal = pair.root / "session" / "journal" / f"{writer.id}.remote"
        content = journal.read_bytes()
        writer.discard("test")
    assert pair.session.commit_remote(journal) is not None
    journal.write_bytes(content)
    pair.restart_learner()
    pair.run()
    assert list(journal.parent.iterdir()) == [] and pair.ids() == []


def test_what_an_actor_that_never_comes_back_left_is_committed_as_far_as_it_came(pair: Pair) -> None:
    with pair.recorded.begin(SPEC) as writer:
        for t in range(5):
            writer.append(make_row(SPEC, 0, t))
        while writer.pending:
            pass
        for _ in range(3):
            pair.step()
        with pytest.raises(StoreError, match="another learner"):
            Inbox(EpisodeStore.open(pair.root / "session", recover=False))  # while one is there, nothing is an orphan
        pair.inbox.close()
        (pair.root / "session" / "journal" / "EMPTY.remote").touch()
        pair.inbox = Inbox(pair.session)
        told = pair.inbox.commit_orphans()
    assert sorted(told) == [
        "episode EMPTY of an actor is empty and was removed",
        f"recovered episode {writer.id} of an actor, 4 steps, cut where the actor's rows stop",
    ]
    assert pair.ids() == [writer.id]
    assert list((pair.root / "session" / "journal").iterdir()) == []
    assert pair.inbox.commit_orphans() == []


def test_a_removed_journal_is_sent_again_from_its_start(pair: Pair) -> None:
    with pair.recorded.begin(SPEC) as writer:
        for t in range(6):
            writer.append(make_row(SPEC, 0, t, final=t == 5))
        while writer.pending:
            pass
        for _ in range(3):
            pair.step()
        (pair.root / "session" / "journal" / f"{writer.id}.remote").unlink()
        writer.end(EpisodeEnd("time_limit", None, 5))
    pair.run()
    assert same(pair, writer.id)


def test_a_store_that_vanishes_is_told_and_nothing_is_acknowledged(pair: Pair) -> None:
    (pair.root / "session").rename(pair.root / "elsewhere")
    record(pair.recorded, 0, steps=3)
    for _ in range(5):
        pair.step()
    assert "No such file" in pair.inbox.problem
    assert not pair.outbox.empty
    (pair.root / "elsewhere").rename(pair.root / "session")
    pair.now_s += RESEND_S
    pair.run()
    assert len(pair.ids()) == 1 and pair.inbox.problem == ""


def test_notes_wait_for_their_episode_and_wrong_ones_are_set_aside(pair: Pair) -> None:
    id = record(pair.recorded, 0, steps=3)
    pair.outbox.notes.write(id, {"success": True})
    pair.outbox.notes.write("NOBODY", {"note": "?"})
    with pytest.raises(ConfigError, match="limit: success, exclude, note, deleted"):
        pair.outbox.notes.write(id, {"reward": 1})
    pair.restart_actor()
    pair.run()
    told = [message.kind for message in pair.messages if message.fields["episode"] == id]
    assert told == ["where", "part", "finish", "note"]
    assert EpisodeStore.open(pair.root / "session").infos()[0].success is True
    assert "NOBODY" in pair.outbox.problem
    assert len(list(pair.outbox.folder.glob("*.refused"))) == 1


def test_an_episode_that_could_not_be_shipped_does_not_begin(pair: Pair) -> None:
    pair.outbox.close()
    (pair.outbox.folder / "lock").unlink()
    pair.outbox.folder.rmdir()
    pair.outbox.folder.symlink_to("/proc")  # a folder in which nobody can make a link
    with pytest.raises(StoreError, match="hard links"):
        pair.recorded.begin(SPEC)
    assert list((pair.root / "actor" / "journal").iterdir()) == []
    pair.outbox.folder.unlink()
    pair.outbox = Outbox(pair.root / "actor")


def test_one_process_ships_a_store(pair: Pair) -> None:
    with pytest.raises(StoreError, match="shipped by another process"):
        Outbox(pair.root / "actor")


def test_a_step_too_large_for_a_message_cuts_the_episode(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipment_module, "PART_BYTES", 300)
    for module in (shipment_module, outbox_module):
        monkeypatch.setattr(module, "MAX_PART_BYTES", 300)
    record(pair.recorded, 0, steps=3)
    pair.run()
    assert pair.ids() == []  # not even the first record fits


def test_what_cannot_be_synced_is_not_acknowledged(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk fails on demand, so the call does."""
    id = record(pair.recorded, 0, steps=4)
    pair.step()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", _refuse)
        for _ in range(3):
            pair.step()
        assert "cannot be synced" in pair.inbox.problem
        assert pair.outbox.lag_bytes == (pair.root / "actor" / "outbox" / f"{id}.journal").stat().st_size
    pair.run()
    assert same(pair, id) and pair.inbox.problem == ""


def _refuse(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


FULL = """
import resource, signal, sys
from robot_rl.data.store import EpisodeStore
from robot_rl.transport.learner import ZmqLearner
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
with ZmqLearner(EpisodeStore.open(sys.argv[1]), "tcp://127.0.0.1:0") as link:
    print(link.address, flush=True)
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sys.stdin.readline()
"""


def test_a_full_disk_acknowledges_nothing_and_says_so(tmp_path: Path) -> None:
    from robot_rl.transport.actor import ZmqActor

    EpisodeStore.create(tmp_path / "session", spec=SPEC)
    recorded = EpisodeStore.create(tmp_path / "actor", spec=SPEC)
    command = [sys.executable, "-c", FULL, str(tmp_path / "session")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as learner:
        assert learner.stdin is not None and learner.stdout is not None
        with ZmqActor(recorded.root, learner.stdout.readline().strip()) as link:
            id = record(recorded, 0, steps=40)
            while "disk" not in link.status().problem and "large" not in link.status().problem:
                assert not link.flush(0.01)
            assert link.status().lag_bytes > 0
            print("more", file=learner.stdin, flush=True)
            assert link.flush(30.0)
            assert link.status().lag_bytes == 0
        learner.communicate("end\n", timeout=20)
    ours, theirs = recorded.read(id), EpisodeStore.open(tmp_path / "session").read(id)
    assert all(np.array_equal(value, theirs.arrays[name]) for name, value in ours.arrays.items())
