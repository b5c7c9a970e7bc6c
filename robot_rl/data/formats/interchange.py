"""What every foreign layout shares: a set of recordings that can be loaded one by one, and the protocol of a format.

The same type flows both ways: importing reads a foreign file as a ``RecordingSet`` whose episodes go to a store, and
exporting hands the episodes of a store to a format as one.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.errors import DiskFullError, EpisodeError, RobotRlError, StoreError
from robot_rl.types import Array, EnvSpec, Phase


@dataclass(frozen=True)
class Recording:
    """One episode that lies elsewhere. ``source_id`` is a digest of its content, so a second import recognises it."""

    source_id: str
    steps: int
    load: Callable[[], Episode]
    split: str = ""


@dataclass(frozen=True)
class RecordingSet:
    """Episodes of one spec. ``dropped`` lists in words what does not survive the way from there to here."""

    spec: EnvSpec
    recordings: Sequence[Recording]
    dropped: Sequence[str] = field(default=())

    @property
    def steps(self) -> int:
        return sum(recording.steps for recording in self.recordings)


class Format(Protocol):
    """A foreign layout on disk; its options are constructor arguments."""

    def read(self, source: Path) -> RecordingSet:
        """What lies at ``source``; cheap, episodes load later. Raises StoreError for what is not of this format."""
        ...

    def write(self, recordings: RecordingSet, target: Path) -> Sequence[str]:
        """Write to ``target``, complete or not at all; returns in words what was left behind. Raises StoreError."""
        ...


def episode_arrays(actions: Array, rewards: Array, *, period_ns: int, terminated: bool) -> dict[str, Array]:
    """Arrays of a demonstration of T steps that come with every import: N = T + 1 rows, actions [T, A], rewards [T].

    Foreign layouts have no stamps, so rows are put ``period_ns`` apart (metadata must say so). A person was in command
    all along; the end is a termination or a time-out at the last step. Raises EpisodeError for no step, or for rewards
    of another shape.
    """
    steps = len(actions)
    if steps == 0:
        raise EpisodeError("has no steps", limit="at least one", remedy="Leave it out with skip_invalid=true")
    if rewards.shape != (steps,):
        raise EpisodeError(f"rewards of shape {list(rewards.shape)}", limit=f"[{steps}], one per action")
    ended = np.zeros(steps + 1, dtype=bool)
    ended[steps - 1] = True
    never = np.zeros(steps + 1, dtype=bool)
    return {
        "action/commanded": with_last(actions.astype(np.float32), np.zeros_like(actions[0], dtype=np.float32)),
        "action_valid": np.arange(steps + 1) < steps,
        "time/t_ns": np.arange(steps + 1, dtype=np.int64) * period_ns,
        "rl/reward": with_last(rewards.astype(np.float32), np.float32(0.0)),
        "rl/terminated": ended if terminated else never,
        "rl/truncated": never if terminated else ended,
        "flags/intervention": np.full(steps + 1, Phase.HUMAN, dtype=np.uint8),
        "flags/phase": np.full(steps + 1, Phase.HUMAN, dtype=np.uint8),
    }


def range_of(actions: Sequence[Array]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Limits per component of foreign actions [T, A] whose own limits nobody tells: their finite range, 1 % wider.

    Raises StoreError when there is no action at all.
    """
    stacked = np.concatenate(actions).astype(np.float64)
    if not len(stacked):
        raise StoreError("no episode of the source has an action", remedy="Nothing to import")
    finite = np.where(np.isfinite(stacked), stacked, 0.0)
    low, high = finite.min(axis=0), finite.max(axis=0)
    margin = 0.01 * np.maximum(high - low, 1e-4)
    return tuple((low - margin).tolist()), tuple((high + margin).tolist())


def with_last(rows: Array, last: Array | np.generic) -> Array:
    """``rows`` [T, ...] and one more row."""
    return np.concatenate((rows, np.asarray(last)[None]), axis=0)


def content_id(format_name: str, index: int, arrays: Mapping[str, Array]) -> str:
    """Source id of episode ``index``: a digest of its low-dimensional content as it lies in the foreign file."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}{value.dtype.str}{value.shape}".encode())
        digest.update(value.tobytes())
    return f"{format_name}/{index}/{digest.hexdigest()[:24]}"


def import_metadata(
    format_name: str, source: Path, source_id: str, spec: EnvSpec, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Metadata of an imported episode: ``about`` it, and where it came from."""
    return {
        "task": spec.task,
        "robot": spec.robot,
        **about,
        "source": "imported",
        "source_format": format_name,
        "source_file": source.name,
        "source_id": source_id,
    }


def synthetic_stamps(spec: EnvSpec) -> dict[str, str]:
    """Metadata that says that the stamps were not measured."""
    return {"stamps": f"synthetic, {spec.step_rate_hz:g} Hz: the source has none"}


@contextmanager
def complete_or_nothing(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside ``target`` to write to; it takes the place of ``target`` when the block ends without error."""
    if target.exists() and not overwrite:
        raise StoreError(f"'{target}' exists already", remedy="Choose another path, or pass format.overwrite=true")
    folder = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        part = folder / target.name
        yield part
        if target.is_dir():
            target.rename(folder / "replaced")
        part.replace(target)
    except RobotRlError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        raise (DiskFullError if full else StoreError)(
            f"'{target}' cannot be written: {error.strerror or error}", remedy="Nothing was left behind"
        ) from error
    finally:
        if folder is not None:
            _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder into which threads of a writer that failed may still be writing for a moment."""
    for _ in range(40):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)


def require(source: Path, what: str) -> None:
    """Raise StoreError unless ``source`` is there."""
    if not source.exists():
        raise StoreError(f"no {what} at '{source}'", remedy="Check the path given as source=")
