"""The records of one episode in its journal, and the episode they amount to.

Kinds of records: ``begin`` (specs, metadata, clock anchor), ``row`` (fixed-size row, new frames), ``decision`` and
``end``. The same function compiles an episode that ended and one whose writer was killed.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from robot_rl.data.camera_log import dropped_frames
from robot_rl.data.episode import SCHEMA, SCHEMA_VERSION, CameraTrack, Episode
from robot_rl.data.episode_file import check_version
from robot_rl.data.frame_encoding import JPEG_QUALITY
from robot_rl.data.journal import MAGIC, Record, scan_records
from robot_rl.data.metadata import describe_arrays, plain
from robot_rl.data.row_layout import RowLayout
from robot_rl.types import DEPTH_CODEC, Array, Arrays, ArraySpec, Decision, EnvSpec, EpisodeEnd


def begin_header(
    episode: str, spec: EnvSpec, extras: Mapping[str, ArraySpec], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """The first record: everything needed to compile what follows, should the process die."""
    return {
        "kind": "begin",
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "id": episode,
        "spec": spec.to_json(),
        "extras": {name: plain(dataclasses.asdict(value), episode) for name, value in extras.items()},
        "clock": {"source": "robot monotonic", "host_monotonic_ns": time.monotonic_ns(), "wall_ns": time.time_ns()},
        "metadata": plain(metadata, episode),
    }


def decision_record(decision: Decision) -> tuple[dict[str, Any], list[bytes]]:
    """Header and buffers of a decision; its arrays are copied."""
    arrays = {"planned": decision.planned, **decision.extras}
    described = [[name, value.dtype.name, list(value.shape)] for name, value in arrays.items()]
    header = {
        "kind": "decision",
        "index": int(decision.index),
        "step": int(decision.step),
        "latency_s": float(decision.latency_s),
        "arrays": described,
    }
    return header, [value.tobytes() for value in arrays.values()]


def end_header(end: EpisodeEnd, metadata: Mapping[str, Any], high_water: int, episode: str) -> dict[str, Any]:
    """The last record of an episode that ended."""
    fields = plain(dataclasses.asdict(end), episode)
    return {"kind": "end", "end": fields, "metadata": plain(metadata, episode), "queue_high_water": high_water}


@dataclass
class Recording:
    """What a journal holds, in order, up to its first damaged or torn record."""

    begin: dict[str, Any]
    rows: list[memoryview] = field(default_factory=list)
    frames: dict[str, list[tuple[list[int], memoryview]]] = field(default_factory=dict)
    decisions: list[Record] = field(default_factory=list)
    end: dict[str, Any] | None = None
    lost_bytes: int = 0  # behind the last whole record
    damaged: bool = False  # whole records follow the first bad one: bytes changed, this is not the torn tail of a kill


def read_recording(content: memoryview) -> Recording | None:
    """Everything whole in a journal, or None when not even its first record is.

    Raises SchemaVersionError when a newer software wrote it.
    """
    recording, whole = None, 0
    for record, end in scan_records(content):
        whole = end
        recording = take_record(recording, record)
        if recording is None:
            return None
    if recording is not None:
        recording.lost_bytes = len(content) - whole
        recording.damaged = bytes(content[whole + 1 :]).find(MAGIC) >= 0
    return recording


def take_record(recording: Recording | None, record: Record) -> Recording | None:
    """``recording`` with one more record; None while there is no first one. Raises SchemaVersionError."""
    kind = record.header.get("kind")
    if kind == "begin":
        check_version(record.header["schema_version"], record.header["id"])
        return Recording(record.header)
    if recording is None:
        return None
    if kind == "row":
        recording.rows.append(record.buffers[0])
        for (camera, *stamps), data in zip(record.header["frames"], record.buffers[1:], strict=True):
            recording.frames.setdefault(camera, []).append((stamps, data))
    elif kind == "decision":
        recording.decisions.append(record)
    elif kind == "end":
        recording.end = record.header
    return recording


def growing_episode(recording: Recording, spec: EnvSpec, layout: RowLayout) -> Episode:
    """What ``compile_episode`` would make of the rows there are, with little metadata: asked for at every step."""
    arrays, frame_of_step = layout.unpack(recording.rows)
    _end_at_observation(arrays)
    arrays.update(_decision_arrays(recording.decisions, arrays))
    cameras = {name: _track(spec, name, recording, frame_of_step[name]) for name in spec.cameras}
    return Episode(recording.begin["id"], arrays, recording.begin["metadata"], cameras)


def compile_episode(recording: Recording, *, recovered: bool) -> Episode:
    """The episode of a recording with at least one row.

    Without a final observation (the writer was killed, or never appended it) the episode is cut at its last complete
    observation: that row keeps the observation, its action is void. An episode whose last transition did not terminate
    ends truncated: aborts, faults and kills bootstrap.
    """
    begin = recording.begin
    spec = EnvSpec.from_json(begin["spec"])
    extras = {name: ArraySpec(**{**s, "shape": tuple(s["shape"])}) for name, s in begin["extras"].items()}
    arrays, frame_of_step = RowLayout(spec, extras).unpack(recording.rows)
    cut = _end_at_observation(arrays)
    arrays.update(_decision_arrays(recording.decisions, arrays))
    cameras = {name: _track(spec, name, recording, frame_of_step[name]) for name in spec.cameras}
    dropped = {
        name: dropped_frames(frame_of_step[name], [stamps[0] for stamps, _ in recording.frames.get(name, [])])
        for name in spec.cameras
    }
    metadata = _metadata(recording, spec, arrays) | {
        "recovered": recovered,
        "lost_tail_bytes": recording.lost_bytes,
        "cut_at_last_observation": cut,
        "dropped_frames": dropped,
    }
    return Episode(begin["id"], arrays, metadata, cameras)


def _end_at_observation(arrays: dict[str, Array]) -> bool:
    """Make the last row a final observation and its transition an end, in place; whether the row held an action.

    A row with an invalid action is no sign by itself: late and dropped commands have it in the middle of an episode.
    """
    cut = bool(arrays["action_valid"][-1] or arrays["action/commanded"][-1].any())
    for name, value in arrays.items():
        if name.startswith(("action/", "rl/")) or name == "action_valid":
            value[-1] = 0
    if len(arrays["action_valid"]) > 1 and not arrays["rl/terminated"][-2]:
        arrays["rl/truncated"][-2] = True
    return cut


def _metadata(recording: Recording, spec: EnvSpec, arrays: Arrays) -> dict[str, Any]:
    begin, last = recording.begin, recording.end or {}
    end = last.get("end", {"reason": "killed", "success": None, "judged_by": ""})
    defaults = {
        "task": spec.task,
        "robot": spec.robot,
        "source": "unknown",
        "policies": [],
        "software": {"name": "robot-rl", "version": _software_version()},
    }
    ours = {
        "success": end["success"],
        "judged_by": end["judged_by"],
        "end_reason": end["reason"],
        "total_reward": float(arrays["rl/reward"].sum(dtype=np.float64)),
        "ended": recording.end is not None,
        "queue_high_water": last.get("queue_high_water"),
        "clock": begin["clock"],
        "spec": begin["spec"],
        "calibration_sha256": spec.calibration_sha256,
        "arrays": describe_arrays(spec),
    }
    return {**defaults, **begin["metadata"], **last.get("metadata", {}), **ours}


def _decision_arrays(decisions: list[Record], arrays: dict[str, Array]) -> dict[str, Array]:
    """decision/* [D, ...]; ``policy/decision_of_step`` becomes the position among them (-1: none)."""
    of_step = arrays["policy/decision_of_step"]
    index = np.array([record.header["index"] for record in decisions], np.int32)
    position = np.searchsorted(index, of_step) if len(index) else np.zeros(len(of_step), np.int64)
    known = (position < len(index)) & (np.append(index, -1)[np.minimum(position, len(index))] == of_step)
    result: dict[str, Array] = {"policy/decision_of_step": np.where(known, position, -1).astype(np.int32)}
    if not decisions:
        return result
    result["decision/step"] = np.array([record.header["step"] for record in decisions], np.int32)
    result["decision/latency_s"] = np.array([record.header["latency_s"] for record in decisions], np.float32)
    for number, (name, dtype, shape) in enumerate(decisions[0].header["arrays"]):
        joined = b"".join(record.buffers[number] for record in decisions)
        result[f"decision/{name}"] = np.frombuffer(joined, dtype).reshape(len(decisions), *shape)
    return result


def _track(spec: EnvSpec, name: str, recording: Recording, frame_of_step: Array) -> CameraTrack:
    camera, frames = spec.cameras[name], recording.frames.get(name, [])
    stamps = np.array([stamp for stamp, _ in frames], np.int64).reshape(-1, 3)
    sizes = np.array([len(data) for _, data in frames], np.int64)
    data = np.concatenate([np.frombuffer(data, np.uint8) for _, data in frames]) if frames else np.empty(0, np.uint8)
    return CameraTrack(
        data=data,
        offset=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
        t_ns=np.ascontiguousarray(stamps[:, 1]),
        t_dev_ns=np.ascontiguousarray(stamps[:, 2]) if stamps[:, 2].any() else None,
        frame_of_step=frame_of_step,
        height=camera.height,
        width=camera.width,
        channels=camera.channels,
        codec=camera.codec,
        attributes={"frame": camera.frame, "rate_hz": camera.rate_hz}
        | ({"quality": JPEG_QUALITY, "subsampling": "4:4:4"} if camera.codec == "jpeg" and frames else {})
        | ({"unit": "mm"} if camera.codec == DEPTH_CODEC else {}),
    )


def _software_version() -> str:
    try:
        return version("robot-rl")
    except PackageNotFoundError:
        return "unknown"
