"""The journal of the running episode: framed, checksummed records, one behind the other (journal_writer.py).

A record is ``magic 4 | length u32 | crc32c u32 | sequence u64 | payload``, little endian; the checksum covers length,
sequence and payload; sequences count from 0. A payload is ``header size u32 | msgpack header | raw buffers``; the
header holds the size of each buffer. A reader stops at the first record that is not whole: it never invents one.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from robot_rl.data.checksum import crc32c
from robot_rl.errors import DiskFullError, StoreError

MAGIC = b"RRJ1"
MAX_RECORD_BYTES = 2**30
_HEAD = struct.Struct("<4sIIQ")
_COVERED = struct.Struct("<IQ")
_SIZE = struct.Struct("<I")

Buffers = Sequence[bytes | memoryview]


@dataclass(frozen=True)
class Record:
    """One record as read back; ``buffers`` are views of the scanned bytes."""

    sequence: int
    header: dict[str, Any]
    buffers: list[memoryview]


def frame_record(sequence: int, header: Mapping[str, Any], buffers: Buffers = ()) -> list[bytes | memoryview]:
    """The record as a list of buffers to be written one after another; nothing of ``buffers`` is copied."""
    packed: Any = msgpack.packb([[len(buffer) for buffer in buffers], dict(header)])
    parts: list[bytes | memoryview] = [_SIZE.pack(len(packed)), packed, *buffers]
    length = sum(len(part) for part in parts)
    checksum = crc32c(_COVERED.pack(length, sequence))
    for part in parts:
        checksum = crc32c(part, checksum)
    return [_HEAD.pack(MAGIC, length, checksum, sequence), *parts]


def scan_records(content: memoryview, first: int = 0) -> Iterator[tuple[Record, int]]:
    """Whole records from the start of ``content``, each with the offset behind it, up to the first that is not.

    ``first`` is the sequence of the first one, where ``content`` goes on after records read before.
    """
    position = 0
    for sequence in range(first, 2**62):
        record = _read_record(content, position, sequence)
        if record is None:
            return
        position += _HEAD.size + record[1]
        yield record[0], position


def _read_record(content: memoryview, position: int, sequence: int) -> tuple[Record, int] | None:
    if position + _HEAD.size > len(content):
        return None
    magic, length, checksum, found = _HEAD.unpack_from(content, position)
    start = position + _HEAD.size
    if magic != MAGIC or found != sequence or length > MAX_RECORD_BYTES or start + length > len(content):
        return None
    payload = content[start : start + length]
    if crc32c(payload, crc32c(_COVERED.pack(length, sequence))) != checksum:
        return None
    (packed,) = _SIZE.unpack_from(payload)
    sizes, header = msgpack.unpackb(payload[_SIZE.size : _SIZE.size + packed])
    offset, buffers = _SIZE.size + packed, []
    for size in sizes:
        buffers.append(payload[offset : offset + size])
        offset += size
    return Record(found, header, buffers), length


def disk_error(error: OSError, episode: str, what: str) -> StoreError:
    """``error`` as one of ours, naming the episode: DiskFullError when space or a size limit ran out."""
    remedy = "What was written before is kept and recovered when the store is opened next"
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return DiskFullError(
            f"episode {episode}: {what}: {error.strerror}", limit="disk space, quota or file size", remedy=remedy
        )
    return StoreError(f"episode {episode}: {what}: {error}", remedy=remedy)
