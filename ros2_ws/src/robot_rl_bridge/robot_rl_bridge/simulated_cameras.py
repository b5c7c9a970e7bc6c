"""Cameras of a simulated scene, drawn in a thread of their own from what physics was at that moment."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import mujoco
import numpy as np

from robot_rl.types import Array
from robot_rl_bridge.simulated_arm import View
from sim.arms.arm import Arm
from sim.cameras import CameraRig, SceneCamera, SceneRenderer, encode_jpeg
from sim.scene import Scene, build_scene


class SimulatedCameras:
    """Draws what ``view`` gives at ``rate_hz`` and hands JPEG images by camera to ``publish``. ``size_px`` is that of
    every image, width and height (0: as the rig has them), ``noise`` that of their sensor, as a standard deviation."""

    def __init__(
        self, scene: Scene, arm: Arm, rig: CameraRig, rate_hz: float, size_px: int = 0, noise: float = 0.0
    ) -> None:
        size = {"height": size_px, "width": size_px} if size_px else {}
        cameras = tuple(replace(camera, depth=False, **size) for camera in rig.cameras)
        self.rig = replace(rig, cameras=cameras, codec="jpeg")
        self._scene, self._arm, self._period_ns = scene, arm, round(1e9 / rate_hz)
        self._noise, self._random = noise, np.random.default_rng(0)
        self._renderer: SceneRenderer | None = None
        self.frozen = self.silent = False  # faults for tests: the same image for ever; none at all

    def open(self) -> None:
        """Make what draws, which holds the whole process up: not while physics runs."""
        dressed = build_scene(self._scene, self._arm, self.rig.cameras, look=self.rig.profile)
        self._renderer = SceneRenderer(dressed.model, self.rig)
        for image in self._renderer.pixels(mujoco.MjData(dressed.model)).values():
            self._encoded(image)

    def run(
        self, ending: Callable[[float], bool], view: Callable[[], View],
        publish: Callable[[int, Mapping[str, bytes]], None],
    ) -> None:  # fmt: skip
        """Until ``ending``, which waits as long as it is told."""
        renderer = self._renderer
        assert renderer is not None, "open comes first"
        try:
            due_ns, images = time.monotonic_ns(), {}
            while not ending(1e-9 * max(due_ns - time.monotonic_ns(), 0)):
                seen: Any = view()  # has the coordinates of an MjData
                if not (images and self.frozen):
                    images = {name: self._encoded(image) for name, image in renderer.pixels(seen).items()}
                if not self.silent:
                    publish(seen.time_ns, images)
                due_ns = max(due_ns + self._period_ns, time.monotonic_ns())
        finally:
            renderer.close()

    def _encoded(self, image: Array) -> bytes:
        if self._noise:
            noisy = image + self._random.normal(0.0, self._noise, image.shape)
            image = noisy.clip(0.0, 255.0).astype(np.uint8)
        return encode_jpeg(image, self.rig.quality)


def pinhole(camera: SceneCamera) -> list[float]:
    """The matrix K [9], row by row [px]: square pixels, the principal point in the middle of the image."""
    focal_px = 0.5 * camera.height / math.tan(0.5 * math.radians(camera.fovy_deg))
    return [focal_px, 0.0, 0.5 * camera.width - 0.5, 0.0, focal_px, 0.5 * camera.height - 0.5, 0.0, 0.0, 1.0]
