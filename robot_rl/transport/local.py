"""Actor and learner in one process: they share one store, so nothing is shipped. One object is both ends.

What ``arrivals`` tells depends on what is in the store's files alone: where the recorder is flushed before it is asked
(lockstep), equal runs are told the same.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from robot_rl.data.record_tail import RecordTail
from robot_rl.errors import ConfigError
from robot_rl.interfaces import Arrivals, PeerStatus, Report, Signal, Weights
from robot_rl.transport.notes import check_edits
from robot_rl.transport.roll import taken
from robot_rl.transport.weights import copied
from robot_rl.types import EMPTY, Arrays

if TYPE_CHECKING:
    from robot_rl.data.store import EpisodeStore


class LocalTransport:
    """ActorTransport and LearnerTransport over ``store``, which actor and learner share."""

    def __init__(self, store: EpisodeStore, *, name: str = "local") -> None:
        self.name = name
        self._store = store
        self._index_bytes = -1
        self._known = set(store.ids(excluded=True))
        self._running: dict[str, _RowCount] = {}
        self._counted: dict[str, int] = {}
        self._said = Arrivals()  # edits and reports
        self._news = threading.Event()
        self._weights: Weights | None = None
        self._signals: deque[Signal] = deque(maxlen=1024)
        self._signal_count = 0

    # --- the actor's end --------------------------------------------------------------------------------------------

    def latest(self) -> Weights | None:
        """The newest acting state, None before the first."""
        return self._weights

    def signals(self) -> list[Signal]:
        """What the learner told since the last call."""
        return taken(self._signals)

    def annotate(self, episode: str, edits: Mapping[str, Any]) -> None:
        """Say something about an episode that has ended. Raises ConfigError, and StoreError when it is not there."""
        check_edits(edits)
        others = {name: value for name, value in edits.items() if name != "deleted"}
        if others:
            self._store.annotate(episode, **others, who=self.name)
        if edits.get("deleted"):
            self._store.delete(episode, who=self.name)
        self._said += Arrivals(edited=(episode,))
        self._news.set()

    def report(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Tell the learner something."""
        self._said += Arrivals(reports=(Report(kind, dict(payload)),))
        self._news.set()

    def delivered(self) -> list[str]:
        """None: there is one copy of each episode."""
        return []

    def wait(self, timeout_s: float) -> None:
        """Wait for what one end tells the other, at most so long; rows are not told, they are in the store."""
        if self._news.wait(timeout_s):
            self._news.clear()

    def status(self) -> PeerStatus:
        """The learner, which is always there and never behind."""
        return PeerStatus("learner", 0.0, None if self._weights is None else self._weights.version)

    # --- the learner's end ------------------------------------------------------------------------------------------

    def arrivals(self) -> Arrivals:
        """What has come into the store's files since the last call."""
        steps = self._running_steps()
        committed = self._new_episodes()
        for id, length in committed.items():
            steps += length - self._counted.pop(id, 0)
        for id in [id for id in self._running if not self._running[id].there()]:  # discarded
            del self._running[id], self._counted[id]
        said, self._said = self._said, Arrivals()
        return Arrivals(steps, tuple(committed)) + said

    def publish(self, version: int, tensors: Arrays, meta: Mapping[str, Any] = EMPTY) -> None:
        """Offer an acting state, copied here. Raises ConfigError unless versions rise."""
        if self._weights is not None and version <= self._weights.version:
            raise ConfigError(f"version {version} was published after {self._weights.version}", limit="rising versions")
        self._weights = copied(version, tensors, meta)
        self._news.set()

    def signal(self, kind: str, payload: Mapping[str, Any] = EMPTY, *, actor: str = "", keep: bool = False) -> None:
        """Tell the actor, unless another one is named."""
        if actor in ("", self.name):
            self._signals.append(Signal(f"{self.name}-{self._signal_count}", kind, dict(payload)))
            self._signal_count += 1
            self._news.set()

    def actors(self) -> Sequence[PeerStatus]:
        """The one actor."""
        return [PeerStatus(self.name, 0.0, None if self._weights is None else self._weights.version)]

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _running_steps(self) -> int:
        """Control steps that running episodes have grown by."""
        steps = 0
        for path in sorted((self._store.root / "journal").glob("*.journal")):
            count = self._running.setdefault(path.stem, _RowCount(path))
            found = max(count.advance() - 1, 0)
            steps += found - self._counted.get(path.stem, 0)
            self._counted[path.stem] = found
        return steps

    def _new_episodes(self) -> dict[str, int]:
        """Ids of episodes that have become files, with their control steps."""
        index = self._store.root / "index.jsonl"
        size = index.stat().st_size if index.exists() else 0
        if size == self._index_bytes:
            return {}
        self._index_bytes = size
        self._store.refresh()
        infos = [info for info in self._store.infos(excluded=True) if info.id not in self._known]
        for info in infos:
            self._known.add(info.id)
            self._running.pop(info.id, None)
        return {info.id: max(info.rows - 1, 0) for info in infos}


class _RowCount:
    """How many rows a growing journal holds."""

    def __init__(self, path: Path) -> None:
        self._records = RecordTail(path)
        self._rows = 0

    def there(self) -> bool:
        """Whether the journal is still there."""
        return self._records.path.exists()

    def advance(self) -> int:
        """Rows so far."""
        self._rows += sum(record.header.get("kind") == "row" for record in self._records.advance())
        return self._rows
