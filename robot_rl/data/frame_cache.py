"""Decoded frames of one camera in one growing file, mapped by every process that samples from it.

    <folder>/<camera>-<h>x<w>x<c>-<crop>/frames.u8    uint8 [F, h, w, c], without a header
    <folder>/<camera>-<h>x<w>x<c>-<crop>/episodes.log  a line {id, crc32c, first, frames} per episode, with its own CRC

An episode is believed only when its line is there, and a line is written only after its frames are on disk: what a
killed writer left behind is decoded again and overwritten. The folder can be deleted at any time, so the lines are read
anew at every growth: another process may have made another cache under the same name.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.file_lock import locked
from robot_rl.data.line_log import append_lines, read_lines, rewrite_lines
from robot_rl.data.row_copy import take_rows
from robot_rl.errors import DiskFullError
from robot_rl.types import Array

FORMAT = 1  # part of the folder's name: another layout or another way of resizing is another cache
_MADV_POPULATE_READ = 22  # Linux 5.14
_HINT_BYTES = 256 << 10  # one POSIX_FADV_WILLNEED reads no more than a disk's largest request, often 512 kB or 1 MB
_UINT8 = np.dtype(np.uint8)
_FLUSH_BYTES = 256 << 20  # decoded between two syncs: what a kill costs at most

Key = tuple[str, int]  # episode id and the CRC32C of its file


class FrameCache:
    """Frames [h, w, c] of one ``camera``, cropped and resized the same way.

    ``extend`` makes the given episodes available; ``read`` then gathers by frame numbers, which count through these
    episodes in the order they were given.
    """

    def __init__(
        self,
        folder: Path,
        camera: str,
        shape: tuple[int, int, int],
        crop: tuple[int, int, int, int] | None,
        dtype: np.dtype[Any] = _UINT8,
    ) -> None:
        kind = f"{FORMAT} {crop}" if dtype == _UINT8 else f"{FORMAT} {crop} {dtype.name}"
        variant = hashlib.sha256(kind.encode()).hexdigest()[:8]
        size = "x".join(str(n) for n in shape)
        self.folder = folder / f"{camera.replace('/', '.')}-{size}-{variant}"
        self.shape, self._dtype = shape, dtype
        self._frame_bytes = int(np.prod(shape)) * dtype.itemsize
        self.file, self._log = self.folder / "frames.u8", self.folder / "episodes.log"
        self._known: dict[Key, tuple[int, int]] = {}  # -> first frame in the file, frames
        self._lost = False  # whether the log tells of frames that the file has no more
        self._place = np.zeros(0, dtype=np.int64)  # where each frame lies in the file
        self._mapped: mmap.mmap
        self._frames = np.zeros((0, *shape), dtype)

    def extend(
        self,
        episodes: Sequence[Key],
        counts: Sequence[int],
        decode: Callable[[int, Array], None],
        *,
        resident: bool = False,
    ) -> int:
        """Make ``episodes`` with ``counts`` frames each readable; returns how many had to be decoded.

        ``decode(e, out)`` fills [counts[e], h, w, c]. Waits while another process is decoding, then uses what
        that one did. ``resident`` loads the whole file in order, which is much faster than at random; for caches that
        fit the memory. Raises DiskFullError; what was decoded before remains.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._learn()
        missing = [e for e, key in enumerate(episodes) if not self._holds(key, counts[e])]
        if missing:
            with locked(self.folder / "lock"):
                self._learn()
                missing = [e for e in missing if not self._holds(episodes[e], counts[e])]
                self._write(missing, episodes, counts, decode)
            self._learn()
        self._map(resident)
        places = [np.arange(counts[e]) + self._known[key][0] for e, key in enumerate(episodes)]
        self._place = np.concatenate([np.zeros(0, dtype=np.int64), *places])
        return len(missing)

    def read(self, frames: Array, out: Array, *, streaming: bool = False) -> None:
        """Gather frames with these numbers [M] into ``out`` [M, h, w, c]; ``streaming`` past the processor's caches,
        for batches that they would not hold anyway."""
        if streaming:
            take_rows(self._frames, self._place[frames], out)
        else:
            np.take(self._frames, self._place[frames], axis=0, out=out, mode="clip")

    def will_need(self, frames: Array) -> None:
        """Ask the kernel to read these frames [M] from disk in the background; runs without the interpreter lock."""
        places = np.unique(self._place[frames])
        borders = np.flatnonzero(np.diff(places) != 1)
        firsts, lasts = places[np.append(0, borders + 1)], places[np.append(borders, len(places) - 1)]
        with suppress(FileNotFoundError), self.file.open("rb") as file:  # deleted: its map is read without a hint
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                stop = (last + 1) * self._frame_bytes
                for start in range(first * self._frame_bytes, stop, _HINT_BYTES):
                    length = min(_HINT_BYTES, stop - start)
                    os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_WILLNEED)

    def _holds(self, key: Key, count: int) -> bool:
        return self._known.get(key, (0, -1))[1] == count

    def _learn(self) -> None:
        """Believe the lines whose frames the file really has; of two lines about one episode the later counts."""
        records, _ = read_lines(self._log)
        available = self.file.stat().st_size // self._frame_bytes if self.file.exists() else 0
        held = [record for record in records if record["first"] + record["frames"] <= available]
        self._known = {(record["id"], record["crc32c"]): (record["first"], record["frames"]) for record in held}
        self._lost = len(held) < len(records)

    def _write(
        self,
        missing: Sequence[int],
        episodes: Sequence[Key],
        counts: Sequence[int],
        decode: Callable[[int, Array], None],
    ) -> None:
        """Append groups of episodes: reserve, decode, sync, and only then say so in the log.

        Lines about frames that were cut off go first: they must not come true again when the file has grown.
        """
        if self._lost:
            rewrite_lines(self._log, lambda: [_line(key, *place) for key, place in self._known.items()])
        file = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            end = max((first + frames for first, frames in self._known.values()), default=0)
            for group in _groups(missing, counts, max(1, _FLUSH_BYTES // self._frame_bytes)):
                lines, start = [], end
                for e in group:
                    lines.append(_line(episodes[e], end, counts[e]))
                    end += counts[e]
                target = self._reserve(file, start, end)
                for e, line in zip(group, lines, strict=True):
                    decode(e, target[line["first"] - start : line["first"] - start + line["frames"]])
                os.fdatasync(file)
                append_lines(self._log, lines)
        finally:
            os.close(file)

    def _reserve(self, file: int, first: int, end: int) -> Array:
        """Writable frames [end - first, h, w, c] of the file, with their blocks set aside: a full disk is an error
        here, not a bus error while decoding."""
        start, stop = first * self._frame_bytes, end * self._frame_bytes
        try:
            os.posix_fallocate(file, start, stop - start)
        except OSError as error:
            raise DiskFullError(
                f"the frame cache {self.folder} cannot grow by {(stop - start) / 1e6:.0f} MB: {error.strerror}",
                remedy="Free disk space, name another folder with cache=, or use tier=decode",
            ) from error
        page_start = start - start % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(file, stop - page_start, offset=page_start)
        count = (stop - start) // self._dtype.itemsize
        return np.frombuffer(mapped, self._dtype, count, start - page_start).reshape(-1, *self.shape)

    def _map(self, resident: bool) -> None:
        """Map the file as it is now; older maps stay valid for whoever holds them."""
        before = self._frames.nbytes
        with self.file.open("rb") as file:
            size = os.fstat(file.fileno()).st_size // self._frame_bytes * self._frame_bytes
            self._mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        if resident and size > before:
            start = before - before % mmap.ALLOCATIONGRANULARITY
            with suppress(OSError):  # an older kernel loads on first use
                self._mapped.madvise(_MADV_POPULATE_READ, start, size - start)
        self._frames = np.frombuffer(self._mapped, self._dtype).reshape(-1, *self.shape)


def _line(key: Key, first: int, frames: int) -> dict[str, Any]:
    return {"id": key[0], "crc32c": key[1], "first": first, "frames": frames}


def _groups(episodes: Sequence[int], counts: Sequence[int], limit: int) -> list[list[int]]:
    """Episodes in order, in groups of about ``limit`` frames."""
    groups: list[list[int]] = []
    size = limit
    for e in episodes:
        if size >= limit:
            groups.append([])
            size = 0
        groups[-1].append(e)
        size += counts[e]
    return groups
