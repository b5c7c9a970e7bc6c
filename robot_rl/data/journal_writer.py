"""Appends records to a journal in a thread of its own, so that recording never waits for the disk."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robot_rl.data.file_lock import create_locked, fsync_folder, write_all
from robot_rl.data.journal import Buffers, disk_error, frame_record
from robot_rl.errors import RecordingOverflowError, RobotRlError, StoreError

SYNC_PERIOD_S = 1.0
POLL_PERIOD_S = 0.002

Item = tuple[dict[str, Any], list[Any], int]  # header, buffers and bytes of a record to come
Prepare = Callable[[dict[str, Any], list[Any]], tuple[Mapping[str, Any], Buffers]]
_live: weakref.WeakSet[JournalWriter] = weakref.WeakSet()


def _as_given(header: dict[str, Any], buffers: list[Any]) -> tuple[Mapping[str, Any], Buffers]:
    return header, buffers


class JournalWriter:
    """A locked journal file and the thread that writes it.

    ``put`` hands a record over and returns at once. ``prepare`` runs in the writer thread and may turn what was put
    into the final header and buffers (encode raw frames). A second thread syncs, so that a slow disk does not hold back
    the writing: a killed process loses what is in the ring, a power cut at most SYNC_PERIOD_S.
    """

    def __init__(
        self,
        path: Path,
        episode: str,
        header: Mapping[str, Any],
        *,
        ring_records: int = 256,
        ring_bytes: int = 2**28,
        prepare: Prepare = _as_given,
    ) -> None:
        self.path, self.episode = path, episode
        self.high_water = 0  # most records that ever waited in the ring
        self.ring_records, self.ring_bytes = ring_records, ring_bytes
        self._prepare = prepare
        self._ring: deque[Item] = deque()
        self._put, self._put_bytes = 0, 0  # counted by the caller
        self._done, self._done_bytes = 0, 0  # counted by the writer thread
        self._error: RobotRlError | None = None
        self._closed, self._foreign = False, False
        self._stop, self._wake = threading.Event(), threading.Event()
        self._written = 0
        self._descriptor = self._begin(header)
        self._writer = threading.Thread(target=self._run, name=f"journal {episode}", daemon=True)
        self._syncer = threading.Thread(target=self._sync_regularly, name=f"journal sync {episode}", daemon=True)
        self._writer.start()
        self._syncer.start()
        _live.add(self)

    def _begin(self, header: Mapping[str, Any]) -> int:
        """Create the file with its first record, durable; leaves no file behind when the disk is full."""
        try:
            descriptor = create_locked(self.path)
            try:
                self._written = write_all(descriptor, frame_record(0, header))
                os.fsync(descriptor)
                fsync_folder(self.path.parent)
            except OSError:
                self.path.unlink()
                os.close(descriptor)
                raise
        except OSError as error:
            raise disk_error(error, self.episode, f"cannot begin the journal {self.path.name}") from error
        return descriptor

    @property
    def pending(self) -> int:
        """Records that wait in the ring."""
        return self._put - self._done

    @property
    def bytes_expected(self) -> int:
        """Size of the file once the ring is written (raw frames in the ring counted as they are)."""
        return self._written + self._put_bytes - self._done_bytes

    def put(self, header: dict[str, Any], buffers: list[Any], size: int) -> None:
        """Hand over a record of about ``size`` bytes; the buffers must not change any more.

        Raises RecordingOverflowError when the ring is full (the record is not taken), and what went wrong in the
        writer thread since: DiskFullError, StoreError, EpisodeError.
        """
        self.check()
        depth = self._put - self._done
        if depth >= self.ring_records or self._put_bytes - self._done_bytes + size > self.ring_bytes:
            raise RecordingOverflowError(
                f"episode {self.episode}: {depth} records wait to be written, this one was not recorded",
                limit=f"{self.ring_records} records or {self.ring_bytes} bytes",
                remedy="The disk or the frame encoder is too slow: free it, lower the camera rate or end the episode",
            )
        self._put += 1
        self._put_bytes += size
        self.high_water = max(self.high_water, depth + 1)
        self._ring.append((header, buffers, size))

    def check(self) -> None:
        """Raise what went wrong in the writer thread, or that this process may not write here."""
        self.check_owner()
        if self._error is not None:
            raise self._error
        if self._closed:
            raise StoreError(f"episode {self.episode} has ended", remedy="Begin a new one")

    def check_owner(self) -> None:
        """Raise StoreError in a forked child: the episode belongs to the parent."""
        if self._foreign:
            raise StoreError(
                f"episode {self.episode} is recorded by the parent process", remedy="Begin an episode after the fork"
            )

    def put_last(self, header: dict[str, Any]) -> None:
        """Hand over the last record, also when the ring is full."""
        self.check()
        self._put += 1
        self._ring.append((header, [], 0))

    def flush(self) -> None:
        """Wait until everything put is written, so that a reader of the file sees it: for lockstep, not for a robot."""
        while self.pending and self._error is None and self._writer.is_alive():
            self._wake.set()
            time.sleep(5e-5)
        self.check()

    def drain(self) -> None:
        """Wait until everything put is written and synced, and stop the threads; the file stays open and locked.

        Raises what went wrong in the writer thread.
        """
        if not self._foreign and self._writer.is_alive():
            self._stop.set()
            self._wake.set()
            self._writer.join()
            self._syncer.join()
        self.check()
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise disk_error(error, self.episode, "the journal cannot be synced") from error

    def close(self) -> None:
        """Stop the threads and let go of the file, which keeps what was written; idempotent."""
        if self._closed or self._foreign:
            return
        try:
            self.drain()
        except RobotRlError:
            pass  # told to the caller by put or drain
        finally:
            self._closed = True
            os.close(self._descriptor)

    def _run(self) -> None:
        """Empty the ring every POLL_PERIOD_S. Waking this thread from ``put`` instead would make the control thread
        give up its core at every step (seen: 3 ms on a busy machine)."""
        sequence, stopping = 1, False
        while not stopping:
            self._wake.wait(POLL_PERIOD_S)
            self._wake.clear()
            stopping = self._stop.is_set()
            while self._ring:
                item = self._ring.popleft()
                sequence += self._write_item(sequence, item)
                self._done += 1
                self._done_bytes += item[2]

    def _write_item(self, sequence: int, item: Item) -> bool:
        """Write one record; after a failure nothing more is written, since a reader stops at the gap."""
        if self._error is not None:
            return False
        try:
            self._write(sequence, *self._prepare(item[0], item[1]))
            return True
        except OSError as error:
            self._error = disk_error(error, self.episode, "the journal cannot be written")
        except RobotRlError as error:
            self._error = error
        except Exception as error:  # a thread must not die silently
            self._error = StoreError(f"episode {self.episode}: the writer thread failed: {error!r}")
        return False

    def _write(self, sequence: int, header: Mapping[str, Any], buffers: Buffers) -> None:
        self._written += write_all(self._descriptor, frame_record(sequence, header, buffers))

    def _sync_regularly(self) -> None:
        synced = self._written
        while not self._stop.wait(SYNC_PERIOD_S):
            written = self._written
            if written == synced:
                continue
            try:
                os.fdatasync(self._descriptor)
                synced = written
            except OSError as error:
                self._error = self._error or disk_error(error, self.episode, "the journal cannot be synced")

    def _leave_to_parent(self) -> None:
        """In a forked child: drop the inherited descriptor, so that the lock is the parent's alone."""
        if not self._closed:
            os.close(self._descriptor)
        self._foreign = True


def _leave_all_to_parent() -> None:
    for writer in list(_live):
        writer._leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
