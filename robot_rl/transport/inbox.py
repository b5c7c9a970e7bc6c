"""Journals of actors as they arrive: appended, synced, then acknowledged, and committed when they have ended.

A part at offset n of a journal is taken only when n bytes of that journal are here. So nothing is taken twice and
nothing is skipped, whatever was killed in between: the size of ``journal/<id>.remote`` is all there is to remember.
Files and decisions; no sockets, no threads.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from robot_rl.data.episode_file import check_version
from robot_rl.data.episode_id import check_id
from robot_rl.data.journal import Record, disk_error
from robot_rl.errors import EpisodeError, ProtocolError, RobotRlError, SpecMismatchError, StoreError
from robot_rl.interfaces import Arrivals, Report
from robot_rl.transport.messages import MAX_PART_BYTES, Message
from robot_rl.transport.notes import check_edits
from robot_rl.transport.remote_journal import RemoteJournal, whole_records
from robot_rl.transport.sole_user import lock_alone
from robot_rl.types import EnvSpec

if TYPE_CHECKING:
    from robot_rl.data.store import EpisodeStore

MAX_JOURNAL_BYTES = 2**31
MAX_OPEN = 64  # journals that are open at a time

Peer = TypeVar("Peer")
_log = logging.getLogger(__name__)


class Inbox:
    """Takes messages of outboxes into ``store``, an object of its own (open it twice). Raises StoreError."""

    def __init__(self, store: EpisodeStore) -> None:
        self._lock = lock_alone(
            store.root / ".inbox.lock",
            f"{store.root} is filled by another learner",
            "One learner per store: give this one a folder of its own",
        )
        self.counts: Counter[str] = Counter()  # corrupt, misplaced and refused parts
        self.problem = ""  # why nothing is taken at the moment
        self._store = store
        self._folder = store.root / "journal"
        self._held: dict[str, RemoteJournal] = {}
        self._counted: dict[str, int] = {}  # control steps told of, by running episode
        self._arrived = Arrivals()

    def resume(self) -> None:
        """Commit what had ended when the last learner was killed; remove journals that it had committed already."""
        for path in sorted(self._folder.glob("*.remote")):
            try:
                if self._is_committed(path.stem):
                    self._store.commit_remote(path)
                elif (held := self._hold(path.stem)).ended:
                    self._finish(path.stem, held.size)
            except (RobotRlError, OSError) as error:
                self.problem = str(error)
        self.arrivals()

    def commit_orphans(self) -> list[str]:
        """Commit what has arrived of every episode, for actors that will not come back; says what became of each.

        What such an actor still has of them beyond that is not taken any more, should it come back.
        """
        told = []
        for path in sorted(self._folder.glob("*.remote")):
            held = self._hold(path.stem)
            rows, ended, info = held.rows, held.ended, self._store.commit_remote(path)
            self._forget(path.stem, held)
            if info is not None:
                cut = "" if ended else ", cut where the actor's rows stop"
                told.append(f"recovered episode {info.id} of an actor, {info.length} steps{cut}")
            else:
                told.append(f"episode {path.stem} of an actor is {_not_committed(path, rows)}")
        return told

    def close(self) -> None:
        """Let go of the files; what has not ended goes on with the next learner."""
        for episode, held in list(self._held.items()):
            self._forget(episode, held)
        os.close(self._lock)

    def arrivals(self) -> Arrivals:
        """What became durable since the last call; what earlier learners took does not count."""
        arrived, self._arrived = self._arrived, Arrivals()
        return arrived

    def take(self, batch: Iterable[tuple[Peer, Message]]) -> list[tuple[Peer, Message]]:
        """Act on messages in order, with one sync for all, and answer them. What a full disk prevents is not answered.

        Raises nothing: what is wrong with a message, the store or the disk is counted, told or kept in ``problem``.
        """
        answers: list[tuple[Peer, Message]] = []
        due: dict[tuple[Peer, str], tuple[int, bool]] = {}  # attempt, reset
        for peer, message in batch:
            try:
                self._act(peer, message, due, answers)
            except (StoreError, OSError) as error:
                self._failed(error, message, due)
        answers += self._acknowledge(due)
        return answers

    # --- messages -------------------------------------------------------------------------------------------------

    def _act(self, peer: Any, message: Message, due: dict[Any, tuple[int, bool]], answers: list[Any]) -> None:
        if message.kind in ("note", "report"):
            answers.append((peer, self._note(message) if message.kind == "note" else self._report(message)))
            return
        episode = message.fields["episode"]
        attempt, key = message.fields["attempt"], (peer, episode)
        try:
            if self._is_committed(episode):
                done = True
                if message.kind == "discard":
                    self._delete(episode)
            elif message.kind == "discard":
                done = self._discard(episode)
            elif message.kind == "finish":
                done = self._finish(episode, message.fields["offset"])
            else:
                done = False
                taken = message.kind == "part" and self._append(episode, message)
                before = due.get(key, (attempt, False))
                due[key] = attempt, not taken or (before[0] == attempt and before[1])
            if done:
                due.pop(key, None)
                answers.append((peer, Message("committed", {"episode": episode, "asked": message.kind})))
            elif message.kind == "finish":
                due[key] = attempt, True
        except (SpecMismatchError, EpisodeError, ProtocolError) as error:
            self.counts["refused"] += 1
            due.pop(key, None)
            answers.append((peer, Message("refused", {"episode": episode, "reason": str(error)})))

    def _append(self, episode: str, message: Message) -> bool:
        """Write a part behind what is held; False when it belongs elsewhere or is not whole records."""
        held, data = self._hold(episode), message.arrays["data"].data.cast("B")
        if message.fields["offset"] != held.size:
            self.counts["misplaced"] += 1
            return False
        if held.size + len(data) > MAX_JOURNAL_BYTES or len(data) > MAX_PART_BYTES:
            raise ProtocolError(f"a journal of over {held.size + len(data)} bytes", limit=f"{MAX_JOURNAL_BYTES} bytes")
        records = whole_records(data, held.records)
        if not records:
            self.counts["corrupt"] += 1
            return False
        if held.size == 0:
            self._check_begin(episode, records[0])
        try:
            held.append(data, records)
        except OSError as error:
            self._forget(episode, held)
            raise disk_error(error, episode, "what an actor sent cannot be written") from error
        return True

    def _check_begin(self, episode: str, record: Record) -> None:
        """The first record names the episode and what it holds, which must suit the store."""
        header = record.header
        try:
            if header["kind"] != "begin" or header["id"] != episode:
                raise ProtocolError("the journal does not begin with this episode")
            check_version(header["schema_version"], episode)
            spec = EnvSpec.from_json(header["spec"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"the journal's first record is garbled: {error!r}") from error
        self._store.adopt(spec)

    def _finish(self, episode: str, size: int) -> bool:
        """Commit the episode when ``size`` bytes of it are here; whether it need not be sent any more."""
        held = self._hold(episode)
        if held.size != size:
            return False
        self._sync()
        info = self._store.commit_remote(held.path)
        self._forget(episode, held)
        if info is None and held.path.with_suffix(".damaged").exists():
            raise EpisodeError("makes no valid episode and was set aside", episode=episode)
        if info is None and held.rows and not self._is_committed(episode):
            return False  # it has vanished
        self._counted.pop(episode, None)
        self.problem = ""
        if info is not None:
            self._arrived += Arrivals(committed=(episode,))
        return True

    def _discard(self, episode: str) -> bool:
        """An operator dropped it: it becomes an episode that is deleted, so that nothing brings it back."""
        held = self._hold(episode)
        if not held.rows:
            self._forget(episode, held)
            held.path.unlink(missing_ok=True)
            return True
        if not self._finish(episode, held.size):
            return False
        committed = self._arrived.committed
        self._arrived = replace(self._arrived, committed=tuple(id for id in committed if id != episode))
        self._delete(episode)
        return True

    def _note(self, message: Message) -> Message:
        fields = message.fields
        episode, edits, reason = fields["episode"], dict(fields["edits"]), ""
        try:
            check_edits(edits)
            if edits.pop("deleted", False):
                self._delete(episode)
            if edits:
                self._store.annotate(episode, **edits, who="actor")
                self._arrived += Arrivals(edited=(episode,))
        except OSError:
            raise
        except (RobotRlError, TypeError, ValueError) as error:
            reason = str(error)
        return Message("noted", {"note": fields["note"], "reason": reason})

    def _report(self, message: Message) -> Message:
        """Kept in memory: a learner that was started again asks anew for what it wants to know."""
        report = Report(message.fields["report"], message.fields["payload"])
        self._arrived += Arrivals(reports=(report,))
        return Message("noted", {"note": message.fields["note"], "reason": ""})

    def _delete(self, episode: str) -> None:
        self._store.refresh()
        if episode in self._store.ids(excluded=True):
            self._store.delete(episode, who="actor")
            self._arrived += Arrivals(edited=(episode,))

    # --- files --------------------------------------------------------------------------------------------------------

    def _is_committed(self, episode: str) -> bool:
        check_id(episode)  # it becomes part of a path
        return (self._store.root / "episodes" / f"{episode}.zarr.zip").exists()

    def _hold(self, episode: str) -> RemoteJournal:
        held = self._held.pop(episode, None)
        if held is not None and held.removed:
            held.close()
            held = None
        if held is None:
            if len(self._held) >= MAX_OPEN:
                self._sync()
                self._forget(*next(iter(self._held.items())))
            held = RemoteJournal(self._folder / f"{check_id(episode)}.remote")
            self._counted.setdefault(episode, held.steps)
        self._held[episode] = held  # the last of them was used last
        return held

    def _forget(self, episode: str, held: RemoteJournal) -> None:
        self._held.pop(episode, None)
        held.close()

    def _sync(self) -> None:
        """Make what was written durable. Raises DiskFullError or StoreError."""
        for episode, held in list(self._held.items()):
            try:
                grown = held.sync()
            except OSError as error:
                self._forget(episode, held)
                raise disk_error(error, episode, "what an actor sent cannot be synced") from error
            if grown:
                self._arrived += Arrivals(max(0, held.steps - self._counted[episode]))
                self._counted[episode] = max(held.steps, self._counted[episode])

    def _acknowledge(self, due: Mapping[tuple[Any, str], tuple[int, bool]]) -> list[tuple[Any, Message]]:
        answers = []
        try:
            self._sync()
            for (peer, episode), (attempt, reset) in due.items():
                held = self._hold(episode)
                fields = {"episode": episode, "attempt": attempt, "offset": held.size, "records": held.records}
                answers.append((peer, Message("durable", fields | {"reset": reset, "ended": held.ended})))
        except (StoreError, OSError) as error:
            self.problem = str(error)
            return answers
        if answers:
            self.problem = ""
        return answers

    def _failed(self, error: Exception, message: Message, due: dict[Any, tuple[int, bool]]) -> None:
        """Say what is wrong and stay silent to who sent it, who keeps it and will send it again."""
        if self.problem != str(error):
            _log.warning("an actor's journal is not taken: %s", error)
        self.problem = str(error)
        for key in [key for key in due if key[1] == message.fields.get("episode")]:
            del due[key]


def _not_committed(journal: Path, rows: int) -> str:
    if journal.with_suffix(".damaged").exists():
        return f"no valid episode: its journal is set aside as {journal.stem}.damaged"
    return "there already" if rows else "empty and was removed"
