"""robomimic HDF5: ``data/demo_<i>/{actions, rewards, dones, obs/<key>}``, ``data.attrs['env_args']``, ``mask/<key>``.

Names of robosuite's observations become ours and back (arm0/tcp_pose is robot0_eef_pos and robot0_eef_quat). Files of
ours carry, in a group that robomimic does not look at, whatever it has no name for, so nothing is lost on the way back
but the pixels' last bits (frames are decoded to uint8 arrays and encoded again).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.episode_id import new_id
from robot_rl.data.formats.camera_tracks import decoded_steps, jpeg_track, to_uint8
from robot_rl.data.formats.columns import flat_name, select
from robot_rl.data.formats.hdf5 import created, opened, told
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
from robot_rl.data.formats.robosuite_names import (
    array_spec,
    expression_for,
    foreign_columns,
    observation_names,
    robot_of,
    task_of,
    width_of,
)
from robot_rl.data.frames import decode_frame
from robot_rl.errors import StoreError
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, CameraSpec, EnvSpec

NAME = "robomimic"
SPLITS = ("train", "valid", "test")
_OURS = "robot_rl"  # group of a demonstration, and prefix of attributes, for what only we read
_IMAGE = "_image"
_ROBOSUITE_TYPE = 1  # robomimic's number for environments of robosuite
_OF_THE_STORE = ("schema", "schema_version", "id", "part", "length", "rows", "spec")  # it writes them itself


@dataclass(frozen=True)
class RobomimicFormat:
    """``images=false`` leaves cameras out; ``next_obs`` also writes the observations after each step, as some learners
    want them (it doubles the file); ``env_args`` is JSON for robomimic to build its environment from, when the episodes
    did not come with one.
    """

    images: bool = True
    next_obs: bool = False
    env_args: str = ""
    step_rate_hz: float = 20.0
    overwrite: bool = False

    def read(self, source: Path) -> RecordingSet:
        """The demonstrations of a file. Raises StoreError where it is none or holds no observations."""
        require(source, "HDF5 file")
        with opened(source) as file:
            demos = demo_names(file, source)
            first = file["data"][demos[0]]
            if "obs" not in first:
                raise StoreError(
                    f"'{source}' has no observations in data/{demos[0]}",
                    limit="data/demo_<i>/obs/<key>",
                    remedy="Raw demonstrations of robosuite come in with format=robosuite_demos",
                )
            env_args = told(file["data"].attrs, "env_args", source)
            spec = self._spec(file, first, env_args)
            masks = _masks(file)
            recordings = [
                self._recording(source, spec, env_args, index, name, file["data"][name], masks.get(name, ()))
                for index, name in enumerate(demos)
            ]
            dropped = [] if _OURS in first else [key for key in ("states", "next_obs") if key in first]
        return RecordingSet(spec, recordings, dropped)

    def write(self, recordings: RecordingSet, target: Path) -> Sequence[str]:
        """One HDF5 file."""
        if not recordings.recordings:
            raise StoreError("no episodes to export", remedy="Check the filter, or record some first")
        masks: dict[str, list[str]] = {}
        env_args = self.env_args
        with complete_or_nothing(target, overwrite=self.overwrite) as part, created(part) as (file, check):
            data = file.create_group("data")
            for index, recording in enumerate(recordings.recordings):
                name, episode = f"demo_{index}", recording.load()
                self._write_demo(data.create_group(name), episode, recordings.spec)
                for key in {recording.split, *episode.metadata.get("filter_keys", ())} - {""}:
                    masks.setdefault(key, []).append(name)
                check()
                env_args = env_args or json.dumps(episode.metadata.get("env_args", {}))
            data.attrs.update({"total": recordings.steps, "env_args": env_args})
            data.attrs[f"{_OURS}_spec"] = json.dumps(recordings.spec.to_json())
            for key, names in sorted(masks.items()):
                file.create_dataset(f"mask/{key}", data=np.array(names, dtype="S"))
        return [] if self.images or not recordings.spec.cameras else ["images"]

    # --- reading

    def _spec(self, file: Any, demo: Any, env_args: Mapping[str, Any]) -> EnvSpec:
        if f"{_OURS}_spec" in file["data"].attrs:
            spec = EnvSpec.from_json(json.loads(file["data"].attrs[f"{_OURS}_spec"]))
            return spec if self.images else replace(spec, cameras={})
        rate_hz = float(env_args.get("env_kwargs", {}).get("control_freq", self.step_rate_hz))
        shapes = {key: value.shape[1:] for key, value in demo["obs"].items()}
        robots, env_name = env_args.get("env_kwargs", {}).get("robots", "unknown"), str(env_args.get("env_name", ""))
        robosuite = env_args.get("type") == _ROBOSUITE_TYPE
        version = str(env_args.get("env_version", "")) if robosuite else ""
        return EnvSpec(
            robot=robot_of(robots) if robosuite else (robots if isinstance(robots, str) else "+".join(robots)).lower(),
            task=task_of(env_name) if robosuite else env_name.lower(),
            step_rate_hz=rate_hz,
            observation={
                name: array_spec(name, width_of(expression, shapes), version)
                for name, expression in observation_names(shapes).items()
            },
            action=ActionSpec((_raw_action(file),)),
            cameras={
                key.removesuffix(_IMAGE): CameraSpec(shape[0], shape[1], rate_hz, shape[2])
                for key, shape in shapes.items()
                if len(shape) == 3 and self.images
            },
        )

    def _recording(
        self,
        source: Path,
        spec: EnvSpec,
        env_args: Mapping[str, Any],
        index: int,
        name: str,
        demo: Any,
        filter_keys: Sequence[str],
    ) -> Recording:
        content = {"actions": demo["actions"][:]}
        content |= {key: value[:] for key, value in demo["obs"].items() if value.ndim <= 2}
        source_id = content_id(NAME, index, content)

        def load() -> Episode:
            with opened(source) as file:
                return _load(file["data"][name], spec, source, source_id, env_args, filter_keys)

        split = next((key for key in SPLITS if key in filter_keys), "")
        return Recording(source_id, len(content["actions"]), load, split)

    # --- writing

    def _write_demo(self, group: Any, episode: Episode, spec: EnvSpec) -> None:
        steps, arrays = episode.steps, episode.arrays
        group.attrs["num_samples"] = steps
        about = {key: value for key, value in episode.metadata.items() if key not in _OF_THE_STORE}
        group.attrs[f"{_OURS}_metadata"] = json.dumps(about)
        group["actions"] = arrays["action/commanded"][:steps]
        group["rewards"] = arrays["rl/reward"][:steps]
        group["dones"] = (arrays["rl/terminated"] | arrays["rl/truncated"])[:steps].astype(np.int64)
        columns = foreign_columns(spec, arrays)
        for key, value in columns.items():
            group[f"obs/{key}"] = value[:steps]
            if self.next_obs:
                group[f"next_obs/{key}"] = value[1:]
        for name, track in episode.cameras.items() if self.images else ():
            images = decoded_steps(track, episode.rows if self.next_obs else steps, name)
            _write_images(group, f"obs/{flat_name(name)}{_IMAGE}", images[:steps])
            if self.next_obs:
                _write_images(group, f"next_obs/{flat_name(name)}{_IMAGE}", images[1:])
            _write_track(group.create_group(f"{_OURS}/images/{name}"), track)
        for path, value in arrays.items():
            if path.removeprefix("obs/") not in spec.observation:
                group[f"{_OURS}/arrays/{path}"] = value
        for name in spec.observation:
            group[f"{_OURS}/final/{name}"] = arrays[f"obs/{name}"][-1]


# --- files and names --------------------------------------------------------------------------------------------------


def demo_names(file: Any, source: Path) -> list[str]:
    """Demonstrations in the order of their numbers. Raises StoreError when there are none."""
    names = [name for name in file.get("data", ()) if re.fullmatch(r"demo_\d+", name)]
    if not names:
        raise StoreError(f"'{source}' holds no demonstrations", limit="groups data/demo_<i>")
    return sorted(names, key=lambda name: int(name[5:]))


def _raw_action(file: Any) -> ActionPart:
    """The environment's own action; limits -1 to 1 where the data keep to them, else the range of the data."""
    low, high = range_of([file["data"][name]["actions"][:] for name in file["data"]])
    if min(low) >= -1.02 and max(high) <= 1.02:
        low, high = (-1.0,) * len(low), (1.0,) * len(high)
    return ActionPart("action", ActionKind.RAW, low, high)


def _masks(file: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key in file.get("mask", ()):
        for name in file["mask"][key][:]:
            found.setdefault(name.decode() if isinstance(name, bytes) else str(name), []).append(key)
    return found


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


# --- one demonstration ------------------------------------------------------------------------------------------------


def _load(
    demo: Any,
    spec: EnvSpec,
    source: Path,
    source_id: str,
    env_args: Mapping[str, Any],
    filter_keys: Sequence[str],
) -> Episode:
    low = {key: value[:] for key, value in demo["obs"].items() if value.ndim <= 2}
    if f"{_OURS}_metadata" in demo.attrs:
        arrays = _restored_arrays(demo, spec, low)
        more = json.loads(demo.attrs[f"{_OURS}_metadata"])
    else:
        arrays, more = _foreign_arrays(demo, spec, low)
    if filter_keys:
        more["filter_keys"] = list(filter_keys)
    if env_args:
        more["env_args"] = env_args
    about = import_metadata(NAME, source, source_id, spec, more)
    cameras = [name for name in spec.cameras if f"obs/{flat_name(name)}{_IMAGE}" in demo]
    return Episode(new_id(), arrays, about, {name: _track(demo, name, arrays) for name in cameras})


def _restored_arrays(demo: Any, spec: EnvSpec, low: Mapping[str, Array]) -> dict[str, Array]:
    import h5py

    arrays: dict[str, Array] = {}
    stored = demo[f"{_OURS}/arrays"]
    stored.visititems(
        lambda path, node: arrays.update({path: node[:]}) if isinstance(node, h5py.Dataset) else None  # type: ignore[func-returns-value]
    )
    for name, value in spec.observation.items():
        rows = select(expression_for(name), low).reshape(-1, *value.shape)
        arrays[f"obs/{name}"] = with_last(rows, demo[f"{_OURS}/final/{name}"][()])
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
    images, stamps = demo[f"obs/{flat_name(name)}{_IMAGE}"], arrays["time/t_ns"]
    kept = demo.get(f"{_OURS}/images/{name}")
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
