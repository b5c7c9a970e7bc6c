"""The learner's end over ZMQ: one thread owns the socket, another the disk, the learner's own thread neither.

    actors' DEALERs ⇄ ROUTER ── I/O thread ⇄ (bounded queue) ⇄ disk thread ── Inbox ── session store
                                 │  heartbeats, weights and signals are answered at once, whatever the disk does

Whatever is not a message of ours, or comes with a key that is not on the list, is counted and dropped.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zmq

from robot_rl.errors import ProtocolError
from robot_rl.interfaces import Arrivals, PeerStatus, Weights
from robot_rl.transport.actor import ADDRESS, MAX_SIGNALS
from robot_rl.transport.endpoint import listen
from robot_rl.transport.inbox import Inbox
from robot_rl.transport.messages import MAX_HEADER_BYTES, MAX_PART_BYTES, Message, decode, encode
from robot_rl.transport.weights import WeightsShelf
from robot_rl.types import EMPTY, Arrays

if TYPE_CHECKING:
    from robot_rl.data.store import EpisodeStore

FORGET_S = 30.0
MAX_ACTORS = 256
MAX_QUEUED_BYTES = 64 * 2**20
MAX_BATCH = 256
MAX_SIGNAL_BYTES = 2048  # 64 of them fit a heartbeat
_FOR_DISK: Mapping[str, Mapping[str, type]] = {
    "where": {"episode": str, "attempt": int},
    "part": {"episode": str, "attempt": int, "offset": int},
    "finish": {"episode": str, "attempt": int, "offset": int},
    "discard": {"episode": str, "attempt": int, "offset": int},
    "note": {"note": str, "episode": str, "edits": dict},
}
_BEAT: Mapping[str, Any] = {"actor": str, "start": str, "lag_bytes": int, "lag_s": float, "problem": str, "heard": list}

_log = logging.getLogger(__name__)


@dataclass
class _Actor:
    """One start of an actor, by its heartbeats."""

    peer: bytes
    status: PeerStatus
    heard_s: float
    signals: dict[str, list[Any]] = field(default_factory=dict)  # not acknowledged yet, by id


class ZmqLearner:
    """LearnerTransport: journals of actors arrive in ``store``, which nobody else may use (open it twice).

    ``keys`` names this machine's key pair, 'server' by custom, and is needed beyond loopback. Raises ConfigError for
    address and keys, RobotConnectionError when the address is taken.
    """

    def __init__(
        self,
        store: EpisodeStore,
        address: str = ADDRESS,
        *,
        keys: str = "",
        key_folder: str | Path | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()  # garbage, overload, unauthorized, failed
        self._start = secrets.token_hex(8)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in _OPTIONS.items():
            self._socket.setsockopt(option, value)
        try:
            self._guard = listen(
                self._context, self._socket, address, keys, None if key_folder is None else Path(key_folder)
            )
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._inbox = Inbox(store)
        self._shelf = WeightsShelf(self._start)
        self._actors: dict[str, _Actor] = {}
        self._kept: dict[str, list[Any]] = {}  # the last signal of each kind that later actors hear too
        self._signal_count = 0
        self._arrived = Arrivals()
        self._lock = threading.Lock()  # over actors, signals, arrivals and the bytes in the queue
        self._work: queue.SimpleQueue[tuple[bytes, Message] | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._answers: deque[tuple[bytes, Message]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._tell_all = False
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, name="learner-transport", daemon=True),
            threading.Thread(target=self._store_arriving, name="learner-transport-disk", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    # --- the learner's thread ---------------------------------------------------------------------------------------

    def arrivals(self) -> Arrivals:
        """What has become durable since the last call."""
        with self._lock:
            arrived, self._arrived = self._arrived, Arrivals()
        return arrived

    def publish(self, version: int, tensors: Arrays, meta: Mapping[str, Any] = EMPTY) -> None:
        """Offer an acting state, packed before this returns. Raises ConfigError unless versions rise."""
        self._shelf.publish(Weights(version, tensors, meta))
        self._tell()

    def signal(self, kind: str, payload: Mapping[str, Any] = EMPTY, *, actor: str = "", keep: bool = False) -> None:
        """Tell all actors, or those named ``actor``; with ``keep`` also those that join later. Raises ProtocolError."""
        with self._lock:
            told = [f"{self._start}-{self._signal_count}", kind, dict(payload)]
            if len(encode(Message("beat", {"signals": [told]}))[0]) > MAX_SIGNAL_BYTES:
                raise ProtocolError(f"signal '{kind}' is too large", limit=f"{MAX_SIGNAL_BYTES} bytes")
            self._signal_count += 1
            if keep:
                self._kept[kind] = told
            for there in self._actors.values():
                if not actor or there.status.name == actor:
                    there.signals[told[0]] = told
                    while len(there.signals) > MAX_SIGNALS:
                        del there.signals[next(iter(there.signals))]
        self._tell()

    def actors(self) -> Sequence[PeerStatus]:
        """The actors heard within the last 30 s, by name."""
        now_s = time.monotonic()
        with self._lock:
            there = [(actor.status, now_s - actor.heard_s) for actor in self._actors.values()]
        found = [_aged(status, age_s) for status, age_s in there]
        return sorted(found, key=lambda status: status.name)

    @property
    def problem(self) -> str:
        """Why nothing is taken from actors at the moment, e.g. a full disk; empty when all is well."""
        return self._inbox.problem

    @property
    def dropped(self) -> Counter[str]:
        """How much of what came was turned away, by reason."""
        return self.counts + self._inbox.counts + Counter(unauthorized=self._guard.refused)

    def close(self) -> None:
        """End both threads and release the address; what has not ended goes on with the next learner. Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._work.put(None)
        for thread in self._threads:
            thread.join(timeout=30.0)
        self._guard.close()
        self._context.destroy(linger=0)
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._inbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _tell(self) -> None:
        self._tell_all = True
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it has been woken often enough
            os.write(self._wake_write, b"\0")

    # --- I/O thread ---------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_read, zmq.POLLIN)
        while not self._closing.is_set():
            try:
                ready = dict(poller.poll(timeout=50))
                if self._wake_read in ready:
                    os.read(self._wake_read, 4096)
                while self._answers:
                    self._send(*self._answers.popleft())
                if self._tell_all:
                    self._tell_all = False
                    self._beat_all()
                self._receive_all()
                self._forget_silent()
            except Exception:  # one bad message must not silence the learner: it goes on
                self.counts["failed"] += 1
                _log.exception("the learner's transport failed; it goes on")

    def _receive_all(self) -> None:
        for _ in range(MAX_BATCH):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                if len(frames) < 2 or not self._guard.admits(frames[1]):
                    raise ProtocolError("nobody on the list sent this")
                message = decode([frame.buffer for frame in frames[1:]], max_bytes=MAX_FRAME_BYTES)
                self._hear(frames[0].bytes, message)
            except (ProtocolError, KeyError, TypeError, ValueError, AttributeError):
                self.counts["garbage"] += 1

    def _hear(self, peer: bytes, message: Message) -> None:
        if message.kind in _FOR_DISK:
            _check_types(message, _FOR_DISK[message.kind])
            self._queue(peer, message)
        elif message.kind == "beat":
            _check_types(message, _BEAT)
            self._hear_beat(peer, message.fields)
        elif message.kind == "weights":
            _check_types(message, {"version": int, "offset": int})
            chunk = self._shelf.chunk(peer, message.fields["version"], message.fields["offset"])
            if chunk is not None:
                self._send(peer, chunk)
        else:
            raise ProtocolError(f"unknown message '{message.kind}'")

    def _queue(self, peer: bytes, message: Message) -> None:
        data = message.arrays.get("data")
        if (message.kind == "part") != (data is not None and data.dtype == np.uint8 and data.ndim == 1):
            raise ProtocolError(f"'{message.kind}' does not carry what it should")
        size = 0 if data is None else data.nbytes
        with self._lock:
            if self._queued_bytes + size > MAX_QUEUED_BYTES:
                self.counts["overload"] += 1  # not acknowledged, so it will be sent again
                return
            self._queued_bytes += size
        self._work.put((peer, message))

    def _hear_beat(self, peer: bytes, fields: Mapping[str, Any]) -> None:
        version, start = fields["version"], fields["start"]
        if not (version is None or type(version) is int):
            raise ProtocolError(f"version {version!r}")
        status = PeerStatus(
            fields["actor"], 0.0, version, fields["lag_bytes"], fields["lag_s"], fields["problem"][:1000]
        )
        with self._lock:
            actor = self._actors.get(start)
            if actor is None:
                if len(self._actors) >= MAX_ACTORS:
                    raise ProtocolError("too many actors", limit=f"{MAX_ACTORS}")
                actor = self._actors[start] = _Actor(peer, status, 0.0)
                actor.signals = {told[0]: told for told in self._kept.values()}
            actor.peer, actor.status, actor.heard_s = peer, status, time.monotonic()
            for id in fields["heard"]:
                actor.signals.pop(id, None)
        self._send(peer, self._beat(actor))

    def _beat(self, actor: _Actor) -> Message:
        with self._lock:
            signals = list(actor.signals.values())[:64]
        fields = {"learner": self._start, "version": self._shelf.version, "problem": self._inbox.problem[:1000]}
        return Message("beat", fields | {"signals": signals})

    def _beat_all(self) -> None:
        for actor in list(self._actors.values()):
            self._send(actor.peer, self._beat(actor))

    def _send(self, peer: bytes, message: Message) -> None:
        """Send, or drop for a peer that has gone or does not read: it will ask again."""
        try:
            self._socket.send_multipart([peer, *encode(message)], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError:
            self.counts["unsent"] += 1

    def _forget_silent(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            gone = [start for start, actor in self._actors.items() if now_s - actor.heard_s > FORGET_S]
            for start in gone:
                self._shelf.forget(self._actors.pop(start).peer)

    # --- disk thread --------------------------------------------------------------------------------------------------

    def _store_arriving(self) -> None:
        self._inbox.resume()
        while not self._closing.is_set():
            batch = self._next_batch()
            try:
                answers = self._inbox.take(batch)
            except Exception:  # nothing of this batch is acknowledged: it will be sent again
                self.counts["failed"] += 1
                _log.exception("storing what actors sent failed; it goes on")
                answers = []
            new = self._inbox.arrivals()
            with self._lock:
                self._queued_bytes -= sum(m.arrays["data"].nbytes for _, m in batch if m.kind == "part")
                old = self._arrived
                self._arrived = Arrivals(old.steps + new.steps, old.committed + new.committed, old.edited + new.edited)
            self._answers.extend(answers)
            self._wake()

    def _next_batch(self) -> list[tuple[bytes, Message]]:
        batch = [self._work.get()]
        while len(batch) < MAX_BATCH and batch[-1] is not None:
            try:
                batch.append(self._work.get_nowait())
            except queue.Empty:
                break
        return [item for item in batch if item is not None]


MAX_FRAME_BYTES = MAX_PART_BYTES + MAX_HEADER_BYTES
_OPTIONS = {
    zmq.LINGER: 0,
    zmq.SNDHWM: 64,
    zmq.RCVHWM: 64,
    zmq.MAXMSGSIZE: MAX_FRAME_BYTES,  # checked before a frame is allocated
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 5000,
    zmq.ROUTER_MANDATORY: 1,
}


def _check_types(message: Message, wanted: Mapping[str, type]) -> None:
    for name, kind in wanted.items():
        value: Any = message.fields.get(name)
        if type(value) is not kind or (kind in (int, float) and not 0 <= value < math.inf):
            raise ProtocolError(f"'{name}' of '{message.kind}' is {value!r}"[:200], limit=kind.__name__)


def _aged(status: PeerStatus, age_s: float) -> PeerStatus:
    return replace(status, age_s=age_s)
