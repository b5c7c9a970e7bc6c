"""What an actor's store has recorded and the learner does not hold yet. Files and decisions; no sockets, no threads.

The store keeps a second name of every journal in ``outbox/`` from its first byte on, so a journal outlives its commit
here, and a kill, until the learner has the episode. Ranges of whole records go out in order of recording, at most
``window_bytes`` ahead of what the learner holds durably. Where it continues after a restart of either end the learner
says, so nothing has to be remembered here.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from robot_rl.data.file_lock import lock_orphan
from robot_rl.data.journal import scan_records
from robot_rl.errors import StoreError
from robot_rl.transport.messages import MAX_PART_BYTES, Message
from robot_rl.transport.notes import Notes
from robot_rl.transport.shipment import Phase, Shipment
from robot_rl.transport.sole_user import lock_alone

WINDOW_BYTES = 8 * 2**20
IDLE_S = 0.25  # a journal that has not grown for so long may have ended without saying so
ACTIVE = 8  # journals that are open at a time, the oldest first


class Outbox:
    """The journals and notes below ``root``/outbox of a store; one process at a time. Raises StoreError."""

    def __init__(self, root: Path, *, window_bytes: int = WINDOW_BYTES) -> None:
        self.root, self.folder = root, root / "outbox"
        self.window_bytes = window_bytes
        self.notes = Notes(self.folder)
        self._problem = ""
        if not (root / "dataset.json").exists():
            raise StoreError(f"{root} is no episode store", remedy="Create the store before its transport")
        self.folder.mkdir(exist_ok=True)
        self._lock = lock_alone(
            self.folder / "lock",
            f"{root} is shipped by another process",
            "One actor per store: give this one a folder of its own",
        )
        self._waiting: dict[str, Path] = {}  # not yet open
        self._active: dict[str, Shipment] = {}
        self._marks = self.folder / "delivered"  # of episodes, until the next start
        self.delivered = deque(self._left_over())  # episodes of which the learner has a file
        self.look()

    def close(self) -> None:
        """Let go of the folder; what was not delivered stays for the next time."""
        for shipment in self._active.values():
            os.close(shipment.descriptor)
        self._active.clear()
        os.close(self._lock)

    @property
    def problem(self) -> str:
        """What was not taken, and stays here; empty when all is well."""
        return self._problem or self.notes.problem

    @property
    def lag_bytes(self) -> int:
        """Bytes journaled here that the learner does not hold."""
        active = sum(_size(shipment.path) - shipment.durable for shipment in list(self._active.values()))
        return max(0, active) + sum(_size(path) for path in list(self._waiting.values()))

    def lag_s(self, now_s: float) -> float:
        """Age of the oldest such byte, as far as this process saw it [s]."""
        ages = [now_s - s.seen[0][1] for s in self._active.values() if s.seen]
        return max(ages, default=0.0)

    @property
    def empty(self) -> bool:
        """Whether the learner has everything."""
        return not (self._active or self._waiting or self.notes)

    def look(self) -> None:
        """Take note of journals and notes that have appeared."""
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".journal" and path.stem not in self._active:
                self._waiting[path.stem] = path
            elif path.suffix == ".note":
                self.notes.take(path)

    def ask_again(self) -> None:
        """Whatever the learner was sent may be lost: ask for every journal where to continue."""
        for shipment in self._active.values():
            shipment.ask()
        self.notes.ask_again()

    # --- what to send -----------------------------------------------------------------------------------------------

    def next_message(self, now_s: float) -> Message | None:
        """The next message to send, None when there is none now."""
        self._open_waiting(now_s)
        for shipment in list(self._active.values()):
            try:
                message = self._next_of(shipment, now_s)
            except OSError as error:
                self._park(shipment, f"cannot be read: {error.strerror}")
                continue
            if message is not None:
                return message
        return self.notes.next_message(now_s, self._active.keys() | self._waiting.keys())

    def _open_waiting(self, now_s: float) -> None:
        for id in sorted(self._waiting)[: max(0, ACTIVE - len(self._active))]:
            path = self._waiting.pop(id)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            self._active[id] = Shipment(id, path, descriptor, grown_s=now_s, progress_s=now_s)

    def _next_of(self, shipment: Shipment, now_s: float) -> Message | None:
        size = shipment.look(now_s)
        if shipment.phase is Phase.ASK:
            return shipment.due(now_s, shipment.about("where"))
        if not shipment.final:
            return self._next_part(shipment, size, now_s)
        if shipment.sent == 0:
            self._drop(shipment)  # never begun
            return None
        if shipment.durable < shipment.sent and shipment.final == "finish":
            return None
        return shipment.due(now_s, shipment.about(shipment.final, offset=shipment.sent))

    def _next_part(self, shipment: Shipment, size: int, now_s: float) -> Message | None:
        in_flight = sum(s.sent - s.durable for s in self._active.values())
        if in_flight >= self.window_bytes or shipment.resting(now_s):
            return None
        part = shipment.part(size, now_s)
        if part is None:
            self._settle(shipment, size, now_s)
        return part

    def _settle(self, shipment: Shipment, size: int, now_s: float) -> None:
        """There is no further whole record: find out whether there ever will be one."""
        if shipment.ended:
            shipment.conclude("finish")
        elif now_s - shipment.grown_s > IDLE_S:
            shipment.grown_s = now_s
            fate = self._fate(shipment)
            if not fate or shipment.size != size:
                return
            shipment.conclude(fate)
            if size - shipment.sent > MAX_PART_BYTES and fate == "finish":
                self._problem = f"episode {shipment.id}: damaged, or a step of over {MAX_PART_BYTES} bytes: cut there"

    def _fate(self, shipment: Shipment) -> str:
        """What became of the episode here: finish, discard, or nothing yet."""
        journal = self.root / "journal" / f"{shipment.id}.journal"
        if journal.exists():
            return "" if _writer_lives(journal) else "finish"
        file = self.root / "episodes" / f"{shipment.id}.zarr.zip"
        kept = file.exists() or journal.with_suffix(".damaged").exists() or _has_end(shipment.path)
        return "finish" if kept else "discard"

    # --- what the learner says ----------------------------------------------------------------------------------------

    def heard(self, message: Message, now_s: float) -> None:
        """Take an answer in; one that fits nothing is ignored. Raises KeyError or TypeError on a garbled one."""
        fields = message.fields
        if message.kind == "noted":
            self.notes.heard(str(fields["note"]), str(fields["reason"]))
            return
        shipment = self._active.get(fields["episode"])
        if shipment is None:
            return
        if message.kind == "committed":
            self._committed(shipment, fields["asked"])
        elif message.kind == "refused":
            self._park(shipment, str(fields["reason"]))
        elif message.kind == "durable" and fields["attempt"] == shipment.attempt:
            shipment.holds(fields, now_s)

    def _committed(self, shipment: Shipment, asked: str) -> None:
        """The learner has it as a file: done, unless it was killed in the middle of discarding it."""
        if asked != "discard" and not shipment.ended and self._fate(shipment) == "discard":
            shipment.conclude("discard")
        else:
            self._marks.mkdir(exist_ok=True)
            (self._marks / shipment.id).touch()
            self._drop(shipment)
            self.delivered.append(shipment.id)

    def _left_over(self) -> list[str]:
        """Delivered episodes that a killed process has left here; marks of the others go."""
        left = []
        for mark in sorted(self._marks.iterdir()) if self._marks.is_dir() else []:
            if (self.root / "episodes" / f"{mark.name}.zarr.zip").exists():
                left.append(mark.name)
            else:
                mark.unlink()
        return left

    def _drop(self, shipment: Shipment) -> None:
        del self._active[shipment.id]
        os.close(shipment.descriptor)
        shipment.path.unlink(missing_ok=True)

    def _park(self, shipment: Shipment, reason: str) -> None:
        """Keep the journal, but ship it no more: it must not stand before the others."""
        self._problem = f"episode {shipment.id}: {reason}"
        del self._active[shipment.id]
        os.close(shipment.descriptor)
        if shipment.path.exists():
            shipment.path.rename(shipment.path.with_suffix(".refused"))


def _has_end(journal: Path) -> bool:
    """Whether the last whole record says that the episode ended: one that is discarded never says so."""
    kind = ""
    for record, _ in scan_records(memoryview(journal.read_bytes())):
        kind = record.header.get("kind")
    return kind == "end"


def _writer_lives(journal: Path) -> bool:
    lock = lock_orphan(journal)
    if lock is None:
        return journal.exists()
    os.close(lock)
    return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
