"""What each camera delivered during an episode: which frame belongs to which row, and what went missing.

A frame with the sequence number of the row before is stored once and its row repeats the index. A camera that has no
frame in a row gives -1. Recording goes on when a camera stops: the counts in the metadata (``dropped_frames``) tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from robot_rl.errors import EpisodeError
from robot_rl.types import DEPTH_CODEC, Array, CameraSpec, Frame

_START = {"jpeg": b"\xff\xd8", "png": b"\x89PNG", DEPTH_CODEC: b"\x89PNG", "webp": b"RIFF"}


class CameraLog:
    """Follows the frames of one episode; ``check`` and ``peek`` come before a row is handed over, ``accept`` after."""

    def __init__(self, cameras: Mapping[str, CameraSpec], episode: str) -> None:
        self._specs, self._episode = dict(cameras), episode
        self._stored = dict.fromkeys(cameras, 0)
        self._last: dict[str, tuple[int, int]] = {}  # sequence and stamp of the newest frame

    def check(self, frames: Mapping[str, Frame], row: int) -> None:
        """Raise EpisodeError when a frame is not what the spec declares or older than the one before."""
        for name, frame in frames.items():
            spec = self._specs.get(name)
            if spec is None:
                raise self._wrong("is no camera of the spec", name, row, ", ".join(self._specs) or "no cameras")
            size = (frame.height, frame.width, frame.channels)
            if size != (spec.height, spec.width, spec.channels):
                raise self._wrong(f"frame of {size}", name, row, f"{(spec.height, spec.width, spec.channels)}")
            if not isinstance(frame.data, bytes):
                raise self._wrong(f"frame data is {type(frame.data).__name__}", name, row, "bytes, which do not change")
            if frame.codec == "raw" and len(frame.data) != size[0] * size[1] * size[2]:
                raise self._wrong(f"raw frame of {len(frame.data)} bytes", name, row, "height * width * channels")
            allowed = (spec.codec,) if spec.codec == DEPTH_CODEC else (spec.codec, "raw")
            if frame.codec not in allowed:
                raise self._wrong(f"frame codec '{frame.codec}'", name, row, " or ".join(f"'{c}'" for c in allowed))
            if not frame.data or not frame.data.startswith(_START.get(frame.codec, b"")):
                raise self._wrong(f"frame is no {frame.codec} image", name, row, f"{frame.codec} bytes")
            sequence, stamp = self._last.get(name, (frame.sequence, frame.stamp_ns))
            if frame.stamp_ns < stamp or frame.sequence < sequence:
                raise self._wrong("frame is older than the one before", name, row, f"{stamp} ns, number {sequence}")

    def peek(self, frames: Mapping[str, Frame]) -> tuple[dict[str, int], list[tuple[str, Frame]]]:
        """Frame index of each camera for the next row, and the frames that are new; remembers nothing."""
        index, fresh = {}, []
        for name in self._specs:
            frame = frames.get(name)
            if frame is None:
                index[name] = -1
                continue
            new = name not in self._last or self._last[name][0] != frame.sequence
            if new:
                fresh.append((name, frame))
            index[name] = self._stored[name] - (not new)
        return index, fresh

    def accept(self, fresh: list[tuple[str, Frame]]) -> None:
        """The row of these new frames was taken."""
        for name, frame in fresh:
            self._last[name] = (frame.sequence, frame.stamp_ns)
            self._stored[name] += 1

    def _wrong(self, what: str, camera: str, row: int, limit: str) -> EpisodeError:
        return EpisodeError(what, episode=self._episode, array=f"images/{camera}", row=row, limit=limit)


def dropped_frames(frame_of_step: Array, sequences: Sequence[int]) -> dict[str, int]:
    """Counts of one camera for the metadata, from frame_of_step [N] and the sequence numbers of its stored frames.

    ``missing_rows`` had no frame, ``repeated_rows`` show the frame of the row before (normal for a camera slower than
    the control rate; ``longest_repeat_rows`` tells a camera that stopped), ``skipped_frames`` were taken by the camera
    between two rows and are in no row.
    """
    repeated = (np.diff(frame_of_step) == 0) & (frame_of_step[1:] >= 0)
    ends = np.flatnonzero(np.diff(np.concatenate(([False], repeated, [False])).astype(np.int8)))
    skipped = np.diff(np.asarray(sequences, np.int64)) - 1
    return {
        "frames": len(sequences),
        "missing_rows": int((frame_of_step < 0).sum()),
        "repeated_rows": int(repeated.sum()),
        "longest_repeat_rows": int((ends[1::2] - ends[::2]).max(initial=0)),
        "skipped_frames": int(skipped.sum()),
    }
