"""The replay buffer of diffusion_policy and UMI: ``data/<key>`` concatenated over episodes, ``meta/episode_ends``.

Zarr format 2, a folder or a ``.zip``. The layout knows neither stamps, names, units, rewards nor a final observation:
stamps are synthetic (metadata says so), the last observation is repeated as the final row (``final_observation``),
and what cannot be written is listed. Exports carry our spec as an attribute, so that they come back with all names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data import pusht
from robot_rl.data.episode import Episode
from robot_rl.data.episode_id import new_id
from robot_rl.data.formats.camera_tracks import brightness_scale, decoded_steps, jpeg_track, to_uint8
from robot_rl.data.formats.columns import names_in, select
from robot_rl.data.formats.interchange import (
    Recording,
    RecordingSet,
    complete_or_nothing,
    content_id,
    episode_arrays,
    import_metadata,
    range_of,
    require,
    synthetic_stamps,
    with_last,
)
from robot_rl.data.formats.replay_buffer import (
    LOW_DIM_CHUNK_ROWS,
    check_lengths,
    create_array,
    create_image_array,
    episode_ends,
    open_buffer,
    read_rows,
    zip_folder,
)
from robot_rl.data.formats.replay_layout import Layout, export_layout, is_pusht, pusht_layout
from robot_rl.errors import EpisodeError, StoreError, valid_choices
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, ArraySpec, CameraSpec, EnvSpec

_SPEC_ATTRIBUTE = "robot_rl_spec"
NAME = "diffusion_policy"


@dataclass(frozen=True)
class DiffusionPolicyFormat:
    """``images=false`` leaves cameras out. ``observation``, ``cameras`` and ``action`` replace the default mapping of a
    store that is neither Push-T nor written by us: our name -> expression over its keys.
    """

    images: bool = False
    observation: Mapping[str, str] = field(default_factory=dict)
    cameras: Mapping[str, str] = field(default_factory=dict)
    action: str = "action"
    robot: str = "unknown"
    task: str = ""
    step_rate_hz: float = 10.0
    overwrite: bool = False

    def read(self, source: Path) -> RecordingSet:
        """The episodes of a replay buffer. Raises StoreError where there is none."""
        require(source, "replay buffer")
        group = open_buffer(source)
        ends = episode_ends(group, source)
        everything = dict(group["data"].members())
        arrays = {name: each for name, each in everything.items() if _is_numbers(each)}
        low = {name: read_rows(array, source) for name, array in arrays.items() if array.ndim < 4}
        layout = self._layout(group, arrays, low)
        check_lengths(arrays, int(ends[-1]), source)
        starts = np.concatenate(([0], ends[:-1]))
        reader = _Reader(source, layout, low, arrays)
        return RecordingSet(
            spec=layout.spec,
            recordings=[
                reader.recording(index, int(start), int(end))
                for index, (start, end) in enumerate(zip(starts, ends, strict=True))
            ],
            dropped=_dropped(layout, everything),
        )

    def write(self, recordings: RecordingSet, target: Path) -> Sequence[str]:
        """Write a folder, or one file when ``target`` ends in ``.zip``."""
        layout = export_layout(recordings.spec, self.images)
        with complete_or_nothing(target, overwrite=self.overwrite) as part:
            folder = part.with_name("store") if target.suffix == ".zip" else part
            _write_folder(folder, recordings, layout)
            if target.suffix == ".zip":
                zip_folder(folder, part)
        left = [
            "stamps",
            "rewards and ends",
            "executed, policy and human actions",
            "flags",
            "final observations",
            "metadata of the episodes",
        ]
        return [*left, "images"] if recordings.spec.cameras and not layout.cameras else left

    def _layout(self, group: Any, arrays: Mapping[str, Any], low: Mapping[str, Array]) -> Layout:
        if _SPEC_ATTRIBUTE in group.attrs:
            return export_layout(EnvSpec.from_json(group.attrs[_SPEC_ATTRIBUTE]), self.images)
        if not self.observation and is_pusht(arrays):
            return pusht_layout(arrays, self.images)
        return self._generic_layout(arrays, low)

    def _generic_layout(self, arrays: Mapping[str, Any], low: Mapping[str, Array]) -> Layout:
        """Every low-dimensional array an observation, every image array a camera, the action without meaning (raw)."""
        action = select(self.action, low)
        used = names_in(self.action)
        observation = self.observation or {name: name for name in low if name not in used}
        if not observation:
            raise StoreError("the source has no array but the action", limit="an observation in data/<key>")
        cameras = self.cameras or {name: name for name, array in arrays.items() if array.ndim == 4}
        for key in cameras.values():
            if key not in arrays or arrays[key].ndim != 4:
                known = [name for name, array in arrays.items() if array.ndim == 4]
                raise StoreError(f"the source has no images '{key}'", remedy=valid_choices(key, known))
        low_limit, high_limit = range_of([action])
        spec = EnvSpec(
            robot=self.robot,
            task=self.task,
            step_rate_hz=self.step_rate_hz,
            observation={
                name: ArraySpec(select(expression, low).shape[1:]) for name, expression in observation.items()
            },
            action=ActionSpec((ActionPart("action", ActionKind.RAW, low_limit, high_limit),)),
            cameras={name: _camera(arrays[key], self.step_rate_hz) for name, key in cameras.items() if self.images},
        )
        return Layout(spec, observation, self.action, cameras if self.images else {})


@dataclass(frozen=True)
class _Reader:
    """Loads one episode at a time; low-dimensional arrays are in memory, images are read by slice."""

    source: Path
    layout: Layout
    low: Mapping[str, Array]
    arrays: Mapping[str, Any]

    def recording(self, index: int, start: int, end: int) -> Recording:
        content = {name: value[start:end] for name, value in self.low.items()}
        source_id = content_id(NAME, index, content)
        return Recording(source_id, end - start, lambda: self._load(index, start, end, source_id))

    def _load(self, index: int, start: int, end: int, source_id: str) -> Episode:
        spec = self.layout.spec
        low = {name: value[start:end] for name, value in self.low.items()}
        observation = {
            f"obs/{name}": select(expression, low)
            .astype(np.float32)
            .reshape(end - start, *spec.observation[name].shape)
            for name, expression in self.layout.observation.items()
        }
        rewards, more = _outcome(spec, observation)
        arrays = episode_arrays(
            select(self.layout.action, low), rewards, period_ns=spec.step_period_ns, terminated=bool(more["success"])
        )
        arrays |= {name: with_last(value, value[-1]) for name, value in observation.items()}
        more |= synthetic_stamps(spec)
        more |= {"final_observation": "repeated: the source ends with the last action", "source_index": index}
        return Episode(
            id=new_id(),
            arrays=arrays,
            metadata=import_metadata(NAME, self.source, source_id, spec, more),
            cameras={
                name: self._track(key, start, end, arrays["time/t_ns"]) for name, key in self.layout.cameras.items()
            },
        )

    def _track(self, key: str, start: int, end: int, t_ns: Array) -> Any:
        raw = read_rows(self.arrays[key], self.source, slice(start, end))
        scale = brightness_scale(read_rows(self.arrays[key], self.source, slice(1)))  # the same for all episodes
        frame_of_step = np.minimum(np.arange(end - start + 1), end - start - 1)
        return jpeg_track(to_uint8(raw, scale), t_ns[:-1], frame_of_step)


def _outcome(spec: EnvSpec, observation: Mapping[str, Array]) -> tuple[Array, dict[str, Any]]:
    """Rewards [T] and who judged. Push-T: reward t is that of the observation after action t, by the task's rule; the
    one after the last action was not recorded, so the last one known stands in. The demonstrators ended each episode
    when they held it for done, which is the success that is stored.
    """
    if spec.task == "pusht":
        coverage = pusht.tee_coverage(observation["obs/tee/pose"])
        rewards = pusht.coverage_reward(np.append(coverage[1:], coverage[-1]))
        return rewards, {
            "success": True,
            "judged_by": "demonstrator",
            "end_reason": "success",
            "last_coverage": round(float(coverage[-1]), 6),
            "total_reward": float(rewards.sum()),
        }
    steps = len(next(iter(observation.values())))
    return np.zeros(steps, dtype=np.float32), {"success": None, "judged_by": "nobody", "end_reason": "end of recording"}


def _camera(array: Any, rate_hz: float) -> CameraSpec:
    _, height, width, channels = array.shape
    return CameraSpec(height=height, width=width, rate_hz=rate_hz, channels=channels)


def _is_numbers(member: Any) -> bool:
    return hasattr(member, "dtype") and member.ndim > 0 and member.dtype.kind in "fiub"


def _dropped(layout: Layout, members: Mapping[str, Any]) -> list[str]:
    expressions = [*layout.observation.values(), layout.action, *layout.cameras.values()]
    used = {name for expression in expressions for name in names_in(expression)}
    return [f"data/{name}" for name in members if name not in used]


# --- writing ---------------------------------------------------------------------------------------------------------


def _write_folder(folder: Path, recordings: RecordingSet, layout: Layout) -> None:
    import zarr

    total = recordings.steps
    group = zarr.open_group(folder, mode="w", zarr_format=2)
    group.attrs[_SPEC_ATTRIBUTE] = layout.spec.to_json()
    low = {key: np.empty((total, *shape), dtype=np.float32) for key, (_, shape) in layout.keys.items()}
    images = {
        name: create_image_array(group, layout.cameras[name], total, layout.spec.cameras[name])
        for name in layout.cameras
    }
    start, ends = 0, []
    for episode in _loaded(recordings):
        rows = slice(start, start + episode.steps)
        for key, (expression, shape) in layout.keys.items():
            low[key][rows] = select(expression, episode.arrays)[: episode.steps].reshape(-1, *shape)
        for name, array in images.items():
            if name not in episode.cameras:
                remedy = "Export with format.images=false, or only episodes that have it"
                raise EpisodeError("no frames", episode=episode.id, array=f"images/{name}", remedy=remedy)
            array[rows] = decoded_steps(episode.cameras[name], episode.steps, name)
        start += episode.steps
        ends.append(start)
    for key, value in low.items():
        create_array(group, f"data/{key}", value, (min(LOW_DIM_CHUNK_ROWS, total), *value.shape[1:]))
    create_array(group, "meta/episode_ends", np.asarray(ends, dtype=np.int64), (len(ends),))


def _loaded(recordings: RecordingSet) -> Iterator[Episode]:
    if not recordings.recordings:
        raise StoreError("no episodes to export", remedy="Check the filter, or record some first")
    for recording in recordings.recordings:
        episode = recording.load()
        if episode.steps == 0:
            raise EpisodeError("has no steps", episode=episode.id, remedy="Exclude it: this layout cannot hold it")
        if episode.steps != recording.steps:
            raise StoreError(f"episode {episode.id} has {episode.steps} steps", limit=f"{recording.steps} as listed")
        yield episode
