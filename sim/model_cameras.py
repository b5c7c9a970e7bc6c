"""Cameras that a compiled MuJoCo model brings along, rendered off-screen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.types import Array, CameraSpec
from sim.offscreen import Offscreen


class ModelCameras:
    """Images of the cameras {our name: the model's name} at ``size_px`` squared, drawn as the model says.

    What draws is made with the first image, and again when the model was compiled anew. ``hidden_groups`` are groups
    of geoms that are not drawn, such as collision shapes.
    """

    def __init__(self, cameras: Mapping[str, str], size_px: int, hidden_groups: Collection[int] = ()) -> None:
        if not 0 < size_px <= 2048:
            raise ConfigError(f"images of {size_px} px", limit="1 to 2048")
        self._cameras, self._size_px = dict(cameras), size_px
        self._hidden = (*hidden_groups, 3, 4, 5)
        self._canvas: Offscreen | None = None
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
        """RGB uint8 [size, size, 3] of each camera by our name. Raises RobotError where nothing can be drawn."""
        return {name: self.image(model, data, camera) for name, camera in self._cameras.items()}

    def image(self, model: Any, data: Any, camera: str) -> Array:
        """RGB uint8 [size, size, 3] of a camera by the model's name. Raises RobotError where nothing can be drawn."""
        size = self._size_px
        if self._canvas is None or self._model is not model:
            self.close()
            self._canvas, self._model = Offscreen(model, size, size, hidden_groups=self._hidden), model
        return self._canvas.colour(data, model.camera(camera).id, size, size)

    def close(self) -> None:
        """Release the graphics memory; the next image makes it anew."""
        if self._canvas is not None:
            self._canvas.close()
        self._canvas = self._model = None
