"""Low-dimensional arrays of many episodes, concatenated in RAM: what sampling gathers from (0.3 kB a step).

Rows of all episodes lie one behind the other; ``first[e]:first[e + 1]`` are those of episode e. Arrays named
``decision/...`` have an axis of their own, with ``first_decision``. Cameras appear as a column ``images/<camera>`` of
frame numbers; the frames themselves stay where they are (robot_rl.data.frames).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from robot_rl.data.checksum import crc32c
from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.errors import EpisodeError, valid_choices
from robot_rl.types import Array

# Absent in imported data, where they mean "nothing happened": filled with zeros.
ZERO_WHEN_ABSENT: Mapping[str, str] = {
    "flags/intervention": "uint8",
    "flags/phase": "uint8",
    "flags/overrun": "bool",
    "policy/version": "int32",
}


class EpisodeSummary(Protocol):
    """What sampling asks of an index entry; ``success`` has the annotations applied."""

    @property
    def id(self) -> str: ...

    @property
    def crc32c(self) -> int: ...

    @property
    def success(self) -> bool | None: ...

    @property
    def success_step(self) -> int | None:
        """The control step that an annotation says succeeded; None leaves it to what was recorded."""
        ...


class EpisodeSource(Protocol):
    """Committed episodes: an EpisodeStore, or MemoryEpisodes."""

    def infos(self, where: Any = None) -> Sequence[Any]:
        """Summaries (EpisodeSummary) of the episodes for which ``where(info)`` holds, oldest first."""
        ...

    def read(self, id: str) -> Episode: ...

    def refresh(self) -> None:
        """Take note of what others have committed since."""
        ...


@dataclass(frozen=True)
class MemoryInfo:
    """EpisodeSummary of an episode in memory."""

    episode: Episode
    success: bool | None

    @property
    def id(self) -> str:
        return self.episode.id

    @property
    def success_step(self) -> int | None:
        return self.episode.metadata.get("success_step") if self.success else None

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.episode.metadata

    @property
    def crc32c(self) -> int:
        """Of the camera bytes."""
        checksum = 0
        for track in self.episode.cameras.values():
            checksum = crc32c(track.data, checksum)
        return checksum


class MemoryEpisodes:
    """Episodes held in memory as an EpisodeSource; ``labels`` {id: success} stands for annotations."""

    def __init__(self, episodes: Iterable[Episode], labels: Mapping[str, bool] | None = None) -> None:
        self.episodes = {episode.id: episode for episode in episodes}
        self.labels = dict(labels or {})

    def infos(self, where: Callable[[MemoryInfo], bool] | None = None) -> list[MemoryInfo]:
        infos = [
            MemoryInfo(episode, self.labels.get(id, episode.metadata.get("success")))
            for id, episode in self.episodes.items()
        ]
        return [info for info in infos if where is None or where(info)]

    def read(self, id: str) -> Episode:
        return self.episodes[id]

    def refresh(self) -> None:
        """Nothing to do: ``episodes`` and ``labels`` are read anew each time."""


def as_source(source: EpisodeSource | Iterable[Episode]) -> EpisodeSource:
    """``source`` itself, or a MemoryEpisodes around a sequence of episodes."""
    if hasattr(source, "infos") and hasattr(source, "read"):
        return source  # type: ignore[return-value]
    return MemoryEpisodes(source)  # type: ignore[arg-type]


class Column:
    """An array that grows along its first axis; doubling keeps appending cheap."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._buffer = np.zeros((0, *shape), dtype=dtype)
        self._length = 0

    @property
    def array(self) -> Array:
        return self._buffer[: self._length]

    def append(self, values: Array) -> None:
        needed = self._length + len(values)
        if needed > len(self._buffer):
            grown = np.zeros((max(needed, 2 * len(self._buffer)), *self._buffer.shape[1:]), self._buffer.dtype)
            grown[: self._length] = self.array
            self._buffer = grown
        self._buffer[self._length : needed] = values
        self._length = needed


class EpisodeTable:
    """Named columns over the rows (and decisions) of the episodes appended so far; append only.

    ``keys`` are array paths; ``cameras`` are names for which frame numbers are kept. Reading a key raises KeyError
    only for keys that were not asked for at construction.
    """

    def __init__(self, keys: Iterable[str], cameras: Iterable[str] = ()) -> None:
        self.keys = tuple(dict.fromkeys(keys))
        self.cameras = tuple(dict.fromkeys(cameras))
        self.ids: list[str] = []
        self.checksums: list[int] = []
        self.summaries: list[Any] = []
        self.revision = 0  # grows when ``update`` found episodes or labels changed
        self._labels: list[Any] = []
        self.metadata: list[Mapping[str, Any]] = []
        self.tracks: dict[str, list[CameraTrack]] = {name: [] for name in self.cameras}
        self.first_frame: dict[str, list[int]] = {name: [0] for name in self.cameras}
        self._first, self._first_decision = [0], [0]
        self._columns: dict[str, Column] = {}

    @property
    def rows(self) -> int:
        return self._first[-1]

    @property
    def first(self) -> Array:
        """[E + 1] first row of each episode, and the total."""
        return np.asarray(self._first, dtype=np.int64)

    @property
    def first_decision(self) -> Array:
        """[E + 1] first decision of each episode, and the total."""
        return np.asarray(self._first_decision, dtype=np.int64)

    def __getitem__(self, key: str) -> Array:
        return self._columns[key].array

    def __contains__(self, key: str) -> bool:
        return key in self._columns

    def update(self, source: EpisodeSource, where: Callable[[Any], bool] | None = None) -> int:
        """Append the episodes of ``source`` that are not here yet; returns how many. ``summaries`` then tells of all:
        what is no longer listed stays in the columns, with None as its summary."""
        source.refresh()
        listed = {info.id: info for info in source.infos(where)}
        known = set(self.ids)
        new = [info for id, info in listed.items() if id not in known]
        for info in new:
            self.append(source.read(info.id), info.crc32c)
        self.summaries = [listed.get(id) for id in self.ids]
        labels = [summary and (summary.success, summary.success_step) for summary in self.summaries]
        self.revision += labels != self._labels
        self._labels = labels
        return len(new)

    @property
    def listed(self) -> Array:
        """bool [E]: which episodes the source still lists."""
        return np.array([summary is not None for summary in self.summaries], dtype=bool)

    def append(self, episode: Episode, checksum: int) -> None:
        """Copy the columns of one episode whose file has this CRC32C.

        Raises EpisodeError for a missing array or another shape than before; nothing is added then.
        """
        values = {key: _values(episode, key) for key in self.keys}
        decisions = {len(value) for key, value in values.items() if key.startswith("decision/")}
        if len(decisions) > 1:
            raise EpisodeError("decision arrays differ in length", episode=episode.id, array="decision/")
        tracks = {name: _track(episode, name) for name in self.cameras}
        columns = {key: self._column(episode, key, value) for key, value in values.items()}
        for key, column in columns.items():
            column.append(values[key])
        for name, track in tracks.items():
            self._append_frames(episode, name, track)
        self.ids.append(episode.id)
        self.checksums.append(checksum)
        self.metadata.append(episode.metadata)
        self._first.append(self.rows + episode.rows)
        self._first_decision.append(self._first_decision[-1] + (decisions.pop() if decisions else 0))

    def _column(self, episode: Episode, key: str, value: Array) -> Column:
        column = self._columns.setdefault(key, Column(value.dtype, value.shape[1:]))
        want = column.array
        if value.dtype != want.dtype or value.shape[1:] != want.shape[1:]:
            raise EpisodeError(
                f"{value.dtype}{list(value.shape[1:])} per row",
                episode=episode.id,
                array=key,
                limit=f"{want.dtype}{list(want.shape[1:])} as in episode {self.ids[0]}",
                remedy="Train on episodes of one robot and task, or select some with where=",
            )
        return column

    def _append_frames(self, episode: Episode, name: str, track: CameraTrack) -> None:
        """Number the frames of all episodes through. A row without a new frame shows the latest one before it, as a
        policy would have seen; leading ones show the first."""
        latest = np.maximum(np.maximum.accumulate(track.frame_of_step.astype(np.int64)), 0)
        column = self._columns.setdefault(f"images/{name}", Column(np.dtype(np.int64), ()))
        column.append(self.first_frame[name][-1] + latest)
        self.first_frame[name].append(self.first_frame[name][-1] + track.frames)
        self.tracks[name].append(track)


def _values(episode: Episode, key: str) -> Array:
    if key in episode.arrays:
        return np.asarray(episode.arrays[key])
    if key in ZERO_WHEN_ABSENT:
        return np.zeros(episode.rows, dtype=ZERO_WHEN_ABSENT[key])
    if key == "rl/success":
        return _success_from_reward(episode)
    raise EpisodeError("missing", episode=episode.id, array=key, remedy=valid_choices(key, episode.arrays))


def _success_from_reward(episode: Episode) -> Array:
    """Success per step where it was not stored: a sparse 0/1 reward is success, a dense one tells nothing."""
    reward = np.asarray(episode.arrays["rl/reward"])
    return (reward == 1) & np.isin(reward, (0, 1)).all()


def _track(episode: Episode, name: str) -> CameraTrack:
    if name not in episode.cameras:
        raise EpisodeError(
            "missing", episode=episode.id, array=f"images/{name}", remedy=valid_choices(name, episode.cameras)
        )
    track = episode.cameras[name]
    if track.frames == 0:
        raise EpisodeError("no frame was recorded", episode=episode.id, array=f"images/{name}")
    return track
