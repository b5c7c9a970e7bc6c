"""Edits of a dataset by episode id: an append-only log, since episode files never change. The last word counts."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from robot_rl.data.index import EpisodeInfo
from robot_rl.data.line_log import append_lines, encode_line, read_lines

FIELDS = ("success", "success_step", "exclude", "split", "task", "note", "deleted")


class AnnotationLog:
    """``annotations.jsonl``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._merged: dict[str, dict[str, Any]] = {}

    @property
    def bytes(self) -> int:
        """Size of the log, which grows with every edit, whoever makes it."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def refresh(self) -> None:
        """Read what was appended since."""
        records, self._position = read_lines(self._path, self._position)
        for record in records:
            edits = {key: record[key] for key in FIELDS if key in record}
            self._merged.setdefault(str(record.get("id", "")), {}).update(edits)

    def append(self, episode: str, edits: Mapping[str, Any], who: str = "") -> None:
        """Add edits of one episode durably, with the time and who made them (default: the login name)."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        append_lines(self._path, [{"id": episode, **edits, "who": who or _login(), "when": when}])
        self.refresh()

    def append_missing(self, other: AnnotationLog) -> None:
        """Add the lines of ``other`` that are not here, as they are."""
        known = {encode_line(record) for record in read_lines(self._path)[0]}
        append_lines(self._path, [record for record in read_lines(other._path)[0] if encode_line(record) not in known])
        self.refresh()

    def of(self, episode: str) -> Mapping[str, Any]:
        """What was said about an episode, last word first."""
        return self._merged.get(episode, {})

    def apply(self, info: EpisodeInfo) -> EpisodeInfo:
        """``info`` with its annotations."""
        edits = self._merged.get(info.id)
        if not edits:
            return info
        changes = {key: edits[key] for key in ("success", "success_step", "exclude", "split", "note") if key in edits}
        if "task" in edits:
            changes["metadata"] = {**info.metadata, "task": edits["task"]}
        return replace(info, **changes)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
