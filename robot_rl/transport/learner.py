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
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import zmq

from robot_rl.errors import ProtocolError
from robot_rl.interfaces import Arrivals, PeerStatus, Weights
from robot_rl.transport.actor import ADDRESS
from robot_rl.transport.endpoint import listen
from robot_rl.transport.inbox import Inbox
from robot_rl.transport.messages import MAX_HEADER_BYTES, MAX_PART_BYTES, Message, decode, encode
from robot_rl.transport.roll import PRESENT_S, ActorRoll
from robot_rl.transport.weights import WeightsShelf
from robot_rl.types import EMPTY, Arrays

if TYPE_CHECKING:
    from robot_rl.data.store import EpisodeStore

MAX_QUEUED_BYTES = 64 * 2**20
MAX_BATCH = 256
_FOR_DISK: Mapping[str, Mapping[str, type]] = {
    "where": {"episode": str, "attempt": int},
    "part": {"episode": str, "attempt": int, "offset": int},
    "finish": {"episode": str, "attempt": int, "offset": int},
    "discard": {"episode": str, "attempt": int, "offset": int},
    "note": {"note": str, "episode": str, "edits": dict},
    "report": {"note": str, "report": str, "payload": dict},
}
_BEAT: Mapping[str, Any] = {"actor": str, "start": str, "lag_bytes": int, "lag_s": float, "problem": str, "heard": list}

_log = logging.getLogger(__name__)


class ZmqLearner:
    """LearnerTransport: journals of actors arrive in ``store``, which nobody else may use (open it twice).

    ``keys`` names this machine's key pair, 'server' by custom, and is needed beyond loopback. Raises ConfigError for
    address and keys, RobotConnectionError when the address is taken, StoreError when another learner fills the store.
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
        self._inbox = Inbox(store)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        for option, value in _OPTIONS.items():
            self._socket.setsockopt(option, value)
        try:
            folder = None if key_folder is None else Path(key_folder)
            self._guard = listen(self._context, self._socket, address, keys, folder)
        except BaseException:
            self._context.destroy(linger=0)
            self._inbox.close()
            raise
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._roll = ActorRoll()
        self._shelf = WeightsShelf(self._roll.learner)
        self._arrived = Arrivals()
        self._lock = threading.Lock()  # over arrivals and the bytes in the queue
        self._news = threading.Event()  # there are arrivals
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
            self._news.clear()
        return arrived

    def wait(self, timeout_s: float) -> None:
        """Wait for arrivals, at most so long."""
        self._news.wait(timeout_s)

    def publish(self, version: int, tensors: Arrays, meta: Mapping[str, Any] = EMPTY) -> None:
        """Offer an acting state, packed before this returns. Raises ConfigError unless versions rise."""
        self._shelf.publish(Weights(version, tensors, meta))
        self._tell()

    def signal(self, kind: str, payload: Mapping[str, Any] = EMPTY, *, actor: str = "", keep: bool = False) -> None:
        """Tell all actors, or those named ``actor``; with ``keep`` also those that join later. Raises ProtocolError."""
        self._roll.signal(kind, payload, actor, keep)
        self._tell()

    def actors(self) -> Sequence[PeerStatus]:
        """The actors heard within the last 30 s, by name."""
        return self._roll.statuses()

    @property
    def problem(self) -> str:
        """Why nothing is taken from actors at the moment, e.g. a full disk; empty when all is well."""
        return self._inbox.problem

    @property
    def dropped(self) -> Counter[str]:
        """How much of what came was turned away, by reason."""
        return self.counts + self._inbox.counts + Counter(unauthorized=self._guard.refused)

    def close(self) -> None:
        """End both threads and release the address; what has not ended goes on with the next learner. Idempotent.

        Signals are heard before that by the actors that are there, so that a stop is not lost with the learner.
        """
        if self._closing.is_set():
            return
        self._roll.wait_until_heard(PRESENT_S)
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
                    self._beat()
                self._receive_all()
                for peer in self._roll.forget_silent():
                    self._shelf.forget(peer)
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
        version = fields["version"]
        if not (version is None or type(version) is int):
            raise ProtocolError(f"version {version!r}")
        self._roll.hear(peer, fields)
        self._beat(peer)

    def _beat(self, peer: bytes | None = None) -> None:
        """Tell all actors, or one, of the newest weights and of signals."""
        for there, message in self._roll.beats(self._shelf.version, self._inbox.problem, peer):
            self._send(there, message)

    def _send(self, peer: bytes, message: Message) -> None:
        """Send, or drop for a peer that has gone or does not read: it will ask again."""
        try:
            self._socket.send_multipart([peer, *encode(message)], zmq.NOBLOCK, copy=False)
        except zmq.ZMQError:
            self.counts["unsent"] += 1

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
                self._arrived += new
                if self._arrived != Arrivals():
                    self._news.set()
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
