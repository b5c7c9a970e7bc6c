"""Camera frames for sampling: decoded on demand, or once into a cache that all processes share.

Which of the two is chosen by bytes: when the decoded frames fit the free memory, or at least the disk, they are cached.
Needs OpenCV for encoded frames, imported on first use.
"""

from __future__ import annotations

import logging
import math
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data import jpegxl
from robot_rl.data.episode import CameraTrack
from robot_rl.data.frame_cache import FrameCache
from robot_rl.data.frame_encoding import read_image, resized
from robot_rl.data.tables import EpisodeTable
from robot_rl.errors import ConfigError, CorruptEpisodeError, EpisodeError, valid_choices
from robot_rl.types import DEPTH_CODEC, Array

_log = logging.getLogger(__name__)

Request = tuple[str, Array, Array]  # camera, numbers of its frames [...], where they go [..., h, w, c]
Reader = Callable[[Array, Array], None]  # (numbers [M], out [M, h, w, c])
Piece = tuple[Reader, Array, Array]

TIERS = ("auto", "cache", "decode")
_CODECS = ("jpeg", "png", DEPTH_CODEC, "webp", jpegxl.CODEC)  # what can be decoded; raw needs no decoder
_DECODED_AT_ONCE = 8  # frames; fewer are not worth a hand-over to another thread when decoding,
_COPIED_AT_ONCE = 4 << 20  # bytes; less when copying
_STREAMED = 32 << 20  # bytes of a batch: more than the caches of most processors hold
_SHARE = 0.7  # of the free memory (page cache), or of the free disk, that decoded frames may take


@dataclass(frozen=True)
class ImageOptions:
    """How frames reach a batch.

    ``crop`` (top, left, height, width) in recorded pixels comes before ``size`` (height, width), which resizes by area;
    None leaves them as recorded. ``tier`` auto, cache or decode; ``cache`` is the folder of the decoded frames
    (default: cache/frames beside the store's episodes), which may be deleted at any time. ``threads`` decode and
    gather (default: one per core).
    """

    size: tuple[int, int] | None = None
    crop: tuple[int, int, int, int] | None = None
    tier: str = "auto"
    cache: Path | str | None = None
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise ConfigError(f"unknown image tier '{self.tier}'", remedy=valid_choices(self.tier, TIERS))
        if self.threads < 1 or (self.size is not None and min(self.size) < 1):
            raise ConfigError("image options need at least one thread and a size of at least one pixel")

    def shape_of(self, track: CameraTrack) -> tuple[int, int, int]:
        """[h, w, c] of a frame as it reaches the batch."""
        height, width = self.size or (self.crop[2:] if self.crop else (track.height, track.width))
        return height, width, track.channels


def decode_frame(track: CameraTrack, index: int) -> Array:
    """Frame ``index`` [H, W, C], uint8 RGB or grey, or depth as uint16 mm. Raises EpisodeError for other bytes."""
    encoded = track.data[track.offset[index] : track.offset[index + 1]]
    shape = track.height, track.width, track.channels
    if track.codec == "raw":
        if encoded.size != np.prod(shape):
            raise CorruptEpisodeError(f"frame {index} has {encoded.size} bytes", limit=f"{list(shape)}")
        return encoded.reshape(shape)
    if track.codec not in _CODECS:
        raise EpisodeError(f"codec '{track.codec}' cannot be decoded", remedy=f"Valid: raw, {', '.join(_CODECS)}")
    image = read_image(np.asarray(encoded), track.codec, track.channels)
    if image is None or image.shape[:2] != shape[:2]:
        found = "nothing that can be decoded" if image is None else f"{list(image.shape[:2])} pixels"
        raise CorruptEpisodeError(f"frame {index} holds {found}", limit=f"{track.codec} of {list(shape)}")
    return image.reshape(shape)


def decode_into(track: CameraTrack, index: int, options: ImageOptions, out: Array) -> None:
    """Frame ``index``, cropped and resized, into ``out`` [h, w, c]."""
    image = decode_frame(track, index)
    if options.crop is not None:
        top, left, height, width = options.crop
        if min(top, left) < 0 or top + height > track.height or left + width > track.width:
            raise ConfigError(f"crop {options.crop} leaves the image", limit=f"{track.height}x{track.width}")
        image = image[top : top + height, left : left + width]
    if image.shape[:2] != out.shape[:2]:
        image = resized(image, *out.shape[:2])
    out[:] = image


class Images:
    """Frames of the cameras of a table, by the numbers in its ``images/<camera>`` columns."""

    def __init__(self, table: EpisodeTable, options: ImageOptions, store_root: Path | None) -> None:
        self.table, self.options = table, options
        self.folder = _cache_folder(options, store_root)
        self.tier = options.tier
        if self.tier == "cache" and self.folder is None:
            raise ConfigError("a frame cache needs a folder", remedy="Name one with cache=, or use tier=decode")
        self.cold = False  # cached frames exceed the free memory: announce reads with ``will_need``
        self._pool = ThreadPoolExecutor(options.threads, thread_name_prefix="frames")
        self._caches: dict[str, FrameCache] = {}
        self._shapes: dict[str, tuple[int, int, int]] = {}
        self._let_go: dict[str, int] = {}  # episodes whose encoded frames are in no memory any more

    def refresh(self) -> None:
        """Decode what is new into the cache, if there is one."""
        if not self.table.ids:
            return
        for camera in self.table.cameras:
            self._check_shapes(camera)
        decoded = sum(
            self.table.first_frame[name][-1] * math.prod(shape) * self.dtype(name).itemsize
            for name, shape in self._shapes.items()
        )
        self.cold = decoded > _SHARE * _free_memory()
        if self.tier == "auto":
            self.tier = "cache" if self._fits_disk(decoded) else "decode"
        if self.tier == "cache":
            self._extend_all()

    def shape(self, camera: str) -> tuple[int, int, int]:
        """[h, w, c] of its frames."""
        return self._shapes[camera]

    def dtype(self, camera: str) -> np.dtype[Any]:
        """Of its pixels: uint16 for depth in mm, else uint8."""
        tracks = self.table.tracks[camera]
        return np.dtype(np.uint16 if tracks and tracks[0].codec == DEPTH_CODEC else np.uint8)

    @contextmanager
    def reading(self, wanted: Sequence[Request]) -> Iterator[None]:
        """Frames with these numbers [...] of each camera are in its array [..., h, w, c] of the camera's ``dtype`` when
        the block ends. Other threads begin at once, so that the block can be about something else.

        All that a batch needs in one call: the threads then share it evenly, whatever the sizes.
        """
        streaming = sum(out.nbytes for _, _, out in wanted) > _STREAMED
        with self._sharing([piece for request in wanted for piece in self._pieces(*request, streaming)]):
            yield

    def _pieces(self, camera: str, frames: Array, out: Array, streaming: bool) -> list[Piece]:
        flat, target = frames.reshape(-1), out.reshape(-1, *self._shapes[camera])
        if self.tier == "cache":
            read = partial(self._caches[camera].read, streaming=streaming)
            return _cut(read, flat, target, 1 + _COPIED_AT_ONCE // max(target[:1].nbytes, 1))
        return _cut(partial(self._decode, camera), flat, target, _DECODED_AT_ONCE)

    @contextmanager
    def _sharing(self, pieces: list[Piece]) -> Iterator[None]:
        """Do all pieces on all threads, this one too at the end; decoding and copying run without the interpreter lock.

        Whoever is free takes the next piece, so that a thread whose core is taken by others holds up one piece at most.
        """
        remaining = iter(pieces)

        def work() -> None:
            for read, frames, out in remaining:
                read(frames, out)

        others = [self._pool.submit(work) for _ in range(min(self.options.threads, len(pieces)) - 1)]
        try:
            yield
            work()
        finally:
            for other in others:
                if not other.cancel():
                    other.result()

    def will_need(self, camera: str, frames: Array) -> None:
        """Have the kernel start reading cached frames that a later ``read`` asks for."""
        if self.cold and self.tier == "cache":
            self._pool.submit(self._caches[camera].will_need, frames.reshape(-1))

    def _decode(self, camera: str, frames: Array, out: Array) -> None:
        first = self.table.first_frame[camera]
        episodes = np.searchsorted(first, frames, side="right") - 1
        for i, (frame, episode) in enumerate(zip(frames.tolist(), episodes.tolist(), strict=True)):
            if i and frame == frames[i - 1]:
                out[i] = out[i - 1]  # a window repeats frames at edges and where the camera is slower than the steps
            else:
                self._decode_one(camera, episode, frame - first[episode], out[i])

    def _decode_one(self, camera: str, episode: int, index: int, out: Array) -> None:
        try:
            decode_into(self.table.tracks[camera][episode], index, self.options, out)
        except EpisodeError as error:
            raise type(error)(
                error.what,
                episode=self.table.ids[episode],
                array=f"images/{camera}",
                limit=error.limit,
                remedy=error.remedy,
            ) from error

    def _check_shapes(self, camera: str) -> None:
        """Every episode must give frames of one shape; those of other recorded sizes need ``size``."""
        for id, track in zip(self.table.ids, self.table.tracks[camera], strict=True):
            shape = self.options.shape_of(track)
            want = self._shapes.setdefault(camera, shape)
            if shape != want:
                raise EpisodeError(
                    f"frames of {list(shape)}",
                    episode=id,
                    array=f"images/{camera}",
                    limit=f"{list(want)}",
                    remedy="Give all frames one size with ImageOptions(size=...)",
                )

    def _fits_disk(self, decoded: int) -> bool:
        if self.folder is None:
            return False
        files = [self._cache(self.folder, camera).file for camera in self.table.cameras]
        present = sum(path.stat().st_size for path in files if path.exists())
        existing = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        return decoded - present < _SHARE * shutil.disk_usage(existing).free

    def _extend_all(self) -> None:
        """Grow the caches; where they cannot be written and nobody insisted on them, decode from now on."""
        try:
            for camera in self.table.cameras:
                self._extend(camera)
        except OSError as error:  # DiskFullError is one
            if self.options.tier != "auto":
                raise
            _log.warning("frames are decoded on demand, their cache cannot be written: %s", error)
            self.tier = "decode"

    def _cache(self, folder: Path, camera: str) -> FrameCache:
        if camera not in self._caches:
            self._caches[camera] = FrameCache(
                folder, camera, self._shapes[camera], self.options.crop, self.dtype(camera)
            )
        return self._caches[camera]

    def _extend(self, camera: str) -> None:
        assert self.folder is not None
        cache = self._cache(self.folder, camera)
        first = self.table.first_frame[camera]

        def decode(episode: int, out: Array) -> None:
            frames = np.arange(first[episode], first[episode + 1])
            with self._sharing(_cut(partial(self._decode, camera), frames, out, _DECODED_AT_ONCE)):
                pass

        keys = list(zip(self.table.ids, self.table.checksums, strict=True))
        cache.extend(keys, np.diff(first).tolist(), decode, resident=not self.cold)
        tracks = self.table.tracks[camera]
        for track in tracks[self._let_go.get(camera, 0) :]:
            _let_go(track.data)
        self._let_go[camera] = len(tracks)


def _let_go(data: Array) -> None:
    """Take the pages of a mapped file out of memory: what is decoded is not read again, and would come from disk."""
    owner: Any = data
    while isinstance(owner, np.ndarray):
        owner = owner.base
    owner = owner.obj if isinstance(owner, memoryview) else owner
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)


def _cut(read: Reader, frames: Array, out: Array, size: int) -> list[Piece]:
    """Pieces of ``size`` frames."""
    return [(read, frames[i : i + size], out[i : i + size]) for i in range(0, len(frames), size)]


def _cache_folder(options: ImageOptions, store_root: Path | None) -> Path | None:
    if options.cache is not None:
        return Path(options.cache)
    return store_root / "cache" / "frames" if store_root is not None else None


def _free_memory() -> int:
    """Bytes that may be used without swapping."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
