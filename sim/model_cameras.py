"""Cameras that a compiled MuJoCo model brings along, rendered off-screen."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import mujoco

from robot_rl.errors import ConfigError, RobotError, valid_choices
from robot_rl.types import Array, CameraSpec


class ModelCameras:
    """Images of the cameras {our name: the model's name} at ``size_px`` squared.

    The renderer is made with the first image, in the thread that asks for it, and again when the model was compiled
    anew. ``hidden_groups`` are groups of geoms that are not drawn, such as collision shapes.
    """

    def __init__(self, cameras: Mapping[str, str], size_px: int, hidden_groups: Collection[int] = ()) -> None:
        if not 0 < size_px <= 2048:
            raise ConfigError(f"images of {size_px} px", limit="1 to 2048")
        self._cameras, self._size_px = dict(cameras), size_px
        self._option = mujoco.MjvOption()
        for group in hidden_groups:
            self._option.geomgroup[group] = 0
        self._renderer: mujoco.Renderer | None = None
        self._model: Any = None

    def check(self, model: Any) -> None:
        """Raise ConfigError for a camera that the model lacks."""
        known = [model.camera(i).name for i in range(model.ncam)]
        for name in self._cameras.values():
            if name not in known:
                raise ConfigError(f"the model has no camera '{name}'", remedy=valid_choices(name, known))

    def specs(self, rate_hz: float) -> dict[str, CameraSpec]:
        """As policies and recorder see them."""
        return {name: CameraSpec(self._size_px, self._size_px, rate_hz) for name in self._cameras}

    def images(self, model: Any, data: Any) -> dict[str, Array]:
        """RGB uint8 [size, size, 3] of each camera by our name."""
        return {name: self.image(model, data, camera) for name, camera in self._cameras.items()}

    def image(self, model: Any, data: Any, camera: str) -> Array:
        """RGB uint8 [size, size, 3] of a camera by the model's name."""
        renderer = self._renderer_of(model)
        renderer.update_scene(data, camera=camera, scene_option=self._option)
        return renderer.render()

    def close(self) -> None:
        """Release the renderer; the next image makes another."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._model = None

    def _renderer_of(self, model: Any) -> mujoco.Renderer:
        if self._renderer is not None and self._model is model:
            return self._renderer
        self.close()
        size = self._size_px
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        try:
            self._renderer, self._model = mujoco.Renderer(model, size, size), model
        except Exception as error:  # the GL libraries raise errors of their own kinds
            raise RobotError(
                f"no off-screen rendering with MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {error}",
                remedy="Install libegl1 or libosmesa6; robot-rl doctor tells more",
            ) from error
        return self._renderer
