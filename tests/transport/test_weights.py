"""Acting states in chunks: newest only, whole or not at all."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.errors import ConfigError, ProtocolError
from robot_rl.interfaces import Weights
from robot_rl.transport.messages import Message
from robot_rl.transport.weights import (
    ASK_AGAIN_S,
    CHUNK_BYTES,
    WeightsFetch,
    WeightsShelf,
    copied,
    pack_weights,
    unpack_weights,
)

pytestmark = pytest.mark.robot
LARGE = {"w": np.arange(CHUNK_BYTES, dtype=np.float32), "b": np.array(3.0)}  # four chunks and a bit


def offer(shelf: WeightsShelf, version: int, tensors: Any = LARGE) -> None:
    shelf.publish(Weights(version, {name: value + version for name, value in tensors.items()}, {"v": version}))


def take(shelf: WeightsShelf, fetch: WeightsFetch, now_s: float = 0.0, peer: bytes = b"a") -> Weights | None:
    """One request and its answer."""
    request = fetch.request(now_s)
    if request is None:
        return None
    chunk = shelf.chunk(peer, request.fields["version"], request.fields["offset"])
    return None if chunk is None else fetch.heard(chunk)


def take_all(shelf: WeightsShelf, fetch: WeightsFetch) -> Weights:
    for _ in range(20):
        if (found := take(shelf, fetch)) is not None:
            return found
    raise AssertionError("the weights never became whole")


def test_round_trip() -> None:
    back = unpack_weights(pack_weights(Weights(7, LARGE, {"task": "lift"})))
    assert (back.version, back.meta) == (7, {"task": "lift"})
    for name, value in LARGE.items():
        np.testing.assert_array_equal(back.tensors[name], value)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_garbage_is_a_protocol_error(blob: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_weights(blob)


def test_a_copy_shares_nothing() -> None:
    value = np.ones(3)
    weights = copied(1, {"w": value}, {})
    value[:] = 0
    assert weights.tensors["w"].tolist() == [1, 1, 1]
    assert not weights.tensors["w"].flags.writeable


def test_a_late_joiner_gets_the_newest_only() -> None:
    shelf, fetch = WeightsShelf("one"), WeightsFetch()
    assert shelf.chunk(b"a", 0, 0) is None
    for version in range(1, 6):
        offer(shelf, version)
    fetch.offered("one", shelf.version)
    assert take_all(shelf, fetch).version == 5
    assert fetch.request(100.0) is None


def test_a_slow_actor_finishes_what_it_began_and_skips_the_backlog() -> None:
    shelf, fetch, seen = WeightsShelf("one"), WeightsFetch(), []
    for version in range(1, 30):
        offer(shelf, version)
        fetch.offered("one", version)
        if (found := take(shelf, fetch)) is not None:
            np.testing.assert_array_equal(found.tensors["w"], LARGE["w"] + found.version)
            seen.append(found.version)
    assert seen == [1, 6, 11, 16, 21]  # one chunk per publication, five chunks per version, all rising


def test_a_lost_answer_is_asked_for_again_and_a_late_one_ignored() -> None:
    shelf, fetch = WeightsShelf("one"), WeightsFetch()
    offer(shelf, 1)
    fetch.offered("one", 1)
    lost = fetch.request(0.0)
    assert lost is not None and fetch.request(ASK_AGAIN_S / 2) is None
    again = fetch.request(ASK_AGAIN_S)
    assert again is not None and again.fields == lost.fields
    late = shelf.chunk(b"a", 1, CHUNK_BYTES)
    assert late is not None and fetch.heard(late) is None  # not what comes next
    assert take_all(shelf, fetch).version == 1


def test_a_restarted_learner_counts_as_newer() -> None:
    first, second, fetch = WeightsShelf("one"), WeightsShelf("two"), WeightsFetch()
    offer(first, 9)
    fetch.offered("one", 9)
    assert take_all(first, fetch).version == 9
    offer(first, 10)
    fetch.offered("one", 10)
    assert take(first, fetch) is None  # begun, when the learner dies
    offer(second, 4)
    fetch.offered("two", 4)
    assert take_all(second, fetch).version == 4
    stale = first.chunk(b"a", 10, 0)
    assert stale is not None and fetch.heard(stale) is None  # of the dead one


def test_weights_that_differ_from_their_sum_are_never_given_out() -> None:
    fetch = WeightsFetch()
    fetch.offered("one", 1)
    fetch.request(0.0)
    blob = pack_weights(Weights(1, {"w": np.ones(3)}, {}))
    fields = {"learner": "one", "version": 1, "offset": 0, "size": len(blob), "sha256": hashlib.sha256(b"").hexdigest()}
    chunk = Message("chunk", fields, {"data": np.frombuffer(blob, np.uint8)})
    with pytest.raises(ProtocolError, match="differ from their sum"):
        fetch.heard(chunk)
    fetch.pause(1.0)
    assert fetch.request(1.0 + ASK_AGAIN_S / 2) is None
    right = Message("chunk", fields | {"sha256": hashlib.sha256(blob).hexdigest()}, chunk.arrays)
    found = fetch.heard(right)
    assert found is not None and found.version == 1


def test_the_limit_holds_before_memory_is_taken() -> None:
    fetch = WeightsFetch(max_bytes=1000)
    fetch.offered("one", 1)
    fields = {"learner": "one", "version": 1, "offset": 0, "size": 2**60, "sha256": ""}
    with pytest.raises(ProtocolError, match="limit: 1000 bytes"):
        fetch.heard(Message("chunk", fields, {"data": np.zeros(1, np.uint8)}))
    with pytest.raises(ProtocolError, match="version, offset and size"):
        fetch.heard(Message("chunk", fields | {"size": -1}, {"data": np.zeros(1, np.uint8)}))
    with pytest.raises(ProtocolError, match="ends at byte 5"):
        fetch.heard(Message("chunk", fields | {"size": 3}, {"data": np.zeros(5, np.uint8)}))
    with pytest.raises(ProtocolError, match="lacks"):
        fetch.heard(Message("chunk", fields, {}))


def test_versions_rise() -> None:
    shelf = WeightsShelf("one")
    offer(shelf, 2, {"w": np.ones(1)})
    with pytest.raises(ConfigError, match="version 2 was published after 2"):
        offer(shelf, 2, {"w": np.ones(1)})
