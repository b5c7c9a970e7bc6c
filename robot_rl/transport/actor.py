"""The actor's end over ZMQ: one thread owns the socket, ships journals, takes weights and signals in.

    control thread ── latest, signals, status: attributes only ──► I/O thread ── DEALER ⇄ ROUTER of the learner
    recorder ──► journals on disk ──► Outbox ──────────────────────┘

A learner that is slow, dead or restarted costs the control thread nothing: what it did not take stays on disk.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import socket as network
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import zmq

from robot_rl.errors import ProtocolError
from robot_rl.interfaces import PeerStatus, Signal, Weights
from robot_rl.transport.endpoint import connect
from robot_rl.transport.keys import SERVER
from robot_rl.transport.messages import MAX_MESSAGE_BYTES, Message, decode, encode
from robot_rl.transport.outbox import WINDOW_BYTES, Outbox
from robot_rl.transport.roll import taken
from robot_rl.transport.weights import WeightsFetch

ADDRESS = "tcp://127.0.0.1:5588"
BEAT_S = 0.25
LOOK_S = 0.05
POLL_MS = 10
BURST = 8  # messages sent before the others of this process get their turn
MAX_SIGNALS = 1024

_log = logging.getLogger(__name__)


class ZmqActor:
    """ActorTransport for the store in ``root``; make it before the first episode begins.

    ``keys`` names this machine's key pair (needed beyond loopback), ``server`` the learner's public key.
    Raises ConfigError for addresses and keys, StoreError when another process ships this store.
    """

    def __init__(
        self,
        root: str | Path,
        address: str = ADDRESS,
        *,
        name: str = "",
        keys: str = "",
        server: str = SERVER,
        window_bytes: int = WINDOW_BYTES,
        key_folder: str | Path | None = None,
    ) -> None:
        self.name = name or f"{network.gethostname()}-{os.getpid()}"
        self.counts: Counter[str] = Counter()
        self._start = secrets.token_hex(8)
        self._outbox = Outbox(Path(root), window_bytes=window_bytes)
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in _OPTIONS.items():
            self._socket.setsockopt(option, value)
        try:
            connect(self._socket, address, keys, server, None if key_folder is None else Path(key_folder))
        except BaseException:
            self._context.destroy(linger=0)
            self._outbox.close()
            raise
        self._fetch = WeightsFetch()
        self._latest: Weights | None = None
        self._signals: deque[Signal] = deque(maxlen=MAX_SIGNALS)
        self._known: deque[str] = deque(maxlen=MAX_SIGNALS)
        self._heard: list[str] = []  # signals to acknowledge with the next heartbeat
        self._learner = ""
        self._learner_problem = ""
        self._learner_version: int | None = None
        self._heard_s = self._beat_s = self._look_s = self._empty_s = -math.inf
        self._lag = 0, 0.0
        self._news = threading.Event()  # something was heard, or everything is delivered
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="actor-transport", daemon=True)
        self._thread.start()

    # --- any thread ------------------------------------------------------------------------------------------------

    def latest(self) -> Weights | None:
        """The newest acting state, None before the first."""
        return self._latest

    def signals(self) -> list[Signal]:
        """What the learner told since the last call."""
        return taken(self._signals)

    def annotate(self, episode: str, edits: Mapping[str, Any]) -> None:
        """Say something about an episode that has ended; durable on return. Raises ConfigError."""
        self._outbox.notes.write(episode, edits)

    def report(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Tell the learner something; durable on return."""
        self._outbox.notes.report(kind, payload)

    def delivered(self) -> list[str]:
        """Ids of the episodes of which the learner has a file now, since the last call."""
        return taken(self._outbox.delivered)

    def wait(self, timeout_s: float) -> None:
        """Wait for something from the learner, at most so long. For one thread, and not in a step."""
        if self._news.wait(timeout_s):
            self._news.clear()

    def status(self) -> PeerStatus:
        """The learner, and how far this store's journals are ahead of it."""
        return PeerStatus(
            name="learner",
            age_s=time.monotonic() - self._heard_s,
            version=self._learner_version,
            lag_bytes=self._lag[0],
            lag_s=self._lag[1],
            problem=self._outbox.problem or self._learner_problem,
        )

    def flush(self, timeout_s: float) -> bool:
        """Wait until the learner has everything recorded so far, at most ``timeout_s``; whether it has."""
        called = time.monotonic()
        while self._empty_s <= called:
            left_s = called + timeout_s - time.monotonic()
            if left_s <= 0:
                return False
            self.wait(left_s)
        return True

    def close(self) -> None:
        """End the thread; what was not delivered stays on disk for the next time. Idempotent."""
        if not self._closing.is_set():
            self._closing.set()
            self._thread.join(timeout=10.0)
            self._context.destroy(linger=0)
            self._outbox.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # --- I/O thread ---------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._socket.poll(POLL_MS)
                self._receive_all()
                self._send_due(time.monotonic())
            except Exception:  # without this thread nothing is delivered any more: it goes on
                self.counts["failed"] += 1
                _log.exception("the actor's transport failed; it goes on")
                self._closing.wait(0.1)

    def _receive_all(self) -> None:
        for _ in range(BURST * 8):
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            try:
                self._hear(decode([frame.buffer for frame in frames]), time.monotonic())
            except (ProtocolError, KeyError, TypeError, ValueError) as error:
                self.counts["garbage"] += 1
                _log.warning("the learner sent what cannot be read: %s", error)

    def _hear(self, message: Message, now_s: float) -> None:
        self._heard_s = now_s
        self._news.set()
        if message.kind == "beat":
            self._hear_beat(message.fields)
        elif message.kind == "chunk":
            try:
                self._latest = self._fetch.heard(message) or self._latest
            except ProtocolError:
                self._fetch.pause(now_s)
                raise
        else:
            self._outbox.heard(message, now_s)

    def _hear_beat(self, fields: Mapping[str, Any]) -> None:
        learner, version = str(fields["learner"]), fields["version"]
        if learner != self._learner:
            self._learner = learner
            self._outbox.ask_again()
        self._learner_problem, self._learner_version = str(fields["problem"]), version
        self._fetch.offered(learner, version)
        for id, kind, payload in fields["signals"]:
            self._heard.append(str(id))
            if id not in self._known:
                self._known.append(str(id))
                self._signals.append(Signal(str(id), str(kind), dict(payload)))

    def _send_due(self, now_s: float) -> None:
        if now_s - self._look_s >= LOOK_S:
            self._outbox.look()
            self._lag = self._outbox.lag_bytes, self._outbox.lag_s(now_s)
            self._look_s = now_s
            if self._outbox.empty:
                self._empty_s = now_s
                self._news.set()
        if now_s - self._beat_s >= BEAT_S or self._heard:
            self._beat(now_s)
        if request := self._can_send() and self._fetch.request(now_s):
            self._send(request)
        for _ in range(BURST):
            message = self._outbox.next_message(now_s) if self._can_send() else None
            if message is None:
                return
            self._send(message)

    def _beat(self, now_s: float) -> None:
        if not self._can_send():
            return
        version = None if self._latest is None else self._latest.version
        fields = {
            "actor": self.name, "start": self._start, "version": version, "lag_bytes": self._lag[0],
            "lag_s": self._lag[1], "problem": self._outbox.problem, "heard": self._heard[:MAX_SIGNALS],
        }  # fmt: skip
        self._heard, self._beat_s = self._heard[MAX_SIGNALS:], now_s
        self._send(Message("beat", fields))

    def _can_send(self) -> bool:
        return bool(self._socket.getsockopt(zmq.EVENTS) & zmq.POLLOUT)  # type: ignore[operator]

    def _send(self, message: Message) -> None:
        try:
            self._socket.send_multipart(encode(message), zmq.NOBLOCK, copy=False)
        except zmq.Again:  # the learner went away since we asked: whatever it was is sent again
            self.counts["unsent"] += 1


_OPTIONS = {
    zmq.LINGER: 0,
    zmq.IMMEDIATE: 1,  # nothing waits for a learner that is not there
    zmq.SNDHWM: 64,
    zmq.RCVHWM: 64,
    zmq.MAXMSGSIZE: MAX_MESSAGE_BYTES,
    zmq.RECONNECT_IVL: 50,
    zmq.RECONNECT_IVL_MAX: 1000,
    zmq.HEARTBEAT_IVL: 1000,
    zmq.HEARTBEAT_TIMEOUT: 5000,
}
