"""One demonstration of a robomimic file: a group to an episode and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.episode_id import new_id
from robot_rl.data.formats.camera_tracks import decoded_steps, jpeg_track, to_uint8
from robot_rl.data.formats.columns import flat_name, select
from robot_rl.data.formats.interchange import episode_arrays, import_metadata, synthetic_stamps, with_last
from robot_rl.data.formats.robosuite_names import expression_for, foreign_columns, observation_names
from robot_rl.data.frames import decode_frame
from robot_rl.types import Array, EnvSpec

NAME = "robomimic"
OURS = "robot_rl"  # group of a demonstration, and prefix of attributes, for what only we read
IMAGE = "_image"
_OF_THE_STORE = ("schema", "schema_version", "id", "part", "length", "rows", "spec")  # it writes them itself


def write_demo(group: Any, episode: Episode, spec: EnvSpec, *, images: bool, next_obs: bool) -> None:
    """Fill ``group`` with an episode: what robomimic reads, and what it has no name for beside it."""
    steps, arrays = episode.steps, episode.arrays
    group.attrs["num_samples"] = steps
    about = {key: value for key, value in episode.metadata.items() if key not in _OF_THE_STORE}
    group.attrs[f"{OURS}_metadata"] = json.dumps(about)
    group["actions"] = arrays["action/commanded"][:steps]
    group["rewards"] = arrays["rl/reward"][:steps]
    group["dones"] = (arrays["rl/terminated"] | arrays["rl/truncated"])[:steps].astype(np.int64)
    columns = foreign_columns(spec, arrays)
    for key, value in columns.items():
        group[f"obs/{key}"] = value[:steps]
        if next_obs:
            group[f"next_obs/{key}"] = value[1:]
    for name, track in episode.cameras.items() if images else ():
        pictures = decoded_steps(track, episode.rows if next_obs else steps, name)
        _write_images(group, f"obs/{flat_name(name)}{IMAGE}", pictures[:steps])
        if next_obs:
            _write_images(group, f"next_obs/{flat_name(name)}{IMAGE}", pictures[1:])
        _write_track(group.create_group(f"{OURS}/images/{name}"), track)
    for path, value in arrays.items():
        if path.removeprefix("obs/") not in spec.observation:
            group[f"{OURS}/arrays/{path}"] = value
    for name in spec.observation:
        group[f"{OURS}/final/{name}"] = arrays[f"obs/{name}"][-1]


def _write_images(group: Any, key: str, images: Array) -> None:
    group.create_dataset(key, data=images, chunks=(1, *images.shape[1:]), compression="gzip", compression_opts=1)


def _write_track(group: Any, track: CameraTrack) -> None:
    """What robomimic has no place for: stamps, who shares which frame, and the frame of the final row alone."""
    for part in ("t_ns", "t_dev_ns", "frame_of_step"):
        if getattr(track, part) is not None:
            group[part] = getattr(track, part)
    final = int(track.frame_of_step[-1])
    if final >= 0 and final not in track.frame_of_step[:-1]:
        group["final"] = decode_frame(track, final)


def load_demo(
    demo: Any,
    spec: EnvSpec,
    source: Path,
    source_id: str,
    env_args: Mapping[str, Any],
    filter_keys: Sequence[str],
) -> Episode:
    """The episode in group ``demo`` of the file ``source``, ours or a foreign one."""
    low = {key: value[:] for key, value in demo["obs"].items() if value.ndim <= 2}
    if f"{OURS}_metadata" in demo.attrs:
        arrays = _restored_arrays(demo, spec, low)
        more = json.loads(demo.attrs[f"{OURS}_metadata"])
    else:
        arrays, more = _foreign_arrays(demo, spec, low)
    if filter_keys:
        more["filter_keys"] = list(filter_keys)
    if env_args:
        more["env_args"] = env_args
    about = import_metadata(NAME, source, source_id, spec, more)
    cameras = [name for name in spec.cameras if f"obs/{flat_name(name)}{IMAGE}" in demo]
    return Episode(new_id(), arrays, about, {name: _track(demo, name, arrays) for name in cameras})


def _restored_arrays(demo: Any, spec: EnvSpec, low: Mapping[str, Array]) -> dict[str, Array]:
    import h5py

    arrays: dict[str, Array] = {}
    stored = demo[f"{OURS}/arrays"]
    stored.visititems(
        lambda path, node: arrays.update({path: node[:]}) if isinstance(node, h5py.Dataset) else None  # type: ignore[func-returns-value]
    )
    for name, value in spec.observation.items():
        rows = select(expression_for(name), low).reshape(-1, *value.shape)
        arrays[f"obs/{name}"] = with_last(rows, demo[f"{OURS}/final/{name}"][()])
    return arrays


def _foreign_arrays(demo: Any, spec: EnvSpec, low: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Arrays of a file that is not ours. Rewards are 0/1 by robomimic's convention: a positive one is a success."""
    rewards = demo["rewards"][:] if "rewards" in demo else np.zeros(len(demo["actions"]))
    success = bool(rewards.max(initial=0.0) > 0.0) if "rewards" in demo else None
    arrays = episode_arrays(
        demo["actions"][:], rewards, period_ns=spec.step_period_ns, terminated=bool(success and rewards[-1] > 0)
    )
    after = demo.get("next_obs", demo["obs"])
    last = {key: after[key][-1:] for key in low}
    names = observation_names({key: value.shape[1:] for key, value in low.items()})
    for name, expression in names.items():
        rows = select(expression, low).astype(np.float32)
        arrays[f"obs/{name}"] = np.concatenate((rows, select(expression, last).astype(np.float32)))
    return arrays, {
        **synthetic_stamps(spec),
        "success": success,
        "judged_by": "reward",
        "end_reason": "success" if success else "end of recording",
        "total_reward": float(rewards.sum()),
        "final_observation": "from next_obs" if "next_obs" in demo else "repeated: the source has no next_obs",
    }


def _track(demo: Any, name: str, arrays: Mapping[str, Array]) -> CameraTrack:
    """A camera; frames that rows shared when the file was written are shared again, with their stamps."""
    images, stamps = demo[f"obs/{flat_name(name)}{IMAGE}"], arrays["time/t_ns"]
    kept = demo.get(f"{OURS}/images/{name}")
    steps, rows = len(images), len(stamps)
    if kept is None:
        frame_of_step = np.minimum(np.arange(rows), steps - 1)
        return jpeg_track(to_uint8(images[:], 1.0), stamps[:steps], frame_of_step)
    original, pictures = kept["frame_of_step"][:], images[:]
    if "final" in kept:
        pictures = with_last(pictures, kept["final"][:])
    frames, first = np.unique(original[: len(pictures)], return_index=True)
    frame_of_step = np.minimum(np.searchsorted(frames, original), len(frames) - 1)
    track = jpeg_track(pictures[first], kept["t_ns"][:][frames], frame_of_step)
    return replace(track, t_dev_ns=kept["t_dev_ns"][:][frames]) if "t_dev_ns" in kept else track
