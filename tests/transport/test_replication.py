"""Outbox and inbox without sockets: any order of losses, repeats and restarts delivers every journal exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.store import EpisodeStore
from robot_rl.data.writer import EpisodeWriter
from robot_rl.errors import ConfigError, StoreError
from robot_rl.interfaces import Arrivals
from robot_rl.transport.inbox import Inbox
from robot_rl.transport.messages import Message
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row
from tests.transport.pair import SPEC, Pair, record, same


def five_steps_arrive(writer: EpisodeWriter, pair: Pair) -> None:
    """Of an episode that runs on."""
    for t in range(5):
        writer.append(make_row(SPEC, 0, t))
    writer.flush()
    for _ in range(3):
        pair.step()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


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
    writer.flush()
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


def test_a_discard_is_heard_although_the_learner_died_in_it(pair: Pair) -> None:
    """It had committed the episode and was killed before it could delete it."""
    with pair.recorded.begin(SPEC) as writer:
        five_steps_arrive(writer, pair)
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
        five_steps_arrive(writer, pair)
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
        five_steps_arrive(writer, pair)
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
        writer.flush()
        for _ in range(3):
            pair.step()
        (pair.root / "session" / "journal" / f"{writer.id}.remote").unlink()
        writer.end(EpisodeEnd("time_limit", None, 5))
    pair.run()
    assert same(pair, writer.id)


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


def test_what_was_delivered_before_a_kill_is_told_by_the_next_actor(pair: Pair) -> None:
    first, second = (record(pair.recorded, ordinal, steps=3) for ordinal in range(2))
    pair.run()
    pair.restart_actor()
    assert list(pair.outbox.delivered) == [first, second]
    pair.recorded.drop([first])
    pair.restart_actor()
    assert list(pair.outbox.delivered) == [second]
    pair.recorded.drop([second])
    third = record(pair.recorded, 2, steps=3)
    pair.restart_actor()
    assert not pair.outbox.delivered  # nobody has the third yet
    pair.run()
    assert pair.ids() == [first, second, third]
