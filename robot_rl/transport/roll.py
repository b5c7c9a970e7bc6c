"""The actors that are there, by their heartbeats, and what each of them has yet to be told."""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from robot_rl.errors import ProtocolError
from robot_rl.interfaces import PeerStatus
from robot_rl.transport.messages import Message, encode

FORGET_S = 30.0
PRESENT_S = 5.0  # who was not heard for so long is not waited for
REPLACED_S = 1.0  # two starts of one name that were both heard within this time are two actors
MAX_ACTORS = 256
MAX_SIGNALS = 1024  # that wait for an actor; the oldest give way
MAX_SIGNAL_BYTES = 2048
SIGNALS_PER_BEAT = 64
Item = TypeVar("Item")
_TEXT = 1000  # characters of another end's complaint that are kept


@dataclass
class _Actor:
    """One start of an actor."""

    peer: bytes
    status: PeerStatus
    heard_s: float
    signals: dict[str, list[Any]] = field(default_factory=dict)  # not acknowledged yet, by id


def taken(told: deque[Item]) -> list[Item]:
    """Everything in ``told``, which another thread may be adding to."""
    items = []
    while told:
        items.append(told.popleft())
    return items


class ActorRoll:
    """Any thread may use it. Signals are told with every heartbeat until the actor says that it heard them."""

    def __init__(self) -> None:
        self.learner = secrets.token_hex(8)  # of this start
        self._actors: dict[str, _Actor] = {}
        self._kept: dict[str, list[Any]] = {}  # the last signal of each kind that later actors hear too
        self._count = 0
        self._lock = threading.Condition()

    def signal(self, kind: str, payload: Mapping[str, Any], actor: str, keep: bool) -> None:
        """Tell those that are there, or those named ``actor``. Raises ProtocolError for what cannot be sent."""
        with self._lock:
            told = [f"{self.learner}-{self._count}", kind, dict(payload)]
            if len(encode(Message("beat", {"signals": [told]}))[0]) > MAX_SIGNAL_BYTES:
                raise ProtocolError(f"signal '{kind}' is too large", limit=f"{MAX_SIGNAL_BYTES} bytes")
            self._count += 1
            if keep:
                self._kept.pop(kind, None)  # what was said last is heard last
                self._kept[kind] = told
            for there in self._actors.values():
                if not actor or there.status.name == actor:
                    there.signals[told[0]] = told
                    if len(there.signals) > MAX_SIGNALS:
                        del there.signals[next(iter(there.signals))]

    def statuses(self) -> Sequence[PeerStatus]:
        """Who was heard lately, by name; an actor that was started again does not appear twice."""
        now_s = time.monotonic()
        with self._lock:
            actors = sorted(self._actors.values(), key=lambda actor: actor.heard_s)
        last = {actor.status.name: actor for actor in actors}
        there = [a for a in actors if now_s - a.heard_s < REPLACED_S or a is last[a.status.name]]
        found = [replace(actor.status, age_s=now_s - actor.heard_s) for actor in there]
        return sorted(found, key=lambda status: status.name)

    def hear(self, peer: bytes, fields: Mapping[str, Any]) -> None:
        """Take a heartbeat in. Raises ProtocolError for a crowd."""
        status = PeerStatus(
            name=fields["actor"],
            age_s=0.0,
            version=fields["version"],
            lag_bytes=fields["lag_bytes"],
            lag_s=fields["lag_s"],
            problem=fields["problem"][:_TEXT],
        )
        with self._lock:
            actor = self._actors.get(fields["start"])
            if actor is None:
                if len(self._actors) >= MAX_ACTORS:
                    raise ProtocolError("too many actors", limit=f"{MAX_ACTORS}")
                actor = self._actors[fields["start"]] = _Actor(peer, status, 0.0)
                actor.signals = {told[0]: told for told in self._kept.values()}
            actor.peer, actor.status, actor.heard_s = peer, status, time.monotonic()
            for id in fields["heard"]:
                actor.signals.pop(id, None)
            self._lock.notify_all()

    def beats(self, version: int | None, problem: str, peer: bytes | None = None) -> list[tuple[bytes, Message]]:
        """What to tell every actor, or the one at ``peer``."""
        fields = {"learner": self.learner, "version": version, "problem": problem[:_TEXT]}
        with self._lock:
            told = [
                (actor.peer, list(actor.signals.values())[:SIGNALS_PER_BEAT])
                for actor in self._actors.values()
                if peer is None or actor.peer == peer
            ]
        return [(there, Message("beat", fields | {"signals": signals})) for there, signals in told]

    def wait_until_heard(self, timeout_s: float) -> bool:
        """Until every actor that is there has heard every signal, at most so long; whether they have."""

        def heard() -> bool:
            now_s = time.monotonic()
            return not any(a.signals for a in self._actors.values() if now_s - a.heard_s < PRESENT_S)

        with self._lock:
            return self._lock.wait_for(heard, timeout_s)

    def forget_silent(self) -> list[bytes]:
        """Drop who was not heard for FORGET_S, and tell who they were."""
        now_s = time.monotonic()
        with self._lock:
            gone = [start for start, actor in self._actors.items() if now_s - actor.heard_s > FORGET_S]
            return [self._actors.pop(start).peer for start in gone]
