"""One journal on its way to the learner: what was sent of it, what the learner holds, what to say next.

ASK ──where──► the learner's offset ──► SHIP ──part, part, ...──► all sent ──finish | discard──► committed: gone
 ▲                                       │
 └───────── no progress, or another learner ─────────┘
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.journal import scan_records
from robot_rl.transport.messages import MAX_PART_BYTES, Message
from robot_rl.transport.notes import RESEND_S

PART_BYTES = 256 * 1024
PART_RECORDS = 64  # looked through in one go: half a millisecond in which the control thread may have to wait
SHIP_PERIOD_S = 0.05  # rows of this long travel together


class Phase(Enum):
    """Whether the learner's offset is known."""

    ASK = "ask"
    SHIP = "ship"


@dataclass
class Shipment:
    """The journal ``path``, open as ``descriptor``. Offsets are bytes."""

    id: str
    path: Path
    descriptor: int
    phase: Phase = Phase.ASK
    attempt: int = 0
    sent: int = 0
    records: int = 0  # up to ``sent``
    durable: int = 0  # what the learner holds
    ended: bool = False  # the last record sent is the end
    more: bool = False  # the last part left some behind
    torn_size: int = -1  # at this size of the file no whole record follows
    final: str = ""  # what to tell when all is durable: finish or discard
    asked_s: float = -math.inf
    sent_s: float = -math.inf
    grown_s: float = 0.0  # when there last was something new
    progress_s: float = 0.0  # when the learner last took something
    seen: deque[tuple[int, float]] = field(default_factory=deque)  # size of the file and when it was first that

    @property
    def size(self) -> int:
        """Of the file at present. Raises OSError."""
        return os.fstat(self.descriptor).st_size

    def about(self, kind: str, **fields: Any) -> Message:
        """A message about this journal."""
        return Message(kind, {"episode": self.id, "attempt": self.attempt, **fields})

    def ask(self) -> None:
        """Whatever was sent may be lost: ask where to continue."""
        self.phase, self.final = Phase.ASK, ""
        self.attempt += 1
        self.asked_s = -math.inf

    def conclude(self, final: str) -> None:
        """All is sent: finish or discard is next."""
        self.phase, self.final, self.asked_s = Phase.SHIP, final, -math.inf

    def look(self, now_s: float) -> int:
        """Take note of the file's growth, and of a learner that makes no progress; returns its size."""
        size = self.size
        if size > (self.seen[-1][0] if self.seen else self.durable):
            self.seen.append((size, now_s))
            self.grown_s = now_s
        overdue = self.sent > self.durable and now_s - self.progress_s > RESEND_S
        if overdue and self.phase is Phase.SHIP:
            self.ask()
        return size

    def due(self, now_s: float, message: Message) -> Message | None:
        """``message``, unless it was sent lately."""
        if now_s - self.asked_s < RESEND_S:
            return None
        self.asked_s = now_s
        return message

    def resting(self, now_s: float) -> bool:
        """Whether rows are still being gathered for the next part."""
        return now_s - self.sent_s < SHIP_PERIOD_S and not (self.more or self.ended)

    def part(self, size: int, now_s: float) -> Message | None:
        """The next whole records of a file of ``size`` bytes; None when there are none."""
        data = self._whole_records(size) if size not in (self.sent, self.torn_size) else b""
        if not data:
            self.torn_size = size
            return None
        begin = self.sent - len(data)
        if begin == self.durable:
            self.progress_s = now_s  # nothing was awaited until now
        self.sent_s, self.more = now_s, self.sent < size
        message = self.about("part", offset=begin)
        return Message(message.kind, message.fields, {"data": np.frombuffer(data, np.uint8)})

    def _whole_records(self, size: int) -> bytes | memoryview:
        """Bytes of the next whole records, at least one where there is one, of PART_BYTES if they are small."""
        for limit in (PART_BYTES, MAX_PART_BYTES):
            content = memoryview(os.pread(self.descriptor, limit, self.sent))
            whole, records = 0, 0
            for record, end in islice(scan_records(content, self.records), PART_RECORDS):
                whole, records = end, records + 1
                self.ended = record.header.get("kind") == "end"
            if whole or self.sent + limit >= size:
                self.sent += whole
                self.records += records
                return content[:whole]
        return b""

    def holds(self, fields: Mapping[str, Any], now_s: float) -> None:
        """The learner tells what it holds. Raises KeyError or TypeError on a garbled answer."""
        offset, reset = int(fields["offset"]), bool(fields["reset"])
        if offset > self.durable or reset:
            self.progress_s = now_s
        self.durable = offset
        if reset:
            self.attempt += self.phase is Phase.SHIP  # what was sent before is answered no more
            self.phase, self.final, self.torn_size = Phase.SHIP, "", -1
            self.sent, self.records, self.ended = offset, int(fields["records"]), bool(fields["ended"])
        while self.seen and self.seen[0][0] <= offset:
            self.seen.popleft()
        if self.final and self.durable == self.sent:
            self.asked_s = -math.inf
