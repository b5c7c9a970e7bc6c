"""One journal of an actor elsewhere as far as it has arrived: ``journal/<id>.remote``, whole records only."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from robot_rl.data.file_lock import fsync_folder, write_all
from robot_rl.data.journal import Record, scan_records

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC


class RemoteJournal:
    """The journal at ``path``, cut behind its last whole record. Raises OSError when the folder is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.records = self.rows = 0
        self.ended = False
        self._durable = 0
        self._descriptor = -1  # before the first part there is no file
        try:
            self._descriptor = os.open(path, _FLAGS)
        except FileNotFoundError:
            path.parent.stat()
            return
        try:
            self._read()
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def removed(self) -> bool:
        """Whether somebody has removed the file meanwhile."""
        return self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink == 0

    @property
    def steps(self) -> int:
        """Control steps: rows that have a successor."""
        return max(self.rows - 1, 0)

    def append(self, data: memoryview, records: Sequence[Record]) -> None:
        """Add ``data``, which holds ``records``. Raises OSError; the file is cut to whole records when opened again."""
        if self._descriptor < 0:
            self._descriptor = os.open(self.path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o644)
        write_all(self._descriptor, [data])
        self.size += len(data)
        self._count(records)

    def sync(self) -> bool:
        """Make what was added durable; whether anything was. Raises OSError, and takes back what may be lost."""
        if self.size == self._durable:
            return False
        try:
            os.fdatasync(self._descriptor)
            if self._durable == 0:
                fsync_folder(self.path.parent)
        except OSError:
            os.ftruncate(self._descriptor, self._durable)
            raise
        self._durable = self.size
        return True

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _read(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size:
            content = memoryview(mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ))
            for record, end in scan_records(content):
                self.size = end
                self._count([record])
        if self.size != size:
            os.ftruncate(self._descriptor, self.size)
        os.fdatasync(self._descriptor)
        self._durable = self.size
        if not self.size:  # a kill before the first record was whole
            self.path.unlink()
            self.close()

    def _count(self, records: Sequence[Record]) -> None:
        kinds = [record.header.get("kind") for record in records]
        self.records += len(kinds)
        self.rows += kinds.count("row")
        self.ended = kinds[-1] == "end"


def whole_records(data: memoryview, first: int) -> list[Record]:
    """The records that ``data`` consists of, of which the first has that number; empty when it is anything else."""
    records, whole = [], 0
    try:
        for record, end in scan_records(data, first):
            records.append(record)
            whole = end
    except Exception:  # a sum can be right over a header that msgpack or we cannot read
        return []
    return records if whole == len(data) else []
