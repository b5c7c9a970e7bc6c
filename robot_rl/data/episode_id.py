"""ULIDs: 48 bits of time [ms] and 80 random bits, so that several robots name episodes without asking each other."""

from __future__ import annotations

import os
import re
import secrets
import threading
import time

from robot_rl.errors import EpisodeError

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford base 32
_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_lock = threading.Lock()
_last = 0
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock(), _last=0))


def new_id() -> str:
    """A fresh ULID, 26 characters, that sorts after every earlier one of this process."""
    global _last
    with _lock:
        _last = max(_last + 1, (time.time_ns() // 1_000_000 << 80) | secrets.randbits(80))
        value = _last
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))


def check_id(text: str) -> str:
    """``text`` itself; raises EpisodeError unless it is safe as a file name."""
    if not _VALID.fullmatch(text):
        raise EpisodeError(
            f"'{text}' cannot name an episode",
            limit="1 to 64 letters, digits, '_' or '-', the first a letter or digit",
        )
    return text
