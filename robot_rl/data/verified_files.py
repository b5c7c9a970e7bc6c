"""Which files were checked byte by byte on this machine; a file that changed its identity is checked again."""

from __future__ import annotations

import os
from pathlib import Path

from robot_rl.data.line_log import append_lines, read_lines


class VerifiedFiles:
    """``verified.jsonl``: name, inode, size and change time of whole files. A cache, safe to delete.

    The change time (ctime) moves with every write and cannot be set back, unlike the modification time, which a tool
    that restores or synchronises files sets to what it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._known: set[tuple[str, int, int, int]] = set()

    def knows(self, path: Path, status: os.stat_result) -> bool:
        """Whether the file of that name and status was checked before."""
        identity = _identity(path, status)
        if identity not in self._known:
            records, self._position = read_lines(self._path, self._position)
            self._known.update(tuple(record["identity"]) for record in records if "identity" in record)
        return identity in self._known

    def add(self, path: Path, status: os.stat_result) -> None:
        """Remember a checked file; where the folder cannot be written, for this process only."""
        identity = _identity(path, status)
        if identity in self._known:
            return
        self._known.add(identity)
        try:
            append_lines(self._path, [{"identity": list(identity)}], durable=False)
        except OSError:
            return


def _identity(path: Path, status: os.stat_result) -> tuple[str, int, int, int]:
    return path.name, status.st_ino, status.st_size, status.st_ctime_ns
