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

from robot_rl.data.episode import Episode
from robot_rl.data.formats.hdf5 import created, opened, told
from robot_rl.data.formats.interchange import (
    Recording,
    RecordingSet,
    complete_or_nothing,
    content_id,
    range_of,
    require,
)
from robot_rl.data.formats.robomimic_demo import IMAGE, NAME, OURS, load_demo, write_demo
from robot_rl.data.formats.robosuite_names import (
    array_spec,
    observation_names,
    robot_of,
    task_of,
    width_of,
)
from robot_rl.errors import StoreError
from robot_rl.types import ActionKind, ActionPart, ActionSpec, CameraSpec, EnvSpec

SPLITS = ("train", "valid", "test")
_ROBOSUITE_TYPE = 1  # robomimic's number for environments of robosuite


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
            dropped = [] if OURS in first else [key for key in ("states", "next_obs") if key in first]
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
                group = data.create_group(name)
                write_demo(group, episode, recordings.spec, images=self.images, next_obs=self.next_obs)
                for key in {recording.split, *episode.metadata.get("filter_keys", ())} - {""}:
                    masks.setdefault(key, []).append(name)
                check()
                env_args = env_args or json.dumps(episode.metadata.get("env_args", {}))
            data.attrs.update({"total": recordings.steps, "env_args": env_args})
            data.attrs[f"{OURS}_spec"] = json.dumps(recordings.spec.to_json())
            for key, names in sorted(masks.items()):
                file.create_dataset(f"mask/{key}", data=np.array(names, dtype="S"))
        return [] if self.images or not recordings.spec.cameras else ["images"]

    def _spec(self, file: Any, demo: Any, env_args: Mapping[str, Any]) -> EnvSpec:
        if f"{OURS}_spec" in file["data"].attrs:
            spec = EnvSpec.from_json(json.loads(file["data"].attrs[f"{OURS}_spec"]))
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
                key.removesuffix(IMAGE): CameraSpec(shape[0], shape[1], rate_hz, shape[2])
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
                return load_demo(file["data"][name], spec, source, source_id, env_args, filter_keys)

        split = next((key for key in SPLITS if key in filter_keys), "")
        return Recording(source_id, len(content["actions"]), load, split)


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
