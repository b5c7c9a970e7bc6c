"""Everything that must not get into a learner: garbage of a client that may connect, sense of one that may not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgpack
import numpy as np
import zmq

from robot_rl.data.episode_id import new_id
from robot_rl.data.journal import frame_record, scan_records
from robot_rl.data.recording import end_header
from robot_rl.data.store import EpisodeStore
from robot_rl.transport.endpoint import connect
from robot_rl.transport.keys import KeyRing
from robot_rl.transport.learner import MAX_FRAME_BYTES
from robot_rl.transport.messages import Message, encode
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec

Frames = list[bytes]


class Flood:
    """Sends malformed messages to a learner at ``address``. ``keys`` holds its key ring."""

    ordinal = 10**6  # metadata of the episodes that an intruder sends
    _NAME = "garbler"

    def __init__(self, address: str, keys: Path, seed: int) -> None:
        self.sent: Counter[str] = Counter()
        self._count = 0
        self._random = np.random.default_rng(seed)
        self._context: zmq.Context[Any] = zmq.Context()
        ring = KeyRing(keys)
        ring.new(self._NAME)
        stranger = KeyRing(keys.with_name("strangers_keys"))
        stranger.new(self._NAME)
        (stranger.folder / "server.pub").write_text(ring.public("server"))
        self._known = self._socket(address, keys)
        self._stranger = self._socket(address, stranger.folder)
        self._plain = self._context.socket(zmq.DEALER)
        _limit(self._plain)
        self._plain.connect(address)

    def close(self) -> None:
        """Hang up; idempotent."""
        self._context.destroy(linger=0)

    def send(self, count: int) -> None:
        """``count`` messages of all kinds in turn; those that nobody takes at the moment count as well."""
        for _ in range(count):
            kind = list(KINDS)[self._count % len(KINDS)]
            self._count += 1
            sockets = [self._known] if kind != "wrong key" else [self._stranger, self._plain]
            for socket in sockets:
                try:
                    socket.send_multipart(KINDS[kind](self._random), zmq.NOBLOCK)
                except zmq.Again:
                    self.sent["not taken"] += 1
            self.sent[kind] += 1

    def _socket(self, address: str, keys: Path) -> zmq.Socket[Any]:
        socket = self._context.socket(zmq.DEALER)
        _limit(socket)
        connect(socket, address, self._NAME, folder=keys)
        return socket


def _limit(socket: zmq.Socket[Any]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 16)


def journal_of_an_episode(episode: str) -> bytes:
    """A whole journal that a learner would take from whoever may connect."""
    with TemporaryDirectory() as folder:
        store = EpisodeStore.create(folder, spec=make_spec())
        with store.begin(make_spec(), {"ordinal": Flood.ordinal}) as writer:
            for t in range(3):
                writer.append(make_row(make_spec(), 0, t, final=t == 2))
        (path,) = (Path(folder) / "journal").iterdir()
        records = [record for record, _ in scan_records(memoryview(path.read_bytes()))]
    records[0].header["id"] = episode
    return b"".join(
        b"".join(frame_record(record.sequence, record.header, record.buffers)) for record in records
    ) + b"".join(frame_record(len(records), end_header(EpisodeEnd("time_limit", None, 2), {}, 0, episode)))


def _part(data: bytes, episode: str = "", offset: Any = 0, **fields: Any) -> Frames:
    about = {"episode": episode or new_id(), "attempt": 0, "offset": offset, **fields}
    return [bytes(frame) for frame in encode(Message("part", about, {"data": np.frombuffer(data, np.uint8)}))]


def _noise(random: np.random.Generator) -> Frames:
    return [random.bytes(int(random.integers(0, 400))) for _ in range(random.integers(1, 5))]


def _truncated(random: np.random.Generator) -> Frames:
    frames = _part(journal_of_an_episode(new_id()))
    last = frames[-1]
    return [*frames[:-1], last[: int(random.integers(0, len(last)))]]


def _version(random: np.random.Generator) -> Frames:
    content = [99, "part", {"episode": new_id(), "attempt": 0, "offset": 0}, [["data", "uint8", [3]]]]
    return [msgpack.packb(content), b"abc"]  # type: ignore[list-item]


def _torn_records(random: np.random.Generator) -> Frames:
    episode = new_id()
    data = journal_of_an_episode(episode)
    return _part(data[: -int(random.integers(1, 20))], episode)  # within a record: up to its border it would be sound


def _flipped(random: np.random.Generator) -> Frames:
    episode = new_id()
    data = bytearray(journal_of_an_episode(episode))
    data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
    return _part(bytes(data), episode)


def _hostile_header(random: np.random.Generator) -> Frames:
    """Right sums over a first record that is none."""
    return _part(b"".join(frame_record(0, {"kind": "begin", "id": [1], "spec": os.sep})))


def _escape(random: np.random.Generator) -> Frames:
    return _part(journal_of_an_episode("../../escaped"), "../../escaped")


def _types(random: np.random.Generator) -> Frames:
    return _part(b"abc", offset="0") if random.random() < 0.5 else _part(b"abc", attempt=-1)


def _note(random: np.random.Generator) -> Frames:
    fields = {"note": "n", "episode": new_id(), "edits": {"note": "garbage", "spec": 1}}
    return [bytes(frame) for frame in encode(Message("note", fields))]


def _beat(random: np.random.Generator) -> Frames:
    return [bytes(frame) for frame in encode(Message("beat", {"actor": "garbler", "start": 3}))]


def _wrong_key(random: np.random.Generator) -> Frames:
    episode = new_id()
    return _part(journal_of_an_episode(episode), episode)


def _oversized(random: np.random.Generator) -> Frames:
    return [b"x" * (MAX_FRAME_BYTES + 1)]


KINDS: dict[str, Callable[[np.random.Generator], Frames]] = {
    "noise": _noise,
    "truncated": _truncated,
    "wrong version": _version,
    "torn records": _torn_records,
    "flipped bit": _flipped,
    "hostile header": _hostile_header,
    "escape": _escape,
    "wrong types": _types,
    "note": _note,
    "beat": _beat,
    "wrong key": _wrong_key,
    "oversized": _oversized,
}
