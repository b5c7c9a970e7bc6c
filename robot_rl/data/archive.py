"""Datasets for the shelf: JPEG frames become JPEG XL, a fifth smaller, and come back bit for bit.

An archive is a dataset itself: the same episodes with the same ids, arrays and attributes, and what was said about
them. It can be verified and sampled from as it is; decoding takes four times as long. Frames that are not
JPEG stay as they were recorded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.jpegxl import CODEC, jpegxl_of, restored_jpeg
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import CorruptEpisodeError, StoreError

T = TypeVar("T")


@dataclass(frozen=True)
class CopySummary:
    """What a copy did; ``bytes_read`` and ``bytes_written`` are those of the episodes copied."""

    copied: int
    skipped: int
    bytes_read: int
    bytes_written: int


def copy_episodes(
    source: EpisodeStore,
    target: EpisodeStore,
    change: Callable[[Episode], Episode],
    advance: Callable[[], None] = lambda: None,
) -> CopySummary:
    """Write every episode of ``source`` to ``target`` as ``change`` makes it, and what was said about them.

    Ids that ``target`` knows are skipped, also those it deleted: what was interrupted, or has grown since, is done
    again to go on. Raises StoreError for one dataset as both, CorruptEpisodeError, EpisodeError and DiskFullError.
    """
    if source.root.resolve() == target.root.resolve():
        raise StoreError(f"{source.root} cannot be copied onto itself", remedy="Choose another folder")
    target.annotate_like(source)
    copied = skipped = bytes_read = bytes_written = 0
    for info in source.infos(excluded=True):
        if info.id in target:
            skipped += 1
        else:
            written = target.write(change(source.read(info.id, annotated=False)))
            copied, bytes_read, bytes_written = copied + 1, bytes_read + info.bytes, bytes_written + written.bytes
        advance()
    return CopySummary(copied, skipped, bytes_read, bytes_written)


def archived(episode: Episode) -> Episode:
    """``episode`` with JPEG XL for JPEG. A camera stays as it is where a frame has none, or where it saves nothing."""
    return replace(episode, cameras={name: _archived(track) for name, track in episode.cameras.items()})


def restored(episode: Episode) -> Episode:
    """The inverse of ``archived``. Raises CorruptEpisodeError."""
    return replace(episode, cameras={name: _restored(episode, name) for name in episode.cameras})


def _archived(track: CameraTrack) -> CameraTrack:
    if track.codec != "jpeg":
        return track
    encoded = [frame for frame in _each(jpegxl_of, track) if frame is not None]
    smaller = len(encoded) == track.frames and sum(map(len, encoded)) < len(track.data)
    return _with_frames(track, encoded, CODEC) if smaller else track


def _restored(episode: Episode, name: str) -> CameraTrack:
    track = episode.cameras[name]
    if track.codec != CODEC:
        return track
    try:
        return _with_frames(track, list(_each(restored_jpeg, track)), "jpeg")
    except CorruptEpisodeError as error:
        raise CorruptEpisodeError(
            error.what, episode=episode.id, array=f"images/{name}", limit=error.limit, remedy=error.remedy
        ) from error


def _each(act: Callable[[bytes], T], track: CameraTrack) -> Iterator[T]:
    """``act`` of every frame, on all cores: libjxl runs without the interpreter lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(act, (track.encoded(frame) for frame in range(track.frames)))


def _with_frames(track: CameraTrack, frames: list[bytes], codec: str) -> CameraTrack:
    offset = np.cumsum([0, *map(len, frames)], dtype=np.int64)
    return replace(track, data=np.frombuffer(b"".join(frames), np.uint8), offset=offset, codec=codec)
