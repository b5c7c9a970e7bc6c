"""Files that say by an advisory lock that their writer lives, and writes that survive a power cut.

The lock (flock) dies with the process, also by SIGKILL: an unlocked journal or temporary file is an orphan.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def create_locked(path: Path) -> int:
    """Descriptor of a new file at ``path`` that this process holds locked."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # a recovering process took it for an orphan between the two calls


def lock_orphan(path: Path) -> int | None:
    """Descriptor of the locked file at ``path``, or None when its writer lives or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def locked(path: Path) -> Iterator[int]:
    """Hold the file at ``path`` (made when missing) exclusively, for reading and appending.

    A file that was replaced while this process waited is opened again, so that nothing is appended to a dead one.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_all(descriptor: int, buffers: list[bytes | memoryview]) -> int:
    """Write every buffer in order; returns the bytes written. Raises OSError when the disk takes no more."""
    pending = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    total = sum(len(buffer) for buffer in pending)
    while pending:
        written = os.writev(descriptor, pending[:512])
        while pending and written >= len(pending[0]):
            written -= len(pending.pop(0))
        if written:
            pending[0] = pending[0][written:]
    return total


def replace_file(path: Path, content: bytes) -> None:
    """Put ``content`` at ``path`` so that a reader sees the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = create_locked(temporary)
    try:
        write_all(descriptor, [content])
        os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    fsync_folder(path.parent)


def remove_orphans(folder: Path) -> None:
    """Remove temporary files (``.*.tmp``) whose writer is dead."""
    for path in folder.glob(".*.tmp"):
        lock = lock_orphan(path)
        if lock is not None:
            path.unlink(missing_ok=True)
            os.close(lock)


def fsync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
