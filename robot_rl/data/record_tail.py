"""A journal that grows, read from where the last reading stopped."""

from __future__ import annotations

from pathlib import Path

from robot_rl.data.journal import Record, scan_records


class RecordTail:
    """Whole records of the journal at ``path``, each once. The path may change: the store renames journals."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = self._sequence = 0

    def advance(self) -> list[Record]:
        """What was appended since; nothing when the file is gone."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = memoryview(file.read())
        except FileNotFoundError:
            return []
        records, begun = [], self._offset
        for record, end in scan_records(content, self._sequence):
            records.append(record)
            self._sequence, self._offset = record.sequence + 1, begun + end
        return records
