"""What an arm is, from one YAML that the bridge alone reads: topics, joints, kinematic chain, limits, adapters.

The dataclasses are the schema: a key that none of them has, a missing one and a value of another type are refused with
the place in the file. Nothing here needs ROS.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
import yaml

from controllers.kinematics import SerialChain
from controllers.safety_limits import SafetyLimits
from robot_rl.constructor import check_arguments
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.types import ActionKind, ActionPart, ActionSpec, Array, ArraySpec, CameraSpec, EnvSpec

TCP, JOINTS, GRIPPER = "arm0/tcp", "arm0/joints", "arm0/gripper"
INTERFACES = ("tcp_pose", "joint_position")  # only what an arm holds when commands stop
OBJECT = "object/"
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class CommandTopic:
    """Where the arm's own controller takes set points. ``timeout_s`` is after how long without one it holds by itself
    (0: it does not), ``latency_s`` the time from a set point to the motion, which is compensated."""

    interface: str
    topic: str
    timeout_s: float
    latency_s: float = 0.0
    frame: str = "base"

    def __post_init__(self) -> None:
        if self.interface not in INTERFACES:
            raise ConfigError(
                f"command.interface is '{self.interface}'",
                remedy=f"Only position-type interfaces reach an arm. {valid_choices(self.interface, INTERFACES)}",
            )
        if not 0.0 <= self.latency_s <= 0.3:
            raise ConfigError(f"command.latency_s is {self.latency_s}", limit="0 to 0.3 s")


@dataclass(frozen=True)
class GripperTopics:
    """The gripper's state (``joint`` of a JointState) and command (Float64), which are ``closed`` and ``open`` in
    whatever unit it has. Without ``command_topic`` an adapter commands it."""

    state_topic: str = "gripper/state"
    joint: str = "gripper"
    command_topic: str = ""
    closed: float = 0.0
    open: float = 1.0

    def opening(self, value: float) -> float:
        """0 closed to 1 open."""
        return min(max((value - self.closed) / (self.open - self.closed), 0.0), 1.0)

    def value(self, opening: float) -> float:
        """Inverse of ``opening``."""
        return self.closed + opening * (self.open - self.closed)


@dataclass(frozen=True)
class CameraTopic:
    """A stream of compressed images. ``latency_s`` is taken off the header's stamp where a driver stamps at receipt;
    bit-identical frames for ``frozen_s`` are no pictures (0: a simulator's may be)."""

    topic: str
    height: int
    width: int
    rate_hz: float
    latency_s: float = 0.0
    frozen_s: float = 0.0
    frame: str = ""


@dataclass(frozen=True)
class ResetRoutine:
    """How the arm moves to the start of an episode: ``motion`` lifts by ``lift_m``, travels and descends at its own
    speeds, ``simulator`` asks the simulated arm. On hardware it waits for an operator (``confirm``)."""

    by: str = "motion"
    speed_m_s: float = 0.15
    speed_rad_s: float = 0.5
    joint_speed_rad_s: float = 0.4
    lift_m: float = 0.05
    tolerance_m: float = 0.01
    tolerance_rad: float = 0.05
    joint_tolerance_rad: float = 0.1
    confirm: bool = True
    confirm_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if self.by not in ("motion", "simulator"):
            raise ConfigError(f"reset.by is '{self.by}'", remedy=valid_choices(self.by, ("motion", "simulator")))


@dataclass(frozen=True)
class ArmDescription:
    """One arm. ``adapters`` name optional parts by role: gripper, fault, recovery, controller_switch."""

    robot: str
    simulated: bool
    command: CommandTopic
    joints: tuple[Mapping[str, Any], ...]  # rows of the chain's table, base to tip
    tcp_pose: tuple[float, ...]  # in the last joint's frame
    home_rad: tuple[float, ...]
    limits: Mapping[str, Any]
    gripper: GripperTopics = field(default_factory=GripperTopics)
    cameras: Mapping[str, CameraTopic] = field(default_factory=dict)
    reference_camera: str = ""
    reset: ResetRoutine = field(default_factory=ResetRoutine)
    joint_states_topic: str = "joint_states"
    external_torque_topic: str = ""  # JointState whose efforts are what others exert on the joints [N m]
    step_rate_hz: float = 20.0
    control_rate_hz: float = 100.0
    stream_timeout_s: float = 0.25
    adapters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.stream_timeout_s <= 0.25:
            raise ConfigError(f"stream_timeout_s is {self.stream_timeout_s}", limit="0 to 0.25 s")
        if self.reference_camera and self.reference_camera not in self.cameras:
            raise ConfigError(
                f"reference_camera is '{self.reference_camera}'",
                remedy=valid_choices(self.reference_camera, self.cameras),
            )
        ticks = self.control_rate_hz / self.step_rate_hz
        if not (20.0 <= self.control_rate_hz <= 500.0 and ticks >= 1.0 and abs(ticks - round(ticks)) < 1e-9):
            raise ConfigError(
                f"control_rate_hz is {self.control_rate_hz}",
                limit=f"20 to 500 Hz, a multiple of step_rate_hz {self.step_rate_hz}",
            )
        if not self.simulated and self.command.timeout_s <= 0.0:
            raise ConfigError(
                "command.timeout_s is 0: nothing would hold the arm if the bridge died",
                remedy="Name the time after which the arm's own controller holds",
            )
        if self.command.timeout_s > 0.25:
            raise ConfigError(f"command.timeout_s is {self.command.timeout_s}", limit="0.25 s: so long nobody brakes")
        if not self.simulated and self.reset.by == "simulator":
            raise ConfigError("reset.by is 'simulator' on hardware", remedy="reset: {by: motion}")
        if self.safety_limits.force_source == "measured" and not self.external_torque_topic:
            raise ConfigError("force_source is 'measured' and no external_torque_topic is named")
        if len(self.home_rad) != self.chain.dof:
            raise ConfigError(f"home_rad has {len(self.home_rad)} values", limit=f"{self.chain.dof}")

    @cached_property
    def chain(self) -> SerialChain:
        """The kinematic chain, whose joints are named as in the joint states."""
        return SerialChain.from_table(self.joints, self.tcp_pose)

    @cached_property
    def safety_limits(self) -> SafetyLimits:
        """The limits; those of the joints' ends are the chain's."""
        given = {"joint_lower_rad": tuple(self.chain.lower), "joint_upper_rad": tuple(self.chain.upper), **self.limits}
        return _make(SafetyLimits, given, "limits")

    @cached_property
    def home(self) -> Array:
        """[n] rad."""
        return np.array(self.home_rad)

    def with_images(self, size_px: int) -> ArmDescription:
        """The same arm, its images ``size_px`` high and wide; 0: as they are."""
        size = {"height": size_px, "width": size_px} if size_px else {}
        return replace(self, cameras={name: replace(camera, **size) for name, camera in self.cameras.items()})

    def env_spec(self, part: str, cameras: Sequence[str], objects: Sequence[str]) -> EnvSpec:
        """The spec of the arm commanded by ``part`` (TCP or JOINTS), with these cameras, and with these ``objects``
        that a simulator tells of (cube_pose, target_position)."""
        names, n = self.chain.names, self.chain.dof
        observation = {
            "arm0/joint_position": ArraySpec((n,), unit="rad", names=names),
            "arm0/joint_velocity": ArraySpec((n,), unit="rad/s", names=names),
            "arm0/tcp_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
            "arm0/tcp_velocity": ArraySpec((6,), unit="m/s, rad/s", frame="base"),
            "arm0/gripper_opening": ArraySpec((1,), unit="opening"),
        }
        for name in objects:
            shape, unit = ((3,), "m") if name.endswith("_position") else ((7,), "m, quat_xyzw")
            observation[f"{OBJECT}{name}"] = ArraySpec(shape, unit=unit, frame="base", privileged=True)
        chosen = {name: self.cameras[name] for name in cameras}
        return EnvSpec(
            robot=self.robot,
            step_rate_hz=self.step_rate_hz,
            observation=observation,
            action=ActionSpec((self._arm_part(part), ActionPart(GRIPPER, ActionKind.GRIPPER, (0,), (1,), "opening"))),
            cameras={
                name: CameraSpec(c.height, c.width, c.rate_hz, frame=c.frame or f"{name}_optical")
                for name, c in chosen.items()
            },
            simulated=self.simulated,
            force_source=self.safety_limits.force_source,
            limits=self.safety_limits.scalars(),
        )

    def _arm_part(self, part: str) -> ActionPart:
        limits = self.safety_limits
        if part == JOINTS:
            lower, upper = limits.arrays().joint
            return ActionPart(JOINTS, ActionKind.JOINT_POSITION, tuple(lower), tuple(upper), "rad")
        low, high = (*limits.box_lower_m, -1, -1, -1, -1), (*limits.box_upper_m, 1, 1, 1, 1)
        return ActionPart(TCP, ActionKind.TCP_POSE, low, high, "m, quat_xyzw", "base")


def load_arm(name: str) -> ArmDescription:
    """The description in a file, or of that name in $ROBOT_RL_SITE or robot_rl_bringup. Raises ConfigError."""
    path = find_arm(name)
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"arm description {path} cannot be read: {error}") from error
    return arm_from(data, str(path))


def arm_from(data: Mapping[str, Any], place: str = "arm") -> ArmDescription:
    """The description in plain data, as YAML gives it. Raises ConfigError with the place."""
    nested = {"command": CommandTopic, "gripper": GripperTopics, "reset": ResetRoutine}
    if not isinstance(data, Mapping):
        raise ConfigError(f"{place} holds {type(data).__name__}", limit="a mapping")
    given = dict(data)
    for key, kind in nested.items():
        if key in given:
            given[key] = _make(kind, given[key], f"{place}: {key}")
    cameras = given.get("cameras") or {}
    given["cameras"] = {name: _make(CameraTopic, value, f"{place}: cameras.{name}") for name, value in cameras.items()}
    return _make(ArmDescription, given, place)


def _make(kind: type[_Made], data: Any, place: str) -> _Made:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{place} is {data!r}", limit="a mapping")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise ConfigError(f"{place}: no key '{key}'", remedy=valid_choices(str(key), known))
    lacking = [n for n, f in known.items() if n not in data and f.default is MISSING and f.default_factory is MISSING]
    if lacking:
        raise ConfigError(f"{place} lacks {', '.join(lacking)}")
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    hints = get_type_hints(kind)
    given = {key: float(v) if hints[key] is float and type(v) is int else v for key, v in given.items()}
    check_arguments(kind, given)
    try:
        return kind(**given)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error.what}", limit=error.limit, remedy=error.remedy) from error


def find_arm(name: str) -> Path:
    """The file ``name``, or <name>.yaml in $ROBOT_RL_SITE, else in robot_rl_bringup. Raises ConfigError."""
    if name.endswith(".yaml"):
        return Path(name)
    folders = [Path(site)] if (site := os.environ.get("ROBOT_RL_SITE")) else []
    folders += _bringup_folders()
    for folder in folders:
        if (path := folder / f"{name}.yaml").is_file():
            return path
    known = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    raise ConfigError(f"no arm '{name}'", remedy=valid_choices(name, known))


def _bringup_folders() -> list[Path]:
    """Where the package's YAMLs are: beside its sources, or installed below a prefix."""
    spec = importlib.util.find_spec("robot_rl_bringup")
    found = [] if spec is None or spec.origin is None else [Path(spec.origin).parents[1] / "config"]
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    return found + [Path(prefix) / "share" / "robot_rl_bringup" / "config" for prefix in prefixes if prefix]
