"""The arm's streams as they arrive: checked, stamped at receipt, kept for alignment; no ROS, so that all of it can be
tested, and replayed from a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from robot_rl.data.alignment import Aligned, Alignment
from robot_rl.data.streams import Arrivals, Frames, Samples, silent
from robot_rl.errors import StaleObservationError
from robot_rl.types import Array, Frame, all_finite
from robot_rl_bridge.arm_description import OBJECT, ArmDescription, CameraTopic
from robot_rl_bridge.arm_state import Measured, observed_state

ARM, GRIPPER_STATE, EXTERNAL = "joint_states", "gripper", "external_torque"


class Sensors:
    """What is known of an arm, its ``cameras`` and the ``objects`` that a simulator tells of (cube_pose, ...)."""

    def __init__(self, arm: ArmDescription, cameras: Sequence[str], objects: Sequence[str]) -> None:
        self._arm, self._names = arm, arm.chain.names
        self._upright = np.array(arm.safety_limits.upright_quat_xyzw)
        self.samples = {ARM: Samples(), GRIPPER_STATE: Samples()}
        self.samples |= {name: Samples(poses=name.endswith("_pose")) for name in objects}
        self.frames = {name: Frames(arm.cameras[name].rate_hz) for name in cameras}
        streams = [*self.samples, *self.frames]
        if arm.safety_limits.force_source == "measured":
            streams.append(EXTERNAL)  # without it there is no force stop
        self.arrivals = {name: Arrivals() for name in streams}
        reference = arm.reference_camera if arm.reference_camera in self.frames else ""
        self.alignment = Alignment(self.samples, self.frames, reference)
        self.counts: Counter[str] = Counter()  # messages that were not what their topic is for
        self._external: Array | None = None
        self._last_joints: tuple[int, Array | None] = 0, None
        self._bytes: dict[str, tuple[bytes, int]] = {}  # the last picture and since when it is the same
        self._numbers: Counter[str] = Counter()

    # --- arriving -----------------------------------------------------------------------------------------------------

    def joints(self, values: Mapping[str, tuple[float, float]], header_ns: int, now_ns: int, received_ns: int) -> None:
        """Position and velocity by joint name; others are ignored. Where no velocity is told (NaN) it follows from the
        last message: an arm that moves must not pass for one at rest."""
        if any(name not in values for name in self._names):
            self.counts["joint_states without the arm's joints"] += 1
            return
        position, velocity = np.array([values[name] for name in self._names], dtype=np.float64).T
        last_ns, last = self._last_joints
        if np.isnan(velocity).all() and last is not None and header_ns != last_ns:
            velocity = (position - last) / ((header_ns - last_ns) * 1e-9)
        if all_finite(position):
            self._last_joints = header_ns, position
        self._keep(ARM, np.concatenate((position, velocity)), header_ns, now_ns, received_ns)

    def gripper(self, value: float, header_ns: int, now_ns: int, received_ns: int) -> None:
        """The gripper's joint, in its own unit."""
        self._keep(GRIPPER_STATE, [self._arm.gripper.opening(value)], header_ns, now_ns, received_ns)

    def thing(self, name: str, pose: Sequence[float], header_ns: int, now_ns: int, received_ns: int) -> None:
        """Pose [7] of an object; its quaternion is the one near the last."""
        value = np.array(pose, dtype=np.float64)
        if name.endswith("_position"):
            value = value[:3]
        elif (last := self.samples[name].newest()) is not None and value[3:] @ last[1][3:] < 0.0:
            value[3:] *= -1.0
        self._keep(name, value, header_ns, now_ns, received_ns)

    def external(self, efforts: Mapping[str, float], header_ns: int, now_ns: int, received_ns: int) -> None:
        """What others exert on the joints [N m], by name."""
        torque = np.array([efforts.get(name, np.nan) for name in self._names], dtype=np.float64)
        if not all_finite(torque):
            self.counts[f"{EXTERNAL}: not finite, or without the arm's joints"] += 1
        elif EXTERNAL not in self.arrivals or self.arrivals[EXTERNAL].stamp(header_ns, now_ns, received_ns) is not None:
            self._external = torque

    def picture(self, name: str, data: bytes, header_ns: int, now_ns: int, received_ns: int) -> None:
        """A compressed image of a camera."""
        camera = self._arm.cameras[name]
        header_ns -= round(camera.latency_s * 1e9)
        size = jpeg_size(data)
        if size != (camera.height, camera.width):
            self.counts[f"{name}: image of {size or 'no JPEG'}, not {(camera.height, camera.width)}"] += 1
            return
        if self._is_frozen(name, camera, data, received_ns):
            self.counts[f"{name}: the same picture"] += 1
            return
        stamp = self.arrivals[name].stamp(header_ns, now_ns, received_ns)
        if stamp is not None:
            self._numbers[name] += 1
            frame = Frame(data, stamp, self._numbers[name], camera.height, camera.width, device_stamp_ns=header_ns)
            self.frames[name].append(frame)

    def _keep(self, name: str, value: Sequence[float] | Array, header_ns: int, now_ns: int, received_ns: int) -> None:
        vector = np.array(value, dtype=np.float64)
        if not all_finite(vector):
            self.counts[f"{name}: not finite"] += 1
            return
        stamp = self.arrivals[name].stamp(header_ns, now_ns, received_ns)
        if stamp is not None:
            self.samples[name].append(stamp, vector)

    def _is_frozen(self, name: str, camera: CameraTopic, data: bytes, received_ns: int) -> bool:
        last, since = self._bytes.get(name, (b"", received_ns))
        same = data == last
        self._bytes[name] = (data, since if same else received_ns)
        return camera.frozen_s > 0.0 and same and received_ns - since > camera.frozen_s * 1e9

    # --- what is known ------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """The arm's streams began anew: a simulator was reset. What was before is forgotten."""
        for stream in (*self.samples.values(), *self.frames.values()):
            stream.clear()

    def all_after(self, stamp_ns: int) -> bool:
        """Whether every stream holds something that was measured after ``stamp_ns``."""
        newest = [sample[0] for stream in self.samples.values() if (sample := stream.newest())]
        newest += [frame.stamp_ns for stream in self.frames.values() if (frame := stream.newest())]
        return len(newest) == len(self.samples) + len(self.frames) and min(newest) > stamp_ns

    def silent(self, now_ns: int) -> str:
        """The first stream that was not heard within its time limit; empty where all are alive."""
        limit_s = self._arm.stream_timeout_s
        return next((name for name, arrivals in self.arrivals.items() if arrivals.age_s(now_ns) > limit_s), "")

    def require(self, now_ns: int) -> None:
        """Raise StaleObservationError for the first stream that is silent."""
        if name := self.silent(now_ns):
            raise silent(name, self.arrivals[name].age_s(now_ns), self._arm.stream_timeout_s)

    def missing(self, now_ns: int) -> list[str]:
        """Streams that are silent, in words."""
        limit_s = self._arm.stream_timeout_s
        ages = {name: arrivals.age_s(now_ns) for name, arrivals in self.arrivals.items()}
        return [silent(name, age_s, limit_s).what for name, age_s in ages.items() if age_s > limit_s]

    def measured(self) -> Measured | None:
        """The newest of joints and gripper; None before both were heard."""
        arm, gripper = self.samples[ARM].newest(), self.samples[GRIPPER_STATE].newest()
        if arm is None or gripper is None:
            return None
        position, velocity = np.split(arm[1], 2)
        return Measured(position, velocity, float(gripper[1][0]), arm[0], self._external)

    def newest(self, after_ns: int) -> Aligned | None:
        """The newest time after ``after_ns`` at which all streams agree; None where there is none yet."""
        for stamp_ns in self.alignment.anchors(after_ns):
            try:
                return self.alignment.at(stamp_ns)
            except StaleObservationError:
                continue
        return None

    def now(self) -> Aligned:
        """All streams at the newest measurement of the arm, however far the others are from it: for an arm at rest, and
        where a picture was lost. Raises StaleObservationError when one has nothing at all."""
        sample = self.samples[ARM].newest()
        return self.alignment.at(sample[0] if sample else 0, strict=False)

    def observed(self, aligned: Aligned) -> dict[str, Array]:
        """The state by observation name, float32."""
        position, velocity = np.split(aligned.values[ARM], 2)
        opening = float(aligned.values[GRIPPER_STATE][0])
        state = observed_state(self._arm.chain, self._upright, position, velocity, opening)
        for name, value in aligned.values.items():
            if name not in (ARM, GRIPPER_STATE):
                state[f"{OBJECT}{name}"] = value.astype(np.float32)
        return state


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a JPEG by its frame header; None for what is none."""
    if data[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
        at += 2 + length
    return None
