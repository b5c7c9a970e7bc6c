"""Cameras of a scene and their renderer: EGL, made once, frames as JPEG or raw bytes."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import mujoco
import numpy as np

from robot_rl.errors import ConfigError, RobotError, valid_choices
from robot_rl.types import Array, CameraSpec, Frame
from sim.arms import Arm

CODECS = ("jpeg", "raw")


class Profile(StrEnum):
    """What an image costs: ``full`` has visual meshes, shadows and smooth edges, ``fast`` none of them, for machines
    without a GPU."""

    FAST = "fast"
    FULL = "full"


@dataclass(frozen=True)
class SceneCamera:
    """A camera at ``position_m`` looking at ``look_at_m``, both in the base frame, or in the frame of the hand when
    ``on_hand``; ``fovy_deg`` is its vertical field of view and ``up`` what it shows upwards."""

    name: str
    position_m: Sequence[float]
    look_at_m: Sequence[float]
    on_hand: bool = False
    fovy_deg: float = 50.0
    up: Sequence[float] = (0.0, 0.0, 1.0)
    height: int = 96
    width: int = 96

    def __post_init__(self) -> None:
        if not (0 < self.height <= 2048 and 0 < self.width <= 2048):
            raise ConfigError(f"camera '{self.name}' has {self.height} x {self.width} pixels", limit="1 to 2048")

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
        if len(set(names)) != len(names):
            raise ConfigError(f"two cameras share a name: {sorted(names)}")

    def specs(self, rate_hz: float) -> dict[str, CameraSpec]:
        """As policies and recorder see them."""
        return {
            camera.name: CameraSpec(
                camera.height, camera.width, rate_hz, codec=self.codec, frame=f"{camera.name}_optical"
            )
            for camera in self.cameras
        }


class SceneRenderer:
    """Images of a dressed model that follows the coordinates of the physics model."""

    def __init__(self, model: mujoco.MjModel, rig: CameraRig) -> None:
        self._model, self._rig = model, rig
        self._data = mujoco.MjData(model)
        full = rig.profile is Profile.FULL
        model.vis.quality.offsamples = 4 if full else 0
        sizes = {(camera.height, camera.width) for camera in rig.cameras}
        model.vis.global_.offheight = max((height for height, _ in sizes), default=1)
        model.vis.global_.offwidth = max((width for _, width in sizes), default=1)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = [1, 1, 1, 0, 0, 0]
        self._option.sitegroup[:] = 0
        self._sequence = 0
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        try:
            for size in sizes:
                self._renderers[size] = mujoco.Renderer(model, *size)
        except Exception as error:  # the GL libraries raise errors of their own kinds
            raise RobotError(
                f"no off-screen rendering with MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {error}",
                remedy="Install libegl1 or libosmesa6; robot-rl doctor tells more",
            ) from error
        for renderer in self._renderers.values():
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = full
            renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False

    def pixels(self, data: mujoco.MjData) -> dict[str, Array]:
        """{camera: uint8 [h, w, 3] RGB} of the state in ``data`` of the physics model."""
        self._data.qpos[:] = data.qpos
        self._data.mocap_pos[:] = data.mocap_pos
        self._data.mocap_quat[:] = data.mocap_quat
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        images = {}
        for camera in self._rig.cameras:
            renderer = self._renderers[camera.height, camera.width]
            renderer.update_scene(self._data, camera=camera.name, scene_option=self._option)
            images[camera.name] = renderer.render()
        return images

    def frames(self, data: mujoco.MjData, stamp_ns: int) -> Mapping[str, Frame]:
        """Encoded frames with the stamp of the state they show."""
        self._sequence += 1
        return {name: self._encode(image, stamp_ns) for name, image in self.pixels(data).items()}

    def _encode(self, image: Array, stamp_ns: int) -> Frame:
        height, width = image.shape[:2]
        data = image.tobytes() if self._rig.codec == "raw" else encode_jpeg(image, self._rig.quality)
        return Frame(data, stamp_ns, self._sequence, height, width, codec=self._rig.codec)

    def close(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


def encode_jpeg(image: Array, quality: int) -> bytes:
    """JPEG of an RGB image uint8 [h, w, 3]."""
    import cv2

    done, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RobotError(f"cannot encode an image {list(image.shape)} as JPEG")
    buffer: Any = data
    return buffer.tobytes()
