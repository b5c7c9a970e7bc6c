"""Transitions of several sources as one: demonstrations and corrections, committed episodes and running ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robot_rl.data.frames import ImageOptions
from robot_rl.data.live import LiveEpisodes, LiveInfo
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.replay_index import HUMAN
from robot_rl.data.sampling import Stream
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import StoreError
from robot_rl.types import Array, ReplayView

FLAG = "flags/intervention"


class _AsRead:
    """Running episodes as an EpisodeSource that stands still until somebody reads on in ``live``."""

    def __init__(self, live: LiveEpisodes) -> None:
        self.infos, self.read = live.infos, live.read

    def refresh(self) -> None:
        """Nothing: an episode must not vanish from here between two looks at those that are committed."""


class SessionReplay:
    """Transitions of the episodes of a running session: those committed, then those that grow.

    An episode keeps its place when it is committed, so that nothing is drawn twice or lost between. ``live`` is shared
    by all views of a session.
    """

    def __init__(
        self,
        store: EpisodeStore,
        live: LiveEpisodes,
        view: ReplayView,
        *,
        images: ImageOptions | None = None,
    ) -> None:
        self.committed = ReplaySampler(store, view, batch=1, images=images)
        self._live, self._revision, self._rows = live, -1, -1
        self._store, self._unseen_steps = store, 0
        self.growing = ReplaySampler(_AsRead(live), view, batch=1, images=images, where=self._runs)
        self.parts = (self.committed, self.growing)

    def _runs(self, info: LiveInfo) -> bool:
        return info.id not in self.committed.episodes

    @property
    def head(self) -> int:
        """Rows visible, final ones included."""
        return sum(part.head for part in self.parts)

    @property
    def steps(self) -> int:
        """Control steps received whose outcome is known; discarded ones count, they were received."""
        return self._unseen_steps + sum(part.head - len(part.episodes) for part in self.parts)

    @property
    def human_steps(self) -> int:
        """Steps in which a person had the arm."""
        return sum(int((part.table[FLAG][: part.head] == HUMAN).sum()) for part in self.parts if part.head)

    @property
    def newest_version(self) -> int:
        """Of the weights that made the newest step."""
        for part in reversed(self.parts):
            if part.head:
                return int(part.table["policy/version"][: part.head].max())
        return 0

    def refresh(self) -> None:
        """Take in new rows, episodes and labels."""
        self._live.refresh()  # first: what is committed in between is then in both, not in neither
        self.committed.refresh()
        seen, gone = set(self.committed.episodes), self._store.deleted()
        left_out = [*gone, *self._store.infos(lambda info: info.exclude, excluded=True)]
        self._unseen_steps = sum(info.length for info in left_out if info.id not in seen)
        self._revision, self._rows = self._live.revision, self._live.rows
        self.growing.reload()

    def follow(self) -> None:
        """Take in new rows; episodes and labels only where a journal came or went."""
        self._live.refresh()
        if self._live.revision != self._revision:
            self.refresh()
        elif self._live.rows != self._rows:
            self._rows = self._live.rows
            self.growing.reload()


class SessionSuccesses:
    """Transitions of those committed episodes of a running session that were successes. ``live`` tells when there may
    be another."""

    def __init__(
        self, store: EpisodeStore, live: LiveEpisodes, view: ReplayView, *, images: ImageOptions | None = None
    ) -> None:
        self.committed = ReplaySampler(store, view, batch=1, images=images, where=lambda info: bool(info.success))
        self.parts = (self.committed,)
        self._live, self._revision = live, -1

    def refresh(self) -> None:
        """Take in episodes and labels."""
        self.committed.refresh()
        self._revision = self._live.revision

    def follow(self) -> None:
        """Take in episodes where a journal came or went; the session's own replay reads the journals."""
        if self._live.revision != self._revision:
            self.refresh()


class ReplayUnion:
    """Batches drawn uniformly from the transitions of several samplers, all of one shape.

    ``batch(step)`` is a pure function of (what was visible at the last refresh, seed, step), as ReplaySampler's.
    """

    def __init__(
        self,
        fixed: Sequence[ReplaySampler],
        sessions: Sequence[SessionReplay | SessionSuccesses],
        *,
        batch: int,
        seed: int = 0,
    ) -> None:
        self.batch_size, self.seed = batch, seed
        self._sessions = list(sessions)
        self._gathered: dict[str, Array] = {}
        self._room_for = 0
        self._parts = [*fixed, *(part for session in sessions for part in session.parts)]

    def __len__(self) -> int:
        """Transitions."""
        return sum(len(part) for part in self._parts)

    def follow(self) -> None:
        """Take in new rows of the sessions."""
        for session in self._sessions:
            session.follow()

    def refresh(self) -> None:
        """Take in new rows, episodes and labels of the sessions."""
        for session in self._sessions:
            session.refresh()

    def allocate(self, count: int) -> dict[str, Array]:
        """Arrays that ``take`` of ``count`` transitions fills. Raises StoreError when there is nothing."""
        for part in self._parts:
            if len(part):
                return part.allocate(count)
        raise StoreError("there is no transition yet", remedy="Wait until an actor has made a step")

    def batch(self, step: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Batch number ``step`` as ReplaySampler gives it, into ``out`` when given; ``episode`` counts within its
        source. Raises StoreError when there is nothing."""
        return self.take(step * self.batch_size, self.batch_size, out)

    def take(self, first: int, count: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Transitions number ``first`` ... ``first + count - 1`` of the endless stream, into ``out`` when given."""
        filled = self.allocate(count) if out is None else dict(out)
        borders = np.cumsum([0, *(len(part) for part in self._parts)])
        chosen = Stream(int(borders[-1]), self.seed).at(np.arange(first, first + count))
        of_part = np.searchsorted(borders, chosen, side="right") - 1
        order = np.argsort(of_part, kind="stable")  # one part's behind the other's
        starts = np.searchsorted(of_part[order], np.arange(len(self._parts) + 1))
        gathered = self._room(count)
        for number, part in enumerate(self._parts):
            place = slice(starts[number], starts[number + 1])
            if place.start < place.stop:
                wanted = chosen[order[place]] - borders[number]
                part.gather(wanted, {key: value[place] for key, value in gathered.items()})
        for key, value in gathered.items():
            filled[key][order] = value
        return filled

    def _room(self, count: int) -> dict[str, Array]:
        """Arrays for ``count`` transitions, the same ones every time."""
        if count != self._room_for:
            self._gathered, self._room_for = self.allocate(count), count
        return self._gathered
