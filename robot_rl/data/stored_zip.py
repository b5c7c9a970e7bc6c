"""Zip archives whose entries are stored as they are, each starting at a multiple of 64 bytes.

Alignment is bought with an extra field in the local header (id 0xD935, as Android's zipalign does), so that arrays can
be used in place from a memory map. Any zip reader opens such a file. Limit: 2 GiB, no zip64.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, NamedTuple

from robot_rl.data.checksum import crc32c
from robot_rl.data.file_lock import write_all

ALIGNMENT = 64
MAX_BYTES = 2**31 - 1
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_EXTRA = struct.Struct("<HHH")
_BEFORE_PADDING = _LOCAL.size + _EXTRA.size
_UTF8 = 0x800
_DATE = 0x21  # 1980-01-01: equal content gives equal files


class ZipFormatError(ValueError):
    """The bytes are not a whole archive of stored entries."""


class Entry(NamedTuple):
    """Where one entry and its data lie in the file, and the zip CRC32 of the data."""

    offset: int
    size: int
    crc32: int
    start: int  # of the local header


class StoredZipWriter:
    """Writes entries one after another to an open descriptor and keeps the CRC32C of the whole file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._central: list[bytes] = []
        self.bytes = 0
        self.crc32c = 0

    def add(self, name: str, buffers: list[Any]) -> None:
        """Append an entry made of ``buffers`` in order."""
        path = name.encode()
        crc, size = 0, 0
        for buffer in buffers:
            crc, size = zlib.crc32(buffer, crc), size + len(buffer)
        start = self.bytes
        padding = -(start + _LOCAL.size + len(path) + _EXTRA.size) % ALIGNMENT
        extra = _EXTRA.pack(0xD935, 2 + padding, ALIGNMENT) + bytes(padding)
        if start + size + len(extra) > MAX_BYTES - 2**20:
            raise ZipFormatError(f"entry '{name}' would take the file over {MAX_BYTES} bytes")
        common = (20, _UTF8, 0, 0, _DATE, crc, size, size, len(path))
        self._write([_LOCAL.pack(b"PK\3\4", *common, len(extra)), path, extra, *buffers])
        self._central.append(_CENTRAL.pack(b"PK\1\2", 20, *common, 0, 0, 0, 0, 0, start) + path)

    def close(self) -> None:
        """Write the directory; the descriptor stays open."""
        start, content = self.bytes, b"".join(self._central)
        count = len(self._central)
        self._write([content, _END.pack(b"PK\5\6", 0, 0, count, count, len(content), start, 0)])

    def _write(self, buffers: list[Any]) -> None:
        for buffer in buffers:
            self.crc32c = crc32c(buffer, self.crc32c)
        self.bytes += write_all(self._descriptor, buffers)


def read_directory(content: Any) -> dict[str, Entry]:
    """Entries of the archive in the buffer ``content``; raises ZipFormatError when it is not a whole one of ours."""
    size = len(content)
    if size < _END.size or content[size - _END.size : size - _END.size + 4] != b"PK\5\6":
        raise ZipFormatError("no end of a zip directory: the file is truncated or no zip")
    _, _, _, _, count, length, start, _ = _END.unpack_from(content, size - _END.size)
    if start + length + _END.size != size:
        raise ZipFormatError("the zip directory does not lie where the file says")
    return _directory_entries(content[start : start + length], count, start)


def local_name(content: Any, entry: Entry, size: int) -> bytes:
    """The first ``size`` bytes of the name that stands before the data; the directory alone has no checksum."""
    return content[entry.start + _LOCAL.size : entry.start + _LOCAL.size + size]


def _directory_entries(directory: bytes, count: int, limit: int) -> dict[str, Entry]:
    entries, position, fixed = {}, 0, _CENTRAL.size
    for _ in range(count):
        if position + fixed > len(directory):
            raise ZipFormatError("the zip directory ends early")
        field = _CENTRAL.unpack_from(directory, position)
        magic, _, _, _, method, _, _, crc, stored, size, name_length, extra, comment, _, _, _, start = field
        if magic != b"PK\1\2" or method != 0 or stored != size:
            raise ZipFormatError("the zip directory holds an entry that is damaged or compressed")
        name = directory[position + fixed : position + fixed + name_length].decode()
        position += fixed + name_length + extra + comment
        # The local header repeats the name and pads to the alignment: its place follows from what is known here.
        offset = start + _BEFORE_PADDING + name_length
        offset += -offset % ALIGNMENT
        if offset + size > limit:
            raise ZipFormatError(f"entry {name!r} reaches outside the file")
        entries[name] = Entry(offset, size, crc, start)
    return entries
