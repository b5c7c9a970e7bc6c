"""Raw demonstrations of robosuite (``collect_human_demonstrations``): actions and MuJoCo states, no observations.

The states are replayed in the installed robosuite to see them. Actions of the OSC_POSE controller become what they
meant, absolute TCP targets in the base frame (its goal is the measured pose plus the scaled delta) and a gripper
opening; ``action=raw`` keeps the controller's own numbers. Reward is 0/1 success by the environment's rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.episode_id import new_id
from robot_rl.data.formats.camera_tracks import jpeg_track
from robot_rl.data.formats.hdf5 import opened, told
from robot_rl.data.formats.interchange import (
    Recording,
    RecordingSet,
    content_id,
    episode_arrays,
    import_metadata,
    require,
    synthetic_stamps,
    with_last,
)
from robot_rl.data.formats.robomimic import demo_names
from robot_rl.data.formats.robosuite_names import robot_of, task_of
from robot_rl.data.formats.robosuite_replay import RobosuiteReplay
from robot_rl.data.formats.robosuite_view import view_spec
from robot_rl.errors import ConfigError, EpisodeError, StoreError, valid_choices
from robot_rl.geometry import (
    pose_inverse,
    pose_multiply,
    quat_xyzw_from_rotvec,
    quat_xyzw_multiply,
    quat_xyzw_near,
)
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, CameraSpec, EnvSpec

NAME = "robosuite_demos"
_REACH_M = 2.0  # no arm of robosuite reaches farther: limits of a TCP target in its base frame
_OSC_SIZE = 7  # translation, rotation vector, gripper


@dataclass(frozen=True)
class RobosuiteDemosFormat:
    """``cameras`` renders {our name: robosuite's camera}, e.g. {front: agentview}; ``action`` is ``tcp_pose`` or
    ``raw``.
    """

    action: str = "tcp_pose"
    cameras: Mapping[str, str] = field(default_factory=dict)
    image_size_px: int = 128

    def __post_init__(self) -> None:
        if self.action not in ("tcp_pose", "raw"):
            raise ConfigError(f"no action '{self.action}'", remedy=valid_choices(self.action, ("tcp_pose", "raw")))

    def read(self, source: Path) -> RecordingSet:
        """The demonstrations of a file. Raises StoreError for what the installed robosuite cannot show."""
        require(source, "HDF5 file")
        with opened(source) as file:
            names = demo_names(file, source)
            data = file["data"]
            missing = [key for key in ("states", "actions") if key not in data[names[0]]]
            if missing or not {"env_info", "env_args"} & set(data.attrs):
                raise StoreError(
                    f"'{source}' is no raw demonstration of robosuite: no {', '.join(missing) or 'env_info'}",
                    remedy="Files with observations come in with format=robomimic",
                )
            scene = _Scene.of(data.attrs, source)
            reader = _Reader(source, self, scene, int(data[names[0]]["actions"].shape[1]))
            reader.replay.place(_model_xml(data[names[0]], source))
            for camera in self.cameras.values():
                reader.replay.check_camera(camera)
            recordings = []
            for index, name in enumerate(names):
                states, actions = data[name]["states"][:], data[name]["actions"][:]
                source_id = content_id(NAME, index, {"states": states, "actions": actions})
                recordings.append(reader.recording(name, source_id, states, actions, _model_xml(data[name], source)))
        return RecordingSet(reader.spec, recordings, ["MuJoCo states other than what is observed"])

    def write(self, recordings: RecordingSet, target: Path) -> Sequence[str]:
        """Not possible: our episodes hold no MuJoCo states. Raises StoreError."""
        raise StoreError("robosuite_demos can only be imported", remedy="Export with format=robomimic")


@dataclass(frozen=True)
class _Scene:
    """What the file says of its environment."""

    env_name: str
    robots: tuple[str, ...]
    configuration: str | None
    controller: Mapping[str, Any]
    rate_hz: float
    version: str

    @staticmethod
    def of(attributes: Mapping[str, Any], source: Path) -> _Scene:
        about = told(attributes, "env_info", source) or told(attributes, "env_args", source)
        arguments = {**about, **about.get("env_kwargs", {})}
        missing = {"env_name", "robots"} - set(arguments)
        if missing:
            raise StoreError(f"'{source}' does not tell its {' and '.join(sorted(missing))}")
        robots = arguments["robots"]
        controller = arguments.get("controller_configs") or {}
        return _Scene(
            env_name=arguments["env_name"],
            robots=(robots,) if isinstance(robots, str) else tuple(robots),
            configuration=arguments.get("env_configuration"),
            controller=controller[0] if isinstance(controller, list) else controller,
            rate_hz=float(arguments.get("control_freq", 20)),
            version=str(attributes.get("repository_version", "unknown")),
        )


@dataclass(frozen=True)
class _Reader:
    """Replays one demonstration at a time in one environment, made on first use."""

    source: Path
    options: RobosuiteDemosFormat
    scene: _Scene
    action_size: int

    @cached_property
    def replay(self) -> RobosuiteReplay:
        scene = self.scene
        return RobosuiteReplay(scene.env_name, scene.robots, scene.configuration, bool(self.options.cameras))

    @cached_property
    def as_pose(self) -> bool:
        """Whether the actions can be told as TCP targets."""
        known = self.scene.controller.get("type") == "OSC_POSE" and self.scene.controller.get("control_delta", True)
        fits = self.action_size == _OSC_SIZE * len(self.scene.robots)
        return self.options.action == "tcp_pose" and known and fits

    @cached_property
    def spec(self) -> EnvSpec:
        rate_hz, size = self.scene.rate_hz, self.options.image_size_px
        return EnvSpec(
            robot=robot_of(self.scene.robots),
            task=task_of(self.scene.env_name),
            step_rate_hz=rate_hz,
            observation={
                name: view_spec(name, value, len(self.scene.robots)) for name, value in self.replay.observe().items()
            },
            action=ActionSpec(tuple(self._action_parts())),
            cameras={name: CameraSpec(size, size, rate_hz) for name in self.options.cameras},
            arm_parts=tuple(f"arm{i}" for i in range(len(self.scene.robots))),
        )

    def recording(self, name: str, source_id: str, states: Array, actions: Array, model_xml: str) -> Recording:
        def load() -> Episode:
            try:
                self.replay.place(model_xml)
                return self._load(name, source_id, states, actions)
            except StoreError as error:  # of the same kind, since an EpisodeError concerns this one alone
                what = f"'{self.source}', {name}: {error.what}"
                raise type(error)(what, limit=error.limit, remedy=error.remedy) from error

        return Recording(source_id, len(actions), load)

    def _load(self, name: str, source_id: str, states: Array, actions: Array) -> Episode:
        if not len(actions) or len(states) != len(actions):
            raise EpisodeError(f"{len(states)} states and {len(actions)} actions", limit="one state for each action")
        seen: list[dict[str, Array]] = []
        success, targets = np.zeros(len(states), dtype=bool), np.zeros((len(states), self.spec.action.size))
        images: dict[str, list[Array]] = {camera: [] for camera in self.options.cameras}
        for row, (state, action) in enumerate(zip(states, actions, strict=True)):
            self.replay.set_state(state)
            seen.append(self.replay.observe())
            success[row] = self.replay.succeeded()
            targets[row] = self._target(action) if self.as_pose else action
            for camera, source in self.options.cameras.items():
                images[camera].append(self.replay.image(source, self.options.image_size_px))
        # Reward t is that of the state after action t; the one after the last action was not recorded.
        rewards = np.append(success[1:], success[-1])
        done = bool(rewards[-1])
        arrays = episode_arrays(
            _continuous(targets, self.spec.action),
            rewards,
            period_ns=self.spec.step_period_ns,
            terminated=done,
        )
        stamped = self._stamps(arrays, states[:, 0])
        for key in seen[0]:
            column = _continuous_pose(np.stack([item[key] for item in seen]), key).astype(np.float32)
            arrays[f"obs/{key}"] = with_last(column, column[-1])
        tracks = {camera: self._track(np.stack(frames), arrays["time/t_ns"]) for camera, frames in images.items()}
        about = self._about(name, done) | ({} if stamped else synthetic_stamps(self.spec))
        return Episode(new_id(), arrays, import_metadata(NAME, self.source, source_id, self.spec, about), tracks)

    def _about(self, name: str, success: bool) -> dict[str, Any]:
        return {
            "success": success,
            "judged_by": "rule",
            "end_reason": "success" if success else "end of recording",
            "final_observation": "repeated: the source ends with the last action",
            "source_demo": name,
            "robosuite_recorded": self.scene.version,
            "robosuite_replayed": self.replay.version,
            "controller": dict(self.scene.controller),
        }

    def _action_parts(self) -> list[ActionPart]:
        if not self.as_pose:
            ones = np.ones(self.action_size)
            return [ActionPart("action", ActionKind.RAW, tuple(-ones), tuple(ones))]
        parts = []
        for i in range(len(self.scene.robots)):
            limit = (_REACH_M,) * 3 + (1.0,) * 4
            low = tuple(-value for value in limit)
            parts.append(ActionPart(f"arm{i}/tcp", ActionKind.TCP_POSE, low, limit, unit="m, quat_xyzw", frame="base"))
            parts.append(ActionPart(f"arm{i}/gripper", ActionKind.GRIPPER, (0.0,), (1.0,)))
        return parts

    def _target(self, action: Array) -> Array:
        """What OSC_POSE made of an action: the pose it was told to go to, per arm, and the gripper's opening.

        The delta is in world axes, scaled from [-1, 1] to ``output_max`` [m, rad] and added to the measured pose; the
        gripper closes for positive numbers.
        """
        targets = []
        for arm, command in enumerate(action.reshape(-1, _OSC_SIZE)):
            delta = np.clip(command[:6], -1.0, 1.0) * np.asarray(self.scene.controller["output_max"], dtype=np.float64)
            pose = self.replay.tcp_pose(arm)
            turned = quat_xyzw_multiply(quat_xyzw_from_rotvec(delta[3:]), pose[3:])
            goal = np.concatenate((pose[:3] + delta[:3], turned))
            targets += [pose_multiply(pose_inverse(self.replay.base_pose(arm)), goal), [float(command[6] <= 0.0)]]
        return np.concatenate(targets)

    def _stamps(self, arrays: dict[str, Array], seconds: Array) -> bool:
        """Put the simulator's clock in as stamps where it rises throughout."""
        stamps = np.round(np.append(seconds, seconds[-1] + 1.0 / self.scene.rate_hz) * 1e9).astype(np.int64)
        if (np.diff(stamps) <= 0).any():
            return False
        arrays["time/t_ns"] = stamps
        return True

    def _track(self, frames: Array, stamps: Array) -> CameraTrack:
        return jpeg_track(frames, stamps[:-1], np.minimum(np.arange(len(frames) + 1), len(frames) - 1))


def _model_xml(demo: Any, source: Path) -> str:
    """The model of a demonstration: in the file, or, before 1.2, a file of its own in ``models/``."""
    told = demo.attrs.get("model_file", "")
    if told.lstrip().startswith("<"):
        return told
    path = source.parent / "models" / told
    require(path, "model of the demonstration")
    return path.read_text()


def _continuous_pose(values: Array, name: str) -> Array:
    """Poses [N, 7] whose quaternion never jumps to its negative; anything else unchanged."""
    if not name.endswith("_pose"):
        return values
    values = values.copy()
    for row in range(1, len(values)):
        values[row, 3:] = quat_xyzw_near(values[row, 3:], values[row - 1, 3:])
    return values


def _continuous(targets: Array, spec: ActionSpec) -> Array:
    result = targets.copy()
    for part in spec.parts:
        if part.kind == ActionKind.TCP_POSE:
            result[:, spec.slices[part.name]] = _continuous_pose(targets[:, spec.slices[part.name]], "tcp_pose")
    return result
