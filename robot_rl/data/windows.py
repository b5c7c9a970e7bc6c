"""Windows of episodes for imitation: random access, batched gather, no worker processes.

A window around row t takes, for each key, the rows t + offset. Rows whose action is not valid cut an episode: which
windows there are, and which actions they repeat, is counted from the cuts. Observations are real on both sides of a cut
and in the final row, so those are read as they are and repeated only beyond the ends of the episode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.data import aligned
from robot_rl.data.episode import Episode
from robot_rl.data.frames import ImageOptions, Images
from robot_rl.data.replay_index import ROW_KEYS
from robot_rl.data.sampling import EpisodeWeights, Stream, table_weights
from robot_rl.data.tables import EpisodeSource, EpisodeTable, as_source
from robot_rl.errors import ConfigError, StoreError
from robot_rl.types import Array, Offsets, Pad, WindowSpec

# Facts about the step from t to t + 1: they do not exist in the final row, so windows never read them there.
STEP_PREFIXES = ("action/", "rl/", "flags/", "time/action_sent_ns")


def is_step_key(key: str) -> bool:
    """Whether an array tells of the step from t to t + 1 rather than of the moment t."""
    return key.startswith(STEP_PREFIXES)


@dataclass(frozen=True)
class Segments:
    """Maximal runs of rows whose action is valid, [S] each, in rows of the table; both ends included."""

    first: Array
    last: Array
    episode: Array

    @staticmethod
    def of(acting: Array, first_row: Array) -> Segments:
        """Segments of ``acting`` bool [R]; they never cross an episode border ``first_row`` [E + 1]."""
        starts = acting.copy()
        starts[1:] &= ~acting[:-1]
        borders = first_row[:-1][first_row[:-1] < len(acting)]
        starts[borders] = acting[borders]
        ends = acting.copy()
        ends[:-1] &= ~acting[1:] | starts[1:]
        first = np.flatnonzero(starts)
        return Segments(first, np.flatnonzero(ends), np.searchsorted(first_row, first, side="right") - 1)


@dataclass(frozen=True)
class WindowIndex:
    """Every window there is, [W]: its row t (may lie before the first row when padded) and its segment."""

    row: Array
    segment: Array

    @staticmethod
    def of(segments: Segments, spec: WindowSpec) -> WindowIndex:
        """Windows whose span [t + lowest offset, t + highest offset] leaves its segment by at most the padding."""
        before, after = (0, 0) if spec.pad is Pad.DROP else (spec.pad_before, spec.pad_after)
        lowest = min(offsets.start for offsets in spec.keys.values())
        highest = max(offsets.start + (offsets.length - 1) * offsets.stride for offsets in spec.keys.values())
        start = segments.first - before - lowest
        count = np.maximum(segments.last + after - highest - start + 1, 0)
        segment = np.repeat(np.arange(len(count)), count)
        place = np.arange(len(segment)) - np.repeat(np.cumsum(count) - count, count)
        return WindowIndex(start[segment] + place, segment)


@dataclass(frozen=True)
class _Snapshot:
    """What a batch is drawn from; replaced as a whole."""

    first: Array  # [E + 1] first row of each episode, and the total
    segments: Segments
    index: WindowIndex
    stream: Stream

    def bounds(self, segment: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """First and last acting row, first and last row of the episode, [M, 1] each, of segments [M]."""
        episode = self.segments.episode[segment]
        acting = self.segments.first[segment][:, None], self.segments.last[segment][:, None]
        return acting, (self.first[episode][:, None], self.first[episode + 1][:, None] - 1)


class WindowSampler:
    """Batches of windows over an EpisodeStore, or over episodes in memory.

    Args:
        source: the store, or an iterable of Episode.
        spec: keys ({array path or images/<camera>: Offsets}) and padding. With DROP, pad_before and pad_after are 0.
        batch: windows per batch.
        seed: of the order; each epoch of ``len(self)`` windows has a permutation of its own.
        weights: None, 'return', an array per episode or a function of the episode's summary; then windows are drawn
            with replacement, each in proportion to the weight of its episode.
        where: keeps the episodes for which it is true of the summary (task, split, success ...).
        images: resolution, crop and tier of the decoded frames.
        allow_empty: accept a source without a window now, to be refreshed later.

    Raises:
        EpisodeError: an episode lacks a key or differs in shape. StoreError: no window fits.
    """

    def __init__(
        self,
        source: EpisodeSource | Iterable[Episode],
        spec: WindowSpec,
        *,
        batch: int,
        seed: int = 0,
        weights: EpisodeWeights = None,
        where: Callable[[Any], bool] | None = None,
        images: ImageOptions | None = None,
        allow_empty: bool = False,
    ) -> None:
        if not spec.keys or batch < 1 or any(offsets.length < 1 for offsets in spec.keys.values()):
            raise ConfigError("a window needs a batch size, keys and offsets of at least one row each")
        if min(spec.pad_before, spec.pad_after) < 0:
            raise ConfigError("padding is negative", limit="pad_before and pad_after of at least 0")
        self.spec, self.batch_size, self.seed = spec, batch, seed
        self._source, self._where, self._weights = as_source(source), where, weights
        cameras = [key.removeprefix("images/") for key in spec.keys if key.startswith("images/")]
        self._low_dim = {key: offsets for key, offsets in spec.keys.items() if not key.startswith("images/")}
        self.table = EpisodeTable([*self._low_dim, *ROW_KEYS], cameras)
        root = getattr(self._source, "root", None)
        self.images = Images(self.table, images or ImageOptions(), root) if cameras else None
        self._mask_key = _mask_key(spec)
        self._snapshot = self._take_snapshot()
        self.refresh()
        if not len(self) and not allow_empty:
            raise self._nothing_fits()

    def __len__(self) -> int:
        """Windows in the snapshot."""
        return len(self._snapshot.index.row)

    @property
    def episodes(self) -> list[str]:
        """Episode ids; ``episode`` of a batch counts into them."""
        return self.table.ids

    def refresh(self) -> int:
        """Take in episodes committed since; returns how many. Between two calls the snapshot does not change."""
        known = self.table.revision
        new = self.table.update(self._source, self._where)
        if known != self.table.revision:
            if self.images is not None:
                self.images.refresh()
            self._snapshot = self._take_snapshot()
        return new

    def _take_snapshot(self) -> _Snapshot:
        first = self.table.first
        acting = self.table["action_valid"] if self.table.rows else np.zeros(0, dtype=bool)
        segments = Segments.of(acting & np.repeat(self.table.listed, np.diff(first)), first)
        index = WindowIndex.of(segments, self.spec)
        weights = table_weights(self.table, self._weights)
        cumulative = None if weights is None else np.cumsum(weights[segments.episode[index.segment]])
        return _Snapshot(first, segments, index, Stream(len(index.row), self.seed, cumulative))

    def allocate(self, count: int | None = None) -> dict[str, Array]:
        """Arrays that ``take`` of ``count`` windows (default: a batch) fills; reuse them to spare allocation."""
        if not self.table.ids:
            raise self._nothing_fits()
        count = self.batch_size if count is None else count
        out: dict[str, Array] = {}
        for key, offsets in self.spec.keys.items():
            if key.startswith("images/") and self.images is not None:
                camera = key.removeprefix("images/")
                shape, dtype = self.images.shape(camera), self.images.dtype(camera)
            else:
                shape, dtype = self.table[key].shape[1:], self.table[key].dtype
            out[key] = aligned.zeros((count, offsets.length, *shape), dtype)
        out["mask"] = np.ones((count, self.spec.keys[self._mask_key].length), dtype=bool)
        out["episode"] = np.zeros(count, dtype=np.int64)
        out["row"] = np.zeros(count, dtype=np.int64)
        return out

    def batch(self, step: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Batch number ``step``, a pure function of (snapshot, seed, step).

        Returns {key: [B, L, ...]} with images [B, L, h, w, c] as uint8 (depth as uint16 mm), ``mask`` [B, L of the
        action] (False where Pad.MASK padded), ``episode`` [B] into ``episodes``, ``row`` [B], t within its episode.
        """
        return self.take(step * self.batch_size, self.batch_size, out)

    def take(self, first: int, count: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Windows number ``first`` ... ``first + count - 1`` of the endless stream, into ``out`` when given."""
        if not len(self):
            raise self._nothing_fits()
        snapshot = self._snapshot  # read once: a prefetch thread goes on while another refreshes
        return self._gather(snapshot, snapshot.stream.draw(first, count), out)

    def gather(self, windows: Array, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """The windows with these numbers, int64 [M] below ``len(self)``, in order of episode and row."""
        return self._gather(self._snapshot, windows, out)

    def prepare(self, step: int, count: int | None = None) -> None:
        """Have the kernel start reading the cached frames of batch ``step``, where they do not all fit the memory."""
        if self.images is None or not self.images.cold or not len(self):
            return
        snapshot = self._snapshot
        count = self.batch_size if count is None else count
        windows = snapshot.stream.draw(step * count, count)
        t = snapshot.index.row[windows]
        _, whole = snapshot.bounds(snapshot.index.segment[windows])
        for camera, frames in self._frames(t, whole).items():
            self.images.will_need(camera, frames)

    def _gather(self, snapshot: _Snapshot, windows: Array, out: Mapping[str, Array] | None) -> dict[str, Array]:
        filled = self.allocate(len(windows)) if out is None else dict(out)
        t, segment = snapshot.index.row[windows], snapshot.index.segment[windows]
        acting, whole = snapshot.bounds(segment)
        with self._reading(self._frames(t, whole), filled):
            rows: dict[tuple[Offsets, bool], Array] = {}
            for key, offsets in self._low_dim.items():
                place = offsets, is_step_key(key)
                if place not in rows:
                    rows[place] = np.clip(_rows(t, offsets), *(acting if place[1] else whole))
                np.take(self.table[key], rows[place], axis=0, out=filled[key], mode="clip")
            if self.spec.pad is Pad.MASK:
                asked = _rows(t, self.spec.keys[self._mask_key])
                np.logical_and(asked >= acting[0], asked <= acting[1], out=filled["mask"])
            else:
                filled["mask"].fill(True)
            filled["episode"][:] = snapshot.segments.episode[segment]
            np.subtract(t, whole[0][:, 0], out=filled["row"])
        return filled

    def _frames(self, t: Array, whole: tuple[Array, Array]) -> dict[str, Array]:
        """Numbers of the frames [B, L] that each camera shows in windows around ``t`` [B]."""
        return {
            camera: self.table[f"images/{camera}"][np.clip(_rows(t, self.spec.keys[f"images/{camera}"]), *whole)]
            for camera in self.table.cameras
        }

    def _reading(self, frames: Mapping[str, Array], out: Mapping[str, Array]) -> AbstractContextManager[None]:
        """These frames are in ``out`` at the end of the block."""
        if self.images is None:
            return nullcontext()
        return self.images.reading([(camera, numbers, out[f"images/{camera}"]) for camera, numbers in frames.items()])

    def _nothing_fits(self) -> StoreError:
        if not self.table.ids:
            return StoreError("the dataset has no episode to draw windows from", remedy="Record or import one first")
        segments = self._snapshot.segments
        lengths = segments.last - segments.first + 1
        return StoreError(
            f"no window fits: the longest of {len(self.table.ids)} episodes acts for {lengths.max(initial=0)} steps",
            limit=f"windows of {_span(self.spec)} steps, less padding of {self.spec.pad_before} before and "
            f"{self.spec.pad_after} after",
            remedy="Record longer episodes, shorten the horizon, or pad more",
        )


def _rows(t: Array, offsets: Offsets) -> Array:
    return t[:, None] + np.arange(offsets.start, offsets.stop, offsets.stride)


def _span(spec: WindowSpec) -> int:
    return max(offsets.stop for offsets in spec.keys.values()) - min(offsets.start for offsets in spec.keys.values())


def _mask_key(spec: WindowSpec) -> str:
    """The key ``mask`` is about: the longest action, else the longest key."""
    actions = [key for key in spec.keys if is_step_key(key)] or list(spec.keys)
    return max(actions, key=lambda key: spec.keys[key].length)
