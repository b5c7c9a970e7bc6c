"""Episodes while they grow: journals of a store read as far as they are whole, so that learners see a step at once.

A row counts once its successor exists: the newest row of a running episode is an observation only. Committed episodes
take over where their journals end; nothing is in both (robot_rl.data.replay_union sees to it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl.data.episode import Episode
from robot_rl.data.record_tail import RecordTail
from robot_rl.data.recording import Recording, growing_episode, take_record
from robot_rl.data.row_layout import RowLayout
from robot_rl.errors import RobotRlError, StoreError
from robot_rl.types import ArraySpec, EnvSpec

SUFFIXES = (".journal", ".remote")  # recorded here, and arriving from an actor


@dataclass(frozen=True)
class LiveInfo:
    """EpisodeSummary of an episode that has not ended: nobody has judged it."""

    id: str
    rows: int
    crc32c: int = 0
    success: bool | None = None
    success_step: int | None = None


class JournalTail:
    """One growing journal, read from where the last reading stopped. Raises SchemaVersionError for a newer one."""

    def __init__(self, path: Path) -> None:
        self.records = RecordTail(path)
        self.recording: Recording | None = None
        self._layout: RowLayout | None = None
        self._spec: EnvSpec | None = None

    @property
    def rows(self) -> int:
        """Whole rows so far."""
        return 0 if self.recording is None else len(self.recording.rows)

    def advance(self) -> bool:
        """Take in what was appended; whether there was a whole record. A file that is gone has nothing more to say."""
        records = self.records.advance()
        for record in records:
            self.recording = take_record(self.recording, record)
        return bool(records)

    def episode(self) -> Episode:
        """What there is, as an episode whose last row is the newest observation. Raises StoreError before a row."""
        recording = self.recording
        if recording is None or not recording.rows:
            raise StoreError(f"{self.records.path.name} holds no row yet")
        if self._layout is None or self._spec is None:
            begin = recording.begin
            self._spec = EnvSpec.from_json(begin["spec"])
            extras = {name: ArraySpec(**{**s, "shape": tuple(s["shape"])}) for name, s in begin["extras"].items()}
            self._layout = RowLayout(self._spec, extras)
        return growing_episode(recording, self._spec, self._layout)


class LiveEpisodes:
    """The running episodes below ``root``/journal as an EpisodeSource; a journal that cannot be read is left out.

    ``revision`` grows when a journal comes or goes, ``rows`` when one grows.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "journal"
        self._tails: dict[str, JournalTail] = {}
        self._bad: set[Path] = set()
        self.revision = 0

    @property
    def rows(self) -> int:
        """Whole rows of all running episodes."""
        return sum(tail.rows for tail in self._tails.values())

    def refresh(self) -> None:
        """Read what was appended since."""
        found = {path.stem: path for path in sorted(self._folder.iterdir()) if path.suffix in SUFFIXES}
        if found.keys() != self._tails.keys():
            kept = {id: self._tails.get(id) or JournalTail(path) for id, path in found.items()}
            self._tails, self.revision = kept, self.revision + 1
        for id, tail in self._tails.items():
            tail.records.path = found[id]  # the store may rename an arriving journal when it has ended
            self._advance(tail)

    def _advance(self, tail: JournalTail) -> None:
        if tail.records.path in self._bad:
            return
        try:
            tail.advance()
        except RobotRlError:  # of a newer software; opening the store tells of it
            self._bad.add(tail.records.path)

    def infos(self, where: Callable[[Any], bool] | None = None) -> list[LiveInfo]:
        """Summaries of the running episodes that hold a transition, in order of id."""
        infos = [LiveInfo(id, tail.rows) for id, tail in self._tails.items() if tail.rows > 1]
        return [info for info in infos if where is None or where(info)]

    def read(self, id: str) -> Episode:
        """The episode so far. Raises StoreError for one that does not run."""
        if id not in self._tails:
            raise StoreError(f"no running episode '{id}' in {self._folder}")
        return self._tails[id].episode()
