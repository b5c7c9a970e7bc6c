"""Append-only text logs: one JSON object per line that ends with the CRC32C of the line before it.

A line that is torn or damaged is left out by the reader; a torn tail is closed by the next append, so that one kill
costs one line at most. Appends of several processes are ordered by a lock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from robot_rl.data.checksum import crc32c
from robot_rl.data.file_lock import locked, replace_file, write_all

_KEY = b',"line_crc32c":"'
_TAIL = len(_KEY) + 8 + 2  # key, 8 hex digits, '"}'


def encode_line(record: Mapping[str, Any]) -> bytes:
    """One line with its checksum and newline; ``record`` must hold plain JSON types and not be empty."""
    body = json.dumps(record, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    return b'%s%s%08x"}\n' % (body[:-1], _KEY, crc32c(body))


def decode_lines(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    """The records of lines without their newlines; torn and damaged ones are left out."""
    whole = (body for body in map(_checked_body, lines) if body is not None)
    return json.loads((b"[%s]" % b",".join(whole)).decode())  # all at once: a call a line takes twice as long


def _checked_body(line: bytes) -> bytes | None:
    """The JSON of a line, or None when its checksum does not fit."""
    body, tail = line[:-_TAIL] + b"}", line[-_TAIL:]
    return body if len(line) > _TAIL and tail == b'%s%08x"}' % (_KEY, crc32c(body)) else None


def append_lines(path: Path, records: Iterable[Mapping[str, Any]], *, durable: bool = True) -> None:
    """Append, and sync unless a power cut may take the lines; raises OSError when the disk is full."""
    content = b"".join(encode_line(record) for record in records)
    if not content:
        return
    with locked(path) as descriptor:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            content = b"\n" + content
        write_all(descriptor, [content])
        if durable:
            os.fdatasync(descriptor)


def rewrite_lines(path: Path, make: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
    """Replace the whole log by what ``make`` returns. Whoever appends meanwhile waits and then finds the new file."""
    with locked(path):
        replace_file(path, b"".join(encode_line(record) for record in make()))


def read_lines(path: Path, start: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole records from byte ``start`` on, and where the last complete line ends (the next ``start``)."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return [], 0
    end = content.rfind(b"\n") + 1
    return decode_lines(line for line in content[:end].split(b"\n") if line), start + end
