"""A lock that says: this folder is used by one process at a time. It dies with the process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from robot_rl.errors import StoreError


def lock_alone(path: Path, what: str, remedy: str) -> int:
    """Descriptor of the locked file at ``path``; close it to let go. Raises StoreError when another has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreError(what, remedy=remedy) from error
    return descriptor
