"""Cameras of a scene and what draws them: made once, frames as JPEG or raw bytes, depth as 16-bit PNG."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import mujoco
import numpy as np

from robot_rl.data.frame_encoding import encode_depth
from robot_rl.errors import ConfigError, RobotError, valid_choices
from robot_rl.types import DEPTH_CODEC, Array, CameraSpec, Frame
from sim.arms.arm import Arm
from sim.offscreen import Offscreen

CODECS = ("jpeg", "raw")
_NEAR_M, _FAR_M = 0.01, 50.0  # what lies outside is not drawn
_SHADOWS_M = 1.2  # around the axis of a lamp; a wider map is coarser, and speckles where its border is seen


class Profile(StrEnum):
    """What an image costs: ``full`` has visual meshes, shadows and smooth edges, ``fast`` none of them, for machines
    without a GPU."""

    FAST = "fast"
    FULL = "full"


@dataclass(frozen=True)
class SceneCamera:
    """A camera at ``position_m`` looking at ``look_at_m``, both in the base frame, or in the frame of the hand when
    ``on_hand``; ``fovy_deg`` is its vertical field of view and ``up`` what it shows upwards. With ``depth`` it also
    gives a frame ``<name>_depth`` of the same pixels, in mm."""

    name: str
    position_m: Sequence[float]
    look_at_m: Sequence[float]
    on_hand: bool = False
    fovy_deg: float = 50.0
    up: Sequence[float] = (0.0, 0.0, 1.0)
    height: int = 96
    width: int = 96
    depth: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.height <= 2048 and 0 < self.width <= 2048):
            raise ConfigError(f"camera '{self.name}' has {self.height} x {self.width} pixels", limit="1 to 2048")

    @property
    def depth_name(self) -> str:
        """Name of its depth image among the cameras of the EnvSpec."""
        return f"{self.name}_depth"

    def add_to(self, spec: mujoco.MjSpec, arm: Arm) -> None:
        """Mount it in a scene that is being composed."""
        body = spec.body(arm.hand_body) if self.on_hand else spec.worldbody
        forward = np.subtract(self.look_at_m, self.position_m)
        right = np.cross(forward, self.up)
        if np.linalg.norm(right) < 1e-6:
            raise ConfigError(f"camera '{self.name}' looks along its up direction", remedy="Change 'up' or 'look_at_m'")
        right = right / np.linalg.norm(right)
        up = np.cross(right, forward)
        # MuJoCo's cameras look along -z, with x to the right and y up
        axes = [*right, *(up / np.linalg.norm(up))]
        body.add_camera(name=self.name, pos=list(self.position_m), xyaxes=axes, fovy=self.fovy_deg)


@dataclass(frozen=True)
class CameraRig:
    """The cameras of a robot, how they render and how their frames are encoded."""

    cameras: Sequence[SceneCamera] = ()
    codec: str = "jpeg"
    quality: int = 95
    profile: Profile = Profile.FAST

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ConfigError(f"camera codec '{self.codec}'", remedy=valid_choices(self.codec, CODECS))
        if self.profile not in list(Profile):
            raise ConfigError(
                f"camera profile '{self.profile}'", remedy=valid_choices(str(self.profile), list(Profile))
            )
        object.__setattr__(self, "profile", Profile(self.profile))
        names = [camera.name for camera in self.cameras]
        names += [camera.depth_name for camera in self.cameras if camera.depth]
        if len(set(names)) != len(names):
            raise ConfigError(f"two cameras share a name: {sorted(names)}")

    def specs(self, rate_hz: float) -> dict[str, CameraSpec]:
        """As policies and recorder see them."""
        specs = {}
        for camera in self.cameras:
            size, frame = (camera.height, camera.width), f"{camera.name}_optical"
            specs[camera.name] = CameraSpec(*size, rate_hz, codec=self.codec, frame=frame)
            if camera.depth:
                specs[camera.depth_name] = CameraSpec(*size, rate_hz, channels=1, codec=DEPTH_CODEC, frame=frame)
        return specs


class SceneRenderer:
    """Images of a dressed ``model`` that follows the coordinates of the physics model; from any one thread at a time.

    What is changed in ``model`` is seen in the next image: poses and opening of cameras (``cam_pos``, ``cam_quat``,
    ``cam_fovy``), lights (``light_pos``, ``light_dir``, ``light_diffuse``, ``vis.headlight``), colours (``geom_rgba``).
    """

    def __init__(self, model: mujoco.MjModel, rig: CameraRig, samples: int | None = None) -> None:
        """``samples`` per pixel for smooth edges; None: as the rig's profile has them."""
        self.model, self.rig = model, rig
        self._data = mujoco.MjData(model)
        self._sequence = 0
        self._ids = {camera.name: int(model.camera(camera.name).id) for camera in rig.cameras}
        height = max((camera.height for camera in rig.cameras), default=1)
        width = max((camera.width for camera in rig.cameras), default=1)
        full = rig.profile is Profile.FULL
        model.vis.quality.offsamples = (4 if full else 0) if samples is None else samples
        model.vis.map.znear, model.vis.map.zfar = _NEAR_M / model.stat.extent, _FAR_M / model.stat.extent
        model.vis.map.shadowclip = _SHADOWS_M / model.stat.extent
        self._canvas = Offscreen(model, height, width, shadows=full, reflections=False, sites=False)

    def pixels(self, data: mujoco.MjData) -> dict[str, Array]:
        """{camera: uint8 [h, w, 3] RGB} of the state in ``data`` of the physics model."""
        self._follow(data)
        return {camera.name: self._colour(camera) for camera in self.rig.cameras}

    def depths(self, data: mujoco.MjData) -> dict[str, Array]:
        """{camera: float32 [h, w] m} of the cameras with depth: distance along the optical axis, infinite where there
        is nothing."""
        self._follow(data)
        return {camera.name: self._depth(camera) for camera in self.rig.cameras if camera.depth}

    def frames(self, data: mujoco.MjData, stamp_ns: int) -> Mapping[str, Frame]:
        """Encoded frames, colour and depth, with the stamp of the state they show."""
        self._follow(data)
        self._sequence += 1
        frames = {}
        for camera in self.rig.cameras:
            frames[camera.name] = self._encode(self._colour(camera), stamp_ns)
            if camera.depth:
                size = camera.height, camera.width
                bytes_ = encode_depth(self._depth(camera))
                frames[camera.depth_name] = Frame(bytes_, stamp_ns, self._sequence, *size, 1, DEPTH_CODEC)
        return frames

    def close(self) -> None:
        """Release the graphics memory."""
        self._canvas.close()

    def _follow(self, data: mujoco.MjData) -> None:
        self._data.qpos[:] = data.qpos
        self._data.mocap_pos[:] = data.mocap_pos
        self._data.mocap_quat[:] = data.mocap_quat
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_comPos(self.model, self._data)
        mujoco.mj_camlight(self.model, self._data)

    def _colour(self, camera: SceneCamera) -> Array:
        return self._canvas.colour(self._data, self._ids[camera.name], camera.height, camera.width)

    def _depth(self, camera: SceneCamera) -> Array:
        return self._canvas.depth(self._data, self._ids[camera.name], camera.height, camera.width)

    def _encode(self, image: Array, stamp_ns: int) -> Frame:
        height, width = image.shape[:2]
        data = image.tobytes() if self.rig.codec == "raw" else encode_jpeg(image, self.rig.quality)
        return Frame(data, stamp_ns, self._sequence, height, width, codec=self.rig.codec)


def encode_jpeg(image: Array, quality: int) -> bytes:
    """JPEG of an RGB image uint8 [h, w, 3], its colours at full resolution as those that the recorder encodes."""
    import cv2

    factor = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor]
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)
    if not done:
        raise RobotError(f"cannot encode an image {list(image.shape)} as JPEG")
    buffer: Any = data
    return buffer.tobytes()
