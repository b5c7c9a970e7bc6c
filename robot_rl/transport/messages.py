"""Messages between processes: a msgpack header with version and kind, then raw array buffers. No pickle, ever.

A message is a list of frames (one ZMQ multipart): frame 0 is the header, the others are the buffers of its arrays in
order. Every limit is checked before anything is allocated; whatever does not fit is a ProtocolError that the receiver
counts and drops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from robot_rl.errors import ProtocolError
from robot_rl.types import Array, Arrays, CommandReport, Frame, Observation, Phase, ResetRequest, TargetChunk

PROTOCOL_VERSION = 1
MAX_HEADER_BYTES = 256 * 1024
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
MAX_PART_BYTES = 16 * 1024 * 1024  # of a journal in one message
MAX_ARRAYS = 4096
MAX_DIMENSIONS = 8
_DTYPES = frozenset(
    ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
)

Buffer = bytes | memoryview


@dataclass(frozen=True)
class Message:
    """One decoded message: ``kind`` names its schema, ``fields`` are plain msgpack values, ``arrays`` are read-only."""

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Arrays = field(default_factory=dict)


def encode(message: Message) -> list[Buffer]:
    """Frames of a message, header first; array buffers are not copied when they are contiguous."""
    layout, buffers = [], []
    for name, value in message.arrays.items():
        array = np.ascontiguousarray(value)
        if array.dtype.name not in _DTYPES:
            raise ProtocolError(f"array '{name}' has dtype {array.dtype}", remedy=f"Send one of {sorted(_DTYPES)}")
        # ascontiguousarray makes a scalar [1]; the shape told is the one given
        layout.append((name, array.dtype.name, list(np.shape(value))))
        buffers.append(array.reshape(-1).view(np.uint8).data)
    content = (PROTOCOL_VERSION, message.kind, dict(message.fields), layout)
    header: bytes = msgpack.packb(content)  # pyright: ignore[reportAssignmentType]  (its stub admits None)
    if len(header) > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of '{message.kind}' has {len(header)} bytes", limit=f"{MAX_HEADER_BYTES} bytes")
    return [header, *buffers]


def decode(frames: Sequence[Buffer], *, max_bytes: int = MAX_MESSAGE_BYTES) -> Message:
    """Inverse of ``encode``. Raises ProtocolError for anything that is not exactly such a message."""
    total = sum(len(frame) for frame in frames)
    if not frames or total > max_bytes:
        raise ProtocolError(f"message of {len(frames)} frames and {total} bytes", limit=f"1 frame to {max_bytes} bytes")
    version, kind, fields, layout = _header(frames[0])
    if version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"protocol version {version!r}", limit=str(PROTOCOL_VERSION), remedy="Run the same release at both ends"
        )
    if not isinstance(kind, str) or not isinstance(fields, dict) or not isinstance(layout, list):
        raise ProtocolError("header does not hold kind, fields and array layout")
    if len(layout) != len(frames) - 1 or len(layout) > MAX_ARRAYS:
        raise ProtocolError(f"{len(frames) - 1} buffers for {len(layout)} arrays", limit=f"equal, {MAX_ARRAYS} at most")
    arrays = dict(_array(entry, frame) for entry, frame in zip(layout, frames[1:], strict=True))
    return Message(kind, fields, arrays)


def _header(frame: Buffer) -> tuple[Any, Any, Any, Any]:
    if len(frame) > MAX_HEADER_BYTES:
        raise ProtocolError(f"header of {len(frame)} bytes", limit=f"{MAX_HEADER_BYTES} bytes")
    try:
        header = msgpack.unpackb(bytes(frame), raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises many unrelated types on garbage
        raise ProtocolError(f"header is not msgpack: {error!r}") from error
    if not isinstance(header, list) or len(header) != 4:
        raise ProtocolError("header is not [version, kind, fields, layout]")
    return header[0], header[1], header[2], header[3]


def _array(entry: Any, frame: Buffer) -> tuple[str, Array]:
    if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and isinstance(entry[2], list)):
        raise ProtocolError("array layout is not [name, dtype, shape]")
    name, dtype, shape = entry
    if not isinstance(dtype, str) or dtype not in _DTYPES or len(shape) > MAX_DIMENSIONS:
        raise ProtocolError(f"array '{name}' has dtype {dtype!r} and {len(shape)} dimensions")
    if not all(type(n) is int and 0 <= n <= MAX_MESSAGE_BYTES for n in shape):
        raise ProtocolError(f"array '{name}' has shape {shape}")
    if math.prod(shape) * np.dtype(dtype).itemsize != len(frame):
        raise ProtocolError(f"array '{name}' {dtype}{shape} came with {len(frame)} bytes")
    return name, np.frombuffer(frame, dtype=dtype).reshape(shape)


# --- the nouns that travel ------------------------------------------------------------------------------------------


def targets_message(chunk: TargetChunk) -> Message:
    """A plan on its way to a robot."""
    fields = {
        "first_step": chunk.first_step,
        "stamp_ns": chunk.stamp_ns,
        "source": int(chunk.source),
        "frame": chunk.frame,
    }
    return Message("command", fields, dict(chunk.targets))


def targets_from(message: Message) -> TargetChunk:
    """Inverse of ``targets_message``. Raises ProtocolError."""
    with _Reading(message):
        return TargetChunk(
            targets=message.arrays,
            first_step=int(message.fields["first_step"]),
            stamp_ns=int(message.fields["stamp_ns"]),
            source=Phase(message.fields["source"]),
            frame=str(message.fields["frame"]),
        )


def observation_message(observation: Observation) -> Message:
    """An observation on its way to a client; camera bytes pass through untouched."""
    arrays = {f"state/{name}": value for name, value in observation.state.items()}
    frames = {}
    for name, image in observation.frames.items():
        arrays[f"frame/{name}"] = np.frombuffer(image.data, dtype=np.uint8)
        frames[name] = [
            image.stamp_ns, image.sequence, image.height, image.width, image.channels, image.codec,
            image.device_stamp_ns,
        ]  # fmt: skip
    fields: dict[str, Any] = {
        "step": observation.step, "stamp_ns": observation.stamp_ns, "mode": observation.mode, "frames": frames,
        "report": None,
    }  # fmt: skip
    if (report := observation.report) is not None:
        fields["report"] = [report.step, int(report.source), report.valid, dict(report.interventions)]
        for part, values in (("commanded", report.commanded), ("executed", report.executed), ("human", report.human)):
            arrays |= {f"{part}/{name}": value for name, value in (values or {}).items()}
    return Message("observation", fields, arrays)


def observation_from(message: Message) -> Observation:
    """Inverse of ``observation_message``. Raises ProtocolError."""
    with _Reading(message):
        fields, frames = message.fields, {}
        for name, (stamp, sequence, height, width, channels, codec, device) in fields["frames"].items():
            data = message.arrays[f"frame/{name}"].tobytes()
            size = int(height), int(width), int(channels)
            frames[name] = Frame(data, int(stamp), int(sequence), *size, str(codec), int(device))
        report = None
        if fields["report"] is not None:
            step, source, valid, interventions = fields["report"]
            human = _group(message, "human")
            report = CommandReport(
                step=int(step),
                source=Phase(source),
                commanded=_group(message, "commanded"),
                executed=_group(message, "executed"),
                human=human or None,
                valid=valid,
                interventions=interventions,
            )
        return Observation(
            int(fields["step"]), int(fields["stamp_ns"]), _group(message, "state"), frames, report, str(fields["mode"])
        )


def reset_message(request: ResetRequest) -> Message:
    """A reset request on its way to a robot."""
    arrays = {f"simulator/{name}": np.asarray(value) for name, value in request.simulator_state.items()}
    for name in ("joint_position", "tcp_pose"):
        if (value := getattr(request, name)) is not None:
            arrays[name] = np.asarray(value, dtype=np.float64)
    fields = {
        "gripper_opening": float(request.gripper_opening),
        "operator_text": request.operator_text,
        "seed": int(request.seed),
        "timeout_s": float(request.timeout_s),
    }
    return Message("reset", fields, arrays)


def reset_from(message: Message) -> ResetRequest:
    """Inverse of ``reset_message``. Raises ProtocolError."""
    with _Reading(message):
        return ResetRequest(
            joint_position=message.arrays.get("joint_position"),
            tcp_pose=message.arrays.get("tcp_pose"),
            simulator_state=_group(message, "simulator"),
            **{name: message.fields[name] for name in ("gripper_opening", "operator_text", "seed", "timeout_s")},
        )


def _group(message: Message, prefix: str) -> dict[str, Array]:
    start = len(prefix) + 1
    return {name[start:]: value for name, value in message.arrays.items() if name.startswith(f"{prefix}/")}


class _Reading:
    """Turns what a malformed message causes into a ProtocolError."""

    def __init__(self, message: Message) -> None:
        self.kind = message.kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (KeyError, ValueError, TypeError, AttributeError)):
            raise ProtocolError(f"message '{self.kind}' lacks or garbles {error!r}") from error
