"""Camera frames of stored episodes with what they show, for a success classifier. Annotations are obeyed.

The frames up to and including the one that brought the success show it, those before show it not yet, and in failed
episodes none does. Episodes that nobody judged, and what follows a success, say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from robot_rl.data.checksum import crc32c
from robot_rl.data.frames import ImageOptions, Images
from robot_rl.data.replay_index import ROW_KEYS, Steps
from robot_rl.data.sampling import Stream
from robot_rl.data.tables import EpisodeSource, EpisodeTable
from robot_rl.errors import ConfigError, StoreError
from robot_rl.types import Array

SUCCESS, NOT_YET, UNKNOWN = 1, 0, -1


class LabelledFrames:
    """Batches of frames, half of them successes.

    Args:
        source: an EpisodeStore; ``where`` selects among its episodes.
        cameras, states: names of what a classifier reads; ``states`` as in EnvSpec.observation.
        positives: frames of a success, the last of them the one that brought it.
        unsure: frames before those that are not drawn: nearly there.
    """

    def __init__(
        self,
        source: EpisodeSource,
        cameras: Sequence[str],
        *,
        batch: int,
        seed: int = 0,
        states: Sequence[str] = (),
        positives: int = 3,
        unsure: int = 3,
        images: ImageOptions | None = None,
        where: Callable[[Any], bool] | None = None,
    ) -> None:
        if batch < 2 or positives < 1 or unsure < 0:
            raise ConfigError(f"batch={batch}, positives={positives}, unsure={unsure}", limit="at least 2, 1 and 0")
        self.table = EpisodeTable([*ROW_KEYS, *(f"obs/{name}" for name in states)], cameras)
        self.table.update(source, where)
        if not self.table.ids:
            raise StoreError("no episode to take frames from", remedy="Record successes and failures first")
        self.batch_size = batch
        self.labels = frame_labels(self.table, positives, unsure)
        self._images = Images(self.table, images or ImageOptions(), getattr(source, "root", None))
        self._images.refresh()
        self._rows = {label: np.flatnonzero(self.labels == label) for label in (SUCCESS, NOT_YET)}
        for label, name in ((SUCCESS, "success"), (NOT_YET, "anything else")):
            if not len(self._rows[label]):
                raise StoreError(f"no frame shows {name}", remedy="Record both, judged: keep_failures=true keeps them")
        self._streams = {label: Stream(len(rows), seed + label) for label, rows in self._rows.items()}

    def __len__(self) -> int:
        """Labelled frames."""
        return int((self.labels != UNKNOWN).sum())

    def batch(self, step: int) -> dict[str, Array]:
        """{images/<camera>: uint8 [B, 1, h, w, C], success: float32 [B]}, a pure function of ``step``; the successes
        come first."""
        half = self.batch_size // 2
        counts = {SUCCESS: half, NOT_YET: self.batch_size - half}
        drawn = [self._rows[label][self._streams[label].draw(step * n, n)] for label, n in counts.items()]
        label = np.repeat(np.array(list(counts), dtype=np.float32), list(counts.values()))
        return {**self.images(np.concatenate(drawn)), "success": label}

    def images(self, rows: Array) -> dict[str, Array]:
        """Frames {images/<camera>: uint8 [M, 1, h, w, C]} of the rows [M]."""
        return read_frames(self.table, self._images, rows)

    def episode(self, number: int) -> slice:
        """The rows of one episode."""
        first = self.table.first
        return slice(int(first[number]), int(first[number + 1]))


def read_frames(table: EpisodeTable, images: Images, rows: Array) -> dict[str, Array]:
    """Frames {images/<camera>: uint8 [M, 1, h, w, C]} that ``table`` shows in its rows [M]."""
    out = {name: np.empty((len(rows), 1, *images.shape(name)), np.uint8) for name in table.cameras}
    with images.reading([(name, table[f"images/{name}"][rows], frames) for name, frames in out.items()]):
        pass
    return {f"images/{name}": frames for name, frames in out.items()}


def frame_labels(table: EpisodeTable, positives: int, unsure: int) -> Array:
    """SUCCESS, NOT_YET or UNKNOWN for each row of ``table``, int8 [R]."""
    steps, labels = Steps.of(table), np.full(table.rows, NOT_YET, dtype=np.int8)
    for e, summary in enumerate(table.summaries):
        first, end = int(table.first[e]), int(table.first[e + 1])
        reached = np.flatnonzero(steps.success[first:end])
        if summary is None or (not len(reached) and summary.success is not False):
            labels[first:end] = UNKNOWN
        elif len(reached):
            last = first + int(reached[0]) + 1  # a step succeeds in the observation that follows
            labels[max(first, last + 1 - positives - unsure) : end] = UNKNOWN
            labels[max(first, last + 1 - positives) : last + 1] = SUCCESS
    return labels


def held_out(infos: Sequence[Any], share: float) -> set[str]:
    """Ids of about ``share`` of the successes and of the failures among ``infos``, always the same ones.

    Raises ConfigError for a share that is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(f"held_out={share}", limit="between 0 and 1")
    chosen: set[str] = set()
    for outcome in (True, False):
        ids = sorted((info.id for info in infos if info.success is outcome), key=lambda id: crc32c(id.encode()))
        chosen |= set(ids[: round(share * len(ids))])
    return chosen
