"""One episode of a recording, through the very code that aligns the streams of a live arm."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot_rl.data.alignment import Aligned
from robot_rl.data.episode import CameraTrack, Episode
from robot_rl.data.episode_id import new_id
from robot_rl.data.formats.interchange import episode_arrays, import_metadata
from robot_rl.errors import EpisodeError, StaleObservationError
from robot_rl.runtime.action_targets import express
from robot_rl.types import Array, EnvSpec, EpisodeEvent, Frame, Phase
from robot_rl_bridge.arm_description import GRIPPER, JOINTS, OBJECT, TCP
from robot_rl_bridge.mcap_contents import Contents, Span
from robot_rl_bridge.mcap_messages import Message, messages
from robot_rl_bridge.sensors import Sensors

NAME = "mcap"
_BEFORE_NS = 300_000_000  # what is fed to the sensors before the first observation


class Replay:
    """Feeds an episode's messages to the sensors of its arm and observes it step by step."""

    def __init__(self, told: Contents, span: Span, spec: EnvSpec) -> None:
        self._told, self._span, self._spec = told, span, spec
        names = [name.removeprefix(OBJECT) for name in spec.observation if name.startswith(OBJECT)]
        self._sensors = Sensors(told.arm, list(spec.cameras), names)
        arm = told.arm
        self._feeds: dict[str, Any] = {told.topic(arm.joint_states_topic): self._joints}
        self._feeds.setdefault(told.topic(arm.gripper.state_topic), self._gripper)
        for camera in spec.cameras:
            self._feeds[told.topic(arm.cameras[camera].topic)] = self._picture(camera)
        for name in names:
            self._feeds[told.topic(f"object/{name.rsplit('_', 1)[0]}/pose")] = self._thing(name)
        self._feeds[told.topic(arm.command.topic)] = self._command
        if arm.gripper.command_topic:
            self._feeds[told.topic(arm.gripper.command_topic)] = self._opening
        self._sent: dict[str, Array] = {}  # the newest set points
        first = span.begin_ns - _BEFORE_NS
        self._messages = messages(told.path, list(self._feeds), first, span.end_ns + told.period_ns)
        self._next: Message | None = next(self._messages, None)

    def episode(self) -> Episode:
        """Raises EpisodeError naming the step at which a stream had nothing."""
        period, begin = self._told.period_ns, self._span.begin_ns
        count = self._told.steps(self._span)
        seen: list[Aligned] = []
        sent: list[dict[str, Array]] = []
        for step in range(count + 1):
            self._feed(begin + step * period)
            sent.append(dict(self._sent))
            seen.append(self._observe(step, begin + step * period, seen[-1].stamp_ns if seen else 0))
        return self._episode(seen, sent)

    def _observe(self, step: int, time_ns: int, after_ns: int) -> Aligned:
        """As the bridge observes: newer than the last, waited for half a step; where a picture was lost, as it is. A
        gap is waited out as long as a live arm would be trusted."""
        aligned = self._newest(after_ns, time_ns + self._told.period_ns // 2)
        until_ns = time_ns + round(self._told.arm.stream_timeout_s * 1e9)
        try:
            while aligned is None:
                aligned = found if (found := self._sensors.now()).stamp_ns > after_ns else None
                if aligned is None and (self._next is None or self._next.received_ns > until_ns):
                    raise StaleObservationError("the arm's state is silent")
                if aligned is None and self._next is not None:
                    self._feed(self._next.received_ns)
        except StaleObservationError as error:
            raise EpisodeError(error.what, episode=self._told.path.name, row=step) from error
        return aligned

    def _newest(self, after_ns: int, until_ns: int) -> Aligned | None:
        """The newest time at which all streams agree, of messages received up to ``until_ns`` where it takes them."""
        aligned = self._sensors.newest(after_ns)
        while aligned is None and self._next is not None and self._next.received_ns <= until_ns:
            self._feed(self._next.received_ns)
            aligned = self._sensors.newest(after_ns)
        return aligned

    def _feed(self, until_ns: int) -> None:
        while self._next is not None and self._next.received_ns <= until_ns:
            self._feeds[self._next.topic](self._next)
            self._next = next(self._messages, None)

    # --- messages, as the bridge takes them ---------------------------------------------------------------------------

    def _joints(self, message: Message) -> None:
        content, n = message.content, len(message.content.name)
        if len(content.position) == n:
            speeds = content.velocity if len(content.velocity) == n else [0.0] * n
            values = zip(content.position, speeds, strict=True)
            self._sensors.joints(dict(zip(content.name, values, strict=True)), *_stamps(message))
        if self._told.arm.gripper.state_topic == self._told.arm.joint_states_topic:
            self._gripper(message)

    def _gripper(self, message: Message) -> None:
        values = dict(zip(message.content.name, message.content.position, strict=False))
        value = values.get(self._told.arm.gripper.joint)
        if value is not None:
            self._sensors.gripper(value, *_stamps(message))

    def _picture(self, name: str) -> Any:
        return lambda message: self._sensors.picture(name, bytes(message.content.data), *_stamps(message))

    def _thing(self, name: str) -> Any:
        return lambda message: self._sensors.thing(name, _pose(message.content), *_stamps(message))

    def _command(self, message: Message) -> None:
        if self._told.arm.command.interface == "tcp_pose":
            self._sent[TCP] = np.array(_pose(message.content))
        else:
            self._sent[JOINTS] = np.array(message.content.data)
            self._sent[TCP] = self._told.arm.chain.pose(self._sent[JOINTS])

    def _opening(self, message: Message) -> None:
        self._sent[GRIPPER] = np.array([self._told.arm.gripper.opening(message.content.data)])

    # --- arrays -------------------------------------------------------------------------------------------------------

    def _episode(self, seen: Sequence[Aligned], sent: Sequence[Mapping[str, Array]]) -> Episode:
        told, span, spec = self._told, self._span, self._spec
        states = [self._sensors.observed(aligned) for aligned in seen]
        measured = {TCP: states[0]["arm0/tcp_pose"], JOINTS: states[0]["arm0/joint_position"],
                    GRIPPER: states[0]["arm0/gripper_opening"]}  # fmt: skip
        targets = [{**measured, **each} for each in sent]
        actions = np.stack(
            [express(spec.action, after, before) for before, after in itertools.pairwise(targets)]
        ).astype(np.float32)
        rewards = np.zeros(len(actions), dtype=np.float32)
        rewards[-1] = float(span.event is EpisodeEvent.SUCCESS)
        judged = span.event in (EpisodeEvent.SUCCESS, EpisodeEvent.FAILURE)
        arrays = episode_arrays(actions, rewards, period_ns=told.period_ns, terminated=judged)
        phases = np.array([told.phase(span.begin_ns + step * told.period_ns) for step in range(len(seen))])
        phases[-1] = Phase.HOLD
        arrays |= {
            "action/executed": arrays["action/commanded"],
            "action_valid": phases != Phase.HOLD,
            "time/t_ns": np.array([aligned.stamp_ns for aligned in seen], dtype=np.int64),
            "flags/phase": phases.astype(np.uint8),
            "flags/intervention": (phases == Phase.HUMAN).astype(np.uint8),
        }
        for name in spec.observation:
            arrays[f"obs/{name}"] = np.stack([state[name] for state in states]).astype(np.float32)
        skew_ms = 1e-6 * np.array([aligned.largest_skew_ns for aligned in seen])
        about = {
            "success": span.event is EpisodeEvent.SUCCESS if judged else None,
            "judged_by": "human" if judged else "nobody",
            "end_reason": span.cause,
            "stamps": "measured; receive time of the recorder less the header's age",
            "skew_ms": {"p50": float(np.median(skew_ms)), "max": float(skew_ms.max())},
            "calibration_sha256": spec.calibration_sha256,
            "total_reward": float(rewards.sum()),
            "spec": spec.to_json(),
        }
        source_id = f"{NAME}/{told.started}/{span.begin_ns}"
        metadata = import_metadata(NAME, told.path, source_id, spec, about)
        cameras = {name: _track(name, spec, [aligned.frames.get(name) for aligned in seen]) for name in spec.cameras}
        return Episode(new_id(), arrays, metadata, cameras)


def _track(name: str, spec: EnvSpec, frames: Sequence[Frame | None]) -> CameraTrack:
    """The frames of the rows, each once."""
    camera, kept, index = spec.cameras[name], dict[int, Frame](), []
    for frame in frames:
        if frame is not None:
            kept.setdefault(frame.sequence, frame)
        index.append(-1 if frame is None else list(kept).index(frame.sequence))
    data = [frame.data for frame in kept.values()]
    return CameraTrack(
        data=np.frombuffer(b"".join(data), dtype=np.uint8),
        offset=np.concatenate(([0], np.cumsum([len(each) for each in data]))).astype(np.int64),
        t_ns=np.array([frame.stamp_ns for frame in kept.values()], dtype=np.int64),
        frame_of_step=np.array(index, dtype=np.int32),
        height=camera.height,
        width=camera.width,
        channels=camera.channels,
        t_dev_ns=np.array([frame.device_stamp_ns for frame in kept.values()], dtype=np.int64),
        attributes={"colour_order": "rgb"},
    )


def _stamps(message: Message) -> tuple[int, int, int]:
    return message.header_ns, message.received_ns, message.received_ns


def _pose(content: Any) -> list[float]:
    p, q = content.pose.position, content.pose.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]
