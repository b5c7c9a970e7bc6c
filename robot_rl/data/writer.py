"""Recording of one episode: rows go in, and at the end an immutable episode file comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.camera_log import CameraLog
from robot_rl.data.frame_encoding import encode_frame
from robot_rl.data.index import EpisodeInfo
from robot_rl.data.journal_writer import JournalWriter
from robot_rl.data.recording import begin_header, decision_record, end_header
from robot_rl.data.row_layout import RowLayout
from robot_rl.errors import EpisodeError, RobotRlError, StoreError
from robot_rl.types import Array, ArraySpec, Decision, EnvSpec, EpisodeEnd, Frame, StepRow


class EpisodeWriter:
    """Appends rows without touching the disk; use it from one thread. Made by ``EpisodeStore.begin``.

    As a context manager it closes without ending on the way out of an exception: what was written is recovered when
    the store is opened next.
    """

    def __init__(
        self,
        episode: str,
        journal_path: Path,
        spec: EnvSpec,
        metadata: Mapping[str, Any],
        commit: Callable[[Path], EpisodeInfo],
        *,
        extras: Mapping[str, ArraySpec],
        ring_steps: int,
        ring_bytes: int,
        max_bytes: int,
    ) -> None:
        self.id = episode
        self.spec = spec
        self.rows = 0
        self._commit = commit
        self._max_bytes = max_bytes
        self._layout = RowLayout(spec, extras)
        self._cameras = CameraLog(spec.cameras, episode)
        self._stamp: int | None = None
        self._decision: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] | None = None
        self._decision_index = -1
        self._journal = JournalWriter(
            journal_path,
            episode,
            begin_header(episode, spec, extras, metadata),
            ring_records=ring_steps,
            ring_bytes=ring_bytes,
            prepare=self._encode,
        )

    @property
    def pending(self) -> int:
        """Records that wait in the ring: what a SIGKILL now would cost."""
        return self._journal.pending

    def share(self, outbox: Path) -> None:
        """Give the journal a second name in ``outbox``, before the first row: no row can miss its way.

        Raises StoreError where that is impossible; the episode is discarded then.
        """
        journal = self._journal.path
        try:
            (outbox / journal.name).hardlink_to(journal)
        except OSError as error:
            self.discard("it would not be shipped")
            raise StoreError(
                f"episode {self.id} cannot be put into {outbox}: {error.strerror}",
                remedy="Put the actor's store on a local disk whose file system has hard links",
            ) from error

    def append(self, row: StepRow) -> None:
        """Record one row; the final observation comes last, with ``action.valid`` False and actions zero.

        Copies the row and returns (about 0.1 ms, no disk access, no encoding: raw frames are encoded by the writer
        thread when the camera's spec asks for a codec). A refused row leaves everything before it as it was.

        Raises EpisodeError (shape, dtype, a value that is not finite, stamps), RecordingOverflowError (ring full; this
        row was not recorded) and what the writer thread met since the last call, e.g. DiskFullError.
        """
        self._journal.check()
        place = (self.id, self.rows)
        stamp = row.observation.stamp_ns
        if self._stamp is not None and stamp <= self._stamp:
            raise EpisodeError(
                f"stamp {stamp} does not rise",
                episode=self.id,
                array="time/t_ns",
                row=self.rows,
                limit=f"after {self._stamp} ns",
                remedy="Use one monotonic clock",
            )
        frames = row.observation.frames
        self._cameras.check(frames, self.rows)
        index, fresh = self._cameras.peek(frames)
        packed = self._layout.pack(row, index, place)
        size = len(packed) + sum(len(frame.data) for _, frame in fresh)
        self._check_size(size)
        self._journal.put({"kind": "row"}, [packed, fresh], size)
        self._cameras.accept(fresh)
        self._stamp = stamp
        self.rows += 1

    def append_decision(self, decision: Decision) -> None:
        """Record a call of the policy, before the rows that refer to it; indices must rise.

        The first decision fixes names, dtypes and shapes. Raises as ``append``.
        """
        arrays = {"planned": decision.planned, **decision.extras}
        found = {name: (value.dtype, value.shape) for name, value in arrays.items()}
        wanted = self._decision or found
        if decision.index <= self._decision_index:
            raise EpisodeError(
                f"index {decision.index} does not rise", episode=self.id, array="decision", limit="rising indices"
            )
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                raise EpisodeError(
                    f"is {_text(found.get(name))}",
                    episode=self.id,
                    array=f"decision/{name}",
                    row=decision.step,
                    limit=f"{_text(wanted.get(name))} as in the first decision",
                )
            self._check_decision(name, arrays[name], decision.step)
        header, buffers = decision_record(decision)
        size = sum(len(buffer) for buffer in buffers)
        self._check_size(size)
        self._journal.put(header, list(buffers), size)
        self._decision, self._decision_index = wanted, decision.index

    def flush(self) -> None:
        """Wait until the rows appended are in the journal: in lockstep a learner reads them next."""
        self._journal.flush()

    def end(self, end: EpisodeEnd, metadata: Mapping[str, Any] | None = None) -> EpisodeInfo:
        """Make the episode file, durable and verified, and return its index entry (about 60 ms for 300 steps).

        Without a final observation the last row is cut to one; a last step that neither terminated nor was truncated
        is marked truncated. Raises EpisodeError when there is no row, and
        DiskFullError; the journal then stays and is recovered when the store is opened next.
        """
        if self.rows == 0:
            raise EpisodeError("has no row", episode=self.id, limit="at least one", remedy="Discard it")
        header = end_header(end, metadata or {}, self._journal.high_water, self.id)
        try:
            self._journal.check()
            self._journal.put_last(header)
            self._journal.drain()
            return self._commit(self._journal.path)
        finally:
            self._journal.close()

    def discard(self, reason: str) -> None:
        """Drop the episode and its journal: the operator asked for it. ``reason`` is why, and may not be empty."""
        if not reason:
            raise EpisodeError("discarded without a reason", episode=self.id, remedy="Say why it goes")
        self._journal.check_owner()
        self._journal.path.unlink(missing_ok=True)  # before it is unlocked, so that nobody recovers it
        self._journal.close()

    def close(self) -> None:
        """Let go of the episode without ending it; the next opening of the store recovers it."""
        self._journal.close()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _encode(self, header: dict[str, Any], buffers: list[Any]) -> tuple[dict[str, Any], list[bytes]]:
        """In the writer thread: the final header and buffers of a record, frames encoded as the spec asks."""
        if header["kind"] != "row":
            return header, buffers
        packed, fresh = buffers
        frames: list[tuple[str, Frame]] = fresh
        try:
            encoded = [encode_frame(frame, self.spec.cameras[name].codec, smallest=True) for name, frame in frames]
        except RobotRlError as error:
            raise EpisodeError(str(error), episode=self.id) from error
        stamps = [[name, frame.sequence, frame.stamp_ns, frame.device_stamp_ns] for name, frame in frames]
        return {"kind": "row", "frames": stamps}, [packed, *encoded]

    def _check_decision(self, name: str, value: Array, step: int) -> None:
        if value.dtype.kind not in "fiub" or (value.dtype.kind == "f" and not np.isfinite(value).all()):
            raise EpisodeError(
                "holds what is no finite number", episode=self.id, array=f"decision/{name}", row=step, limit="finite"
            )

    def _check_size(self, size: int) -> None:
        if self._journal.bytes_expected + size > self._max_bytes:
            raise EpisodeError(
                "the episode is full, this was not recorded",
                episode=self.id,
                row=self.rows,
                limit=f"{self._max_bytes} bytes",
                remedy="End the episode and begin another",
            )


def _text(described: tuple[np.dtype[Any], tuple[int, ...]] | None) -> str:
    return "missing" if described is None else f"{described[0]}{list(described[1])}"
