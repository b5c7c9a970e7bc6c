"""The index of a dataset: one checksummed line per episode file. A cache: the files are the truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot_rl.data.episode_id import new_id
from robot_rl.data.line_log import append_lines, read_lines, rewrite_lines

_OWN = (
    "schema",
    "schema_version",
    "id",
    "length",
    "rows",
    "success",
    "success_step",
)  # fields of their own, or known to all
_MAX_TEXT = 256


@dataclass(frozen=True)
class EpisodeInfo:
    """One episode as the index knows it, annotations applied."""

    id: str
    file: str  # relative to the root of the store
    bytes: int
    crc32c: int  # of the whole file
    length: int  # control steps
    rows: int  # length + 1: the final observation included
    success: bool | None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # scalars of the file's attributes: task, source, ...
    success_step: int | None = None  # relabelled, here or before an import: the control step that succeeded
    exclude: bool = False
    split: str = ""
    note: str = ""

    @property
    def task(self) -> str:
        return str(self.metadata.get("task", ""))


def info_from_attributes(
    attributes: Mapping[str, Any], *, file: str, size: int, crc32c: int, cameras: Mapping[str, int]
) -> EpisodeInfo:
    """The index entry of an episode file with these root attributes; ``cameras`` are frames per camera."""
    summary = {key: value for key, value in attributes.items() if key not in _OWN and _is_short(value)}
    return EpisodeInfo(
        id=attributes["id"],
        file=file,
        bytes=size,
        crc32c=crc32c,
        length=attributes["length"],
        rows=attributes["rows"],
        success=attributes.get("success"),
        metadata={**summary, "cameras": dict(cameras)},
        success_step=attributes.get("success_step"),
    )


class EpisodeIndex:
    """``index.jsonl``: read incrementally, appended by any number of processes, rebuilt from the files at will."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._infos: dict[str, EpisodeInfo] = {}
        self._position, self._head = 0, b""

    @property
    def infos(self) -> Mapping[str, EpisodeInfo]:
        """Entries by id as last read; the last line of an id counts."""
        return self._infos

    def refresh(self) -> None:
        """Read what was appended since; everything when the file was replaced. Torn and damaged lines are left out.

        A replaced file is told by its first line, which is unique: the number of a file (inode) is soon given again.
        """
        head, size = _first_line(self._path)
        if head != self._head or size < self._position:
            self._infos, self._position, self._head = {}, 0, head
        records, self._position = read_lines(self._path, self._position)
        for record in records:
            info = _from_record(record)
            if info is not None:
                self._infos[info.id] = info

    def append(self, infos: Iterable[EpisodeInfo]) -> None:
        """Add entries durably."""
        append_lines(self._path, [_to_record(info) for info in infos])
        self.refresh()

    def rewrite(self, make: Callable[[], Iterable[EpisodeInfo]]) -> None:
        """Replace all entries at once by what ``make`` returns while other processes wait."""
        rewrite_lines(self._path, lambda: [{"made_anew": new_id()}, *(_to_record(info) for info in make())])
        self.refresh()


def _first_line(path: Path) -> tuple[bytes, int]:
    """The first line of a file and its size; nothing and 0 when there is none."""
    try:
        with path.open("rb") as file:
            return file.readline(), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return b"", 0


def _is_short(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _MAX_TEXT)


def _to_record(info: EpisodeInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "file": info.file,
        "bytes": info.bytes,
        "crc32c": f"{info.crc32c:08x}",
        "length": info.length,
        "rows": info.rows,
        "success": info.success,
        "success_step": info.success_step,
        "metadata": dict(info.metadata),
    }


def _from_record(record: Mapping[str, Any]) -> EpisodeInfo | None:
    """None for a line that is whole but not ours (a newer kind of line)."""
    try:
        return EpisodeInfo(**{**record, "crc32c": int(record["crc32c"], 16)})
    except (TypeError, KeyError, ValueError):
        return None
