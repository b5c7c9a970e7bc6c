"""Frozen data that crosses module borders: specs, observations, actions, rows, views.

Shape letters used everywhere: B batch, N rows of an episode, D decisions, T_o observation history, T_p planned steps,
T_a executed steps, H steps of a chunk, A action size, K candidates, h w c image. Numpy only, so that a robot computer
can import it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum, StrEnum
from functools import cached_property
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import InvalidArrayError, SpecMismatchError, valid_choices

Array = NDArray[Any]
Arrays = Mapping[str, Array]

EMPTY: Mapping[str, Any] = {}
_FEW = 64


# --- specs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArraySpec:
    """Shape, dtype, unit and frame of one named array; ``names`` label its last axis (joints, components)."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""
    frame: str = ""
    names: tuple[str, ...] = ()
    privileged: bool = False  # known to a simulator only: refused as an input or a reward on hardware

    def check(self, name: str, value: Array) -> None:
        """Raise InvalidArrayError unless ``value`` has this shape and dtype and is finite."""
        if tuple(value.shape) != self.shape or value.dtype != np.dtype(self.dtype):
            raise InvalidArrayError(
                f"'{name}' is {value.dtype}{list(value.shape)}",
                limit=f"{self.dtype}{list(self.shape)}",
                remedy="Convert it before it is handed over",
            )
        check_finite(name, value)


DEPTH_CODEC = "depth_png"


@dataclass(frozen=True)
class CameraSpec:
    """A camera as policies and recorder see it; ``frame`` is its optical frame (z forward, x right, y down).

    Pixels are uint8, those of a depth camera (``codec`` DEPTH_CODEC, one channel) uint16: distance along the optical
    axis in mm, 0 where nothing was measured.
    """

    height: int
    width: int
    rate_hz: float
    channels: int = 3
    codec: str = "jpeg"
    frame: str = ""


class ActionKind(StrEnum):
    """Meaning and size of a part of the action. Only ABSOLUTE_KINDS cross ``Robot.command``."""

    TCP_POSE = "tcp_pose"  # [7] x y z qx qy qz qw of the TCP in a named frame [m]
    TCP_POSITION = "tcp_position"  # [3] position [m]; the rotation in force is kept
    TCP_DELTA = "tcp_delta"  # [6] translation [m], rotation vector [rad], in the named frame, onto the target in force
    TCP_POSITION_DELTA = "tcp_position_delta"  # [3] translation [m] onto the target in force
    JOINT_POSITION = "joint_position"  # [n] rad
    JOINT_DELTA = "joint_delta"  # [n] rad, onto the target in force
    GRIPPER = "gripper"  # [1] opening, 0 closed to 1 open
    POINT = "point"  # [k] absolute position of a pusher in a named plane
    RAW = "raw"  # [k] an adapted environment's own action, without geometric meaning


ABSOLUTE_KINDS = (ActionKind.TCP_POSE, ActionKind.JOINT_POSITION, ActionKind.GRIPPER, ActionKind.POINT, ActionKind.RAW)
_TARGET_KIND = {
    ActionKind.TCP_POSITION: ActionKind.TCP_POSE,
    ActionKind.TCP_DELTA: ActionKind.TCP_POSE,
    ActionKind.TCP_POSITION_DELTA: ActionKind.TCP_POSE,
    ActionKind.JOINT_DELTA: ActionKind.JOINT_POSITION,
}
_KIND_SIZE = {
    ActionKind.TCP_POSE: 7,
    ActionKind.TCP_POSITION: 3,
    ActionKind.TCP_DELTA: 6,
    ActionKind.TCP_POSITION_DELTA: 3,
    ActionKind.GRIPPER: 1,
}


def target_kind(kind: ActionKind) -> ActionKind:
    """The absolute kind that a target of ``kind`` is integrated to."""
    return _TARGET_KIND.get(kind, kind)


@dataclass(frozen=True)
class ActionPart:
    """One slice of the action vector, e.g. ``arm0/tcp`` or ``arm0/gripper``; limits are physical, per component."""

    name: str
    kind: ActionKind
    low: tuple[float, ...]
    high: tuple[float, ...]
    unit: str = ""
    frame: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", ActionKind(self.kind))
        object.__setattr__(self, "low", tuple(float(v) for v in self.low))
        object.__setattr__(self, "high", tuple(float(v) for v in self.high))
        wanted = _KIND_SIZE.get(self.kind, len(self.low))
        if len(self.low) != wanted or len(self.high) != len(self.low):
            raise InvalidArrayError(
                f"action part '{self.name}' has {len(self.low)} lower and {len(self.high)} upper limits",
                limit=f"{wanted} of each for {self.kind.value}",
            )
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise InvalidArrayError(
                f"action part '{self.name}' has a lower limit at or above its upper: {self.low}, {self.high}"
            )

    @property
    def size(self) -> int:
        return len(self.low)


@dataclass(frozen=True)
class ActionSpec:
    """The action vector [A] as a row of parts."""

    parts: tuple[ActionPart, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))  # YAML gives a list

    @cached_property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    @cached_property
    def low(self) -> Array:
        return np.array([v for part in self.parts for v in part.low], dtype=np.float32)

    @cached_property
    def high(self) -> Array:
        return np.array([v for part in self.parts for v in part.high], dtype=np.float32)

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """``low`` and ``high`` [A] in float64."""
        return self.low.astype(np.float64), self.high.astype(np.float64)

    @cached_property
    def by_name(self) -> Mapping[str, ActionPart]:
        return {part.name: part for part in self.parts}

    @cached_property
    def slices(self) -> Mapping[str, slice]:
        """Where each part lies in the action vector."""
        result, start = {}, 0
        for part in self.parts:
            result[part.name] = slice(start, start + part.size)
            start += part.size
        return result

    def part(self, name: str) -> ActionPart:
        """The part of that name; raises SpecMismatchError naming the parts there are."""
        if name not in self.by_name:
            raise SpecMismatchError(f"no action part '{name}'", remedy=valid_choices(name, self.by_name))
        return self.by_name[name]


@dataclass(frozen=True)
class EnvSpec:
    """Everything a policy, a recorder or a checkpoint must know about a robot (and task): the unit of compatibility."""

    robot: str
    step_rate_hz: float
    observation: Mapping[str, ArraySpec]
    action: ActionSpec
    cameras: Mapping[str, CameraSpec] = field(default_factory=dict)
    arm_parts: tuple[str, ...] = ("arm0",)
    task: str = ""
    simulated: bool = True
    force_source: str = "none"  # where the force stop reads from; "none" is written out and shown at preflight
    limits: Mapping[str, float] = field(default_factory=dict)  # safety limits, name with unit -> value
    calibration_sha256: str = ""

    @property
    def step_period_ns(self) -> int:
        return round(1e9 / self.step_rate_hz)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, read back by ``from_json``."""
        return json.loads(json.dumps(asdict(self)))

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> EnvSpec:
        """Inverse of ``to_json``; unknown keys of a newer writer are ignored."""
        known = {key: data[key] for key in EnvSpec.__dataclass_fields__ if key in data}
        known["observation"] = {name: _array_spec(value) for name, value in data["observation"].items()}
        known["cameras"] = {name: CameraSpec(**value) for name, value in data.get("cameras", {}).items()}
        known["action"] = action_spec_from_json(data["action"])
        known["arm_parts"] = tuple(data.get("arm_parts", ("arm0",)))
        return EnvSpec(**known)

    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def _array_spec(data: Mapping[str, Any]) -> ArraySpec:
    return ArraySpec(**{**data, "shape": tuple(data["shape"]), "names": tuple(data.get("names", ()))})


def action_spec_from_json(data: Mapping[str, Any]) -> ActionSpec:
    """Inverse of ``dataclasses.asdict`` on an ActionSpec."""
    return ActionSpec(tuple(ActionPart(**part) for part in data["parts"]))


@dataclass(frozen=True)
class PolicySpec:
    """What a policy reads, how far it plans and what it asks to be recorded beside its action."""

    observation: Mapping[str, ArraySpec]  # the keys of the window it reads; images are ``images/<camera>``
    action: ActionSpec
    history: int = 1  # T_o
    horizon: int = 1  # T_p
    execute: int = 1  # T_a
    record: Mapping[str, ArraySpec] = field(default_factory=dict)  # extras per step, stored as policy/<name>
    needs: tuple[str, ...] = ()  # extras of a wrapped policy that this one reads, e.g. base_action


# --- what the robot says and hears ---------------------------------------------------------------------------------


class Phase(IntEnum):
    """Who was in command during a step."""

    POLICY = 0
    HUMAN = 1
    RESET = 2
    SCRIPTED = 3
    HOLD = 4


class EpisodeEvent(StrEnum):
    """What a person says about an episode by a key."""

    START = "start"  # the arm may move to the start of the next episode
    SUCCESS = "success"  # ends the episode; the person's word outweighs the rule's
    FAILURE = "failure"  # ends it, too
    DISCARD = "discard"  # ends it, and nothing of it is kept
    RERECORD = "rerecord"  # as DISCARD, and the same start is tried again
    STOP = "stop"  # ends it where the arm is: it is stopped until the next reset
    HAND_BACK = "hand_back"  # the policy may go on: needed after a dead-man was let go


@dataclass(frozen=True)
class Frame:
    """One encoded camera image with its arrival stamp (monotonic) and, if known, the device's own stamp."""

    data: bytes
    stamp_ns: int
    sequence: int
    height: int
    width: int
    channels: int = 3
    codec: str = "jpeg"
    device_stamp_ns: int = 0


@dataclass(frozen=True)
class TargetChunk:
    """Absolute targets on their way to a robot: part name -> [H, k], one row per control step.

    Row i is the set point to be reached at the end of step ``first_step + i``. ``stamp_ns`` echoes the stamp of the
    observation the plan was made from; frames and kinds are those of the robot's ``EnvSpec.action``.
    """

    targets: Arrays
    first_step: int
    stamp_ns: int
    source: Phase = Phase.POLICY
    frame: str = ""

    @property
    def length(self) -> int:
        return min(map(len, self.targets.values()), default=0)

    def remaining(self, step: int) -> TargetChunk:
        """The rows from ``step`` on (the chunk itself when it starts later)."""
        skip = max(step - self.first_step, 0)
        if skip == 0:
            return self
        return replace(
            self,
            targets={name: value[skip:] for name, value in self.targets.items()},
            first_step=self.first_step + skip,
        )


@dataclass(frozen=True)
class CommandReport:
    """What became of the commands of one step, in absolute targets: part name -> [k]."""

    step: int
    source: Phase
    commanded: Arrays  # after arbitration, before the safety chain
    executed: Arrays  # the safety chain's last set point of the interval
    human: Arrays | None = None
    valid: bool = True  # False: nothing fresh was in force (late, dropped, refused)
    interventions: Mapping[str, int] = field(default_factory=dict)  # safety layer -> times it changed the command


@dataclass(frozen=True)
class Observation:
    """Time-aligned measurement that opens control step ``step``; ``report`` tells of the step that just ended."""

    step: int
    stamp_ns: int  # monotonic clock of the robot, ns
    state: Arrays  # float32 vectors by name, as in EnvSpec.observation
    frames: Mapping[str, Frame] = field(default_factory=dict)
    report: CommandReport | None = None
    mode: str = "tracking"  # idle, holding, tracking, teleop, resetting, stopped, fault: cause


@dataclass(frozen=True)
class ResetRequest:
    """Where an episode starts. A robot ends there verified, within ``timeout_s`` of its clock, or raises ResetError."""

    joint_position: Array | None = None  # rad
    tcp_pose: Array | None = None  # [7] in the base frame; None keeps the robot's home
    gripper_opening: float = 1.0
    simulator_state: Arrays = field(default_factory=dict)  # object poses and the like; must be empty on hardware
    operator_text: str = ""  # what a person has to arrange on hardware
    seed: int = 0
    timeout_s: float = 20.0


# --- actions and rows ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ActContext:
    """What the loop knows and the window does not; every array is per row of the batch, [B]."""

    step: Array  # control step of the episode
    executed_since_plan: Array  # steps of the previous chunk that were executed
    delay_steps: Array  # steps that will pass before the new chunk takes over
    takeover: Array  # bool: control just came back from a human, cached plans are void
    explore: bool = False

    @staticmethod
    def start(batch: int, *, explore: bool = False) -> ActContext:
        """The context of a first decision."""
        zero = np.zeros(batch, dtype=np.int64)
        return ActContext(zero, zero, zero, np.zeros(batch, dtype=bool), explore)


@dataclass(frozen=True)
class ActionChunk:
    """A policy's plan in physical units, [B, H, A]; ``execute`` of the H steps are meant to run before replanning.

    ``record`` holds per-step extras [B, H, ...] declared in PolicySpec.record; ``decision`` holds per-decision extras
    [B, ...] (noise, candidates). Where ``begun`` is above 0, so many of its first rows have been executed already: it
    is the plan in force with other actions from here on, and stays anchored where that is.
    """

    actions: Array
    execute: int
    record: Arrays = field(default_factory=dict)
    decision: Arrays = field(default_factory=dict)
    version: int = 0  # of the weights that made it
    begun: Array | None = None  # [B]; None: it begins here


@dataclass(frozen=True)
class ActionRecord:
    """The action of one step as stored, in policy action units [A]."""

    commanded: Array  # after arbitration, before the safety chain: learners train on it
    executed: Array  # after the safety chain: audit and imitation
    policy: Array  # what the policy asked for (in shadow during an intervention)
    source: Phase = Phase.POLICY
    human: Array | None = None
    valid: bool = True


@dataclass(frozen=True)
class Judgement:
    """A reward rule's verdict on one transition."""

    reward: float
    success: bool = False
    terminated: bool = False


@dataclass(frozen=True)
class StepResult:
    """What an env returns for one control step. ``truncated`` is a time limit or a fault: it bootstraps."""

    observation: Observation
    action: ActionRecord
    reward: float
    terminated: bool
    truncated: bool
    success: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """One call of the policy: the plan and the draw it came from."""

    index: int
    step: int  # control step at which the plan starts
    planned: Array  # [T_p, A]
    extras: Arrays = field(default_factory=dict)  # noise, candidates [K, h, A], scores
    latency_s: float = 0.0


@dataclass(frozen=True)
class StepRow:
    """Row t of an episode: the observation, what was done from t to t + 1 and what came of it.

    The last row of an episode holds only the final observation (``action.valid`` False, zeros) and its extras, which a
    bootstrap at a truncation needs.
    """

    observation: Observation
    action: ActionRecord
    reward: float
    terminated: bool
    truncated: bool
    success: bool = False
    decision: int = -1
    policy_version: int = 0
    overrun: bool = False
    obs_ready_ns: int = 0
    action_sent_ns: int = 0
    extras: Arrays = field(default_factory=dict)  # stored as policy/<name>


@dataclass(frozen=True)
class EpisodeEnd:
    """How an episode ended: success is None when nobody judged."""

    reason: str  # success, failure, time_limit, fault: ..., discarded, operator, killed
    success: bool | None
    length: int  # control steps, the final observation not counted
    total_reward: float = 0.0
    judged_by: str = "rule"


# --- learning --------------------------------------------------------------------------------------------------------


class Cut(StrEnum):
    """Where a window may not run across."""

    NONE = "none"
    INTERVENTION = "intervention"  # every change of the intervention flag ends the window, which bootstraps there
    HUMAN = "human"  # likewise, and only windows whose first chunk lies wholly inside one human segment
    DROP_HUMAN = "drop_human"  # windows touched by a human are dropped


class Pad(StrEnum):
    """What a window shows beyond the ends of its episode."""

    REPEAT = "repeat"  # the edge row again (diffusion policy)
    MASK = "mask"  # the edge row again, and ``mask`` False there
    DROP = "drop"  # such windows are never drawn


@dataclass(frozen=True)
class Offsets:
    """Rows start, start + stride, ... below stop, relative to the window's row t."""

    start: int
    stop: int
    stride: int = 1

    @property
    def length(self) -> int:
        return len(range(self.start, self.stop, self.stride))


@dataclass(frozen=True)
class WindowSpec:
    """Windows for imitation: array path, or images/<camera>, -> the rows around t that a batch holds.

    Row t runs over [first row - pad_before, last row that acts + pad_after - horizon + 1] as in diffusion policy.
    """

    keys: Mapping[str, Offsets]
    pad: Pad = Pad.REPEAT
    pad_before: int = 0
    pad_after: int = 0


@dataclass(frozen=True)
class ReplayView:
    """How per-step rows look to a learner: per-step, chunked and noise MDPs are views of the same rows."""

    horizon: int = 1  # h: control steps in one action
    stride: int = 1  # control steps between starts of windows
    n_step: int = 1  # actions summed before the bootstrap
    discount_per_control_step: float = 0.99
    history: int = 1  # T_o
    observation: tuple[str, ...] = ()
    action: str = "action/commanded"  # or "decision/noise" for the noise MDP
    extras: tuple[str, ...] = ()  # per-step arrays returned at s and s', e.g. policy/base_action
    reward_scale: float = 1.0
    reward_shift: float = 0.0
    sparse: bool = False  # the reward before scale and shift is 1 at a success and 0 elsewhere, whatever is stored
    cut: Cut = Cut.INTERVENTION


def all_finite(value: Array) -> bool:
    """Whether every element is a finite number. A sum tells in a fifth of the time, unless it overflows: of plain
    numbers where they are few, of squares where they are many."""
    total = sum(value.ravel().tolist()) if value.size <= _FEW else np.vdot(value, value)
    return isfinite(total) or bool(np.isfinite(value).all())


def check_finite(name: str, value: Array) -> None:
    """Raise InvalidArrayError that names the first bad element of a float array."""
    if value.dtype.kind == "f" and not all_finite(value):
        bad = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
        raise InvalidArrayError(f"'{name}' holds {value[bad]} at {list(bad)}", limit="finite values")


def compare_specs(expected: EnvSpec, actual: EnvSpec) -> tuple[list[str], list[str]]:
    """Differences between the spec a checkpoint was made for and the one at hand.

    Returns (refused, listed): the first must stop a load, the second may be accepted by name.
    """
    refused = _compare_mappings("observation", expected.observation, actual.observation)
    if expected.action != actual.action:
        refused.append(f"action: expected {_describe(expected.action)}, found {_describe(actual.action)}")
    for name in ("task", "step_rate_hz", "arm_parts"):
        want, have = getattr(expected, name), getattr(actual, name)
        if want != have:
            refused.append(f"{name}: expected {want}, found {have}")
    for name in sorted(set(expected.cameras) - set(actual.cameras)):
        refused.append(f"camera '{name}' is missing")
    listed = [
        f"{name}: made with {getattr(expected, name)!r}, found {getattr(actual, name)!r}"
        for name in ("robot", "calibration_sha256", "limits")
        if getattr(expected, name) != getattr(actual, name)
    ]
    for name in sorted(set(expected.cameras) & set(actual.cameras)):
        if expected.cameras[name] != actual.cameras[name]:
            listed.append(f"camera '{name}': made with {expected.cameras[name]}, found {actual.cameras[name]}")
    return refused, listed


def _compare_mappings(what: str, expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    found = []
    for name in sorted(set(expected) | set(actual)):
        if name not in actual:
            found.append(f"{what} '{name}' is missing")
        elif name in expected and expected[name] != actual[name]:
            found.append(f"{what} '{name}': expected {expected[name]}, found {actual[name]}")
    return found


def _describe(spec: ActionSpec) -> str:
    return ", ".join(
        f"{part.name}:{part.kind.value}[{part.size}] {part.unit} {part.frame}".strip() for part in spec.parts
    )
