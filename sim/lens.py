"""A real camera's image from the images of an ideal one: lens distortion, principal point, blur and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array

_FINER = 2  # rays per pixel and direction: edges are smooth
_SOLVER_STEPS = 100
_EDGE_PX = 2


@dataclass(frozen=True)
class Lens:
    """``distortion`` k1 k2 p1 p2 k3 [k4 k5 k6] as OpenCV defines them; ``blur_px`` is the standard deviation of a
    Gaussian, ``noise`` that of grey levels of 255. Raises ConfigError for a lens that bends beyond half a turn."""

    focal_px: Sequence[float] = (605.0, 605.0)  # x, y
    centre_px: Sequence[float] = (319.5, 239.5)
    distortion: Sequence[float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    width: int = 640
    height: int = 480
    blur_px: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.width <= 2048 and 0 < self.height <= 2048):
            raise ConfigError(f"images of {self.width} x {self.height} px", limit="1 to 2048")
        if len(self.distortion) not in (5, 8):
            raise ConfigError(f"{len(self.distortion)} coefficients of distortion", limit="5 or 8")
        if np.abs(self._rays).max() > 4.0:
            raise ConfigError(f"a lens of {self.fovy_deg:.0f} deg", limit="152 deg", remedy="Bend it less")

    @property
    def matrix(self) -> Array:
        """K [3, 3] px."""
        (fx, fy), (cx, cy) = self.focal_px, self.centre_px
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])

    @cached_property
    def ideal_size(self) -> tuple[int, int]:
        """Height and width of the ideal image that ``apply`` takes, whose optical axis is its centre."""
        width, height = 2 * np.ceil(np.abs(self._rays).max(axis=(0, 1)) * self._ideal_focal + _EDGE_PX).astype(int)
        return int(height), int(width)

    @cached_property
    def fovy_deg(self) -> float:
        """Vertical field of view of the ideal image."""
        return float(np.degrees(2.0 * np.arctan(0.5 * self.ideal_size[0] / self._ideal_focal)))

    def apply(self, ideal: Array, rng: np.random.Generator | None = None) -> Array:
        """The image uint8 [height, width, 3] of an ideal one [*ideal_size, 3]; without ``rng`` without noise."""
        import cv2

        fine = cv2.remap(ideal, *self._maps, interpolation=cv2.INTER_LINEAR)
        image = cv2.resize(fine, (self.width, self.height), interpolation=cv2.INTER_AREA)
        if self.blur_px > 0.0:
            image = cv2.GaussianBlur(image, (0, 0), self.blur_px)
        if self.noise > 0.0 and rng is not None:
            noisy = image + rng.normal(scale=self.noise, size=image.shape)
            image = np.clip(np.rint(noisy), 0.0, 255.0).astype(np.uint8)
        return np.asarray(image)

    @property
    def _ideal_focal(self) -> float:
        return _FINER * max(self.focal_px)

    @cached_property
    def _rays(self) -> Array:
        """Where each fine pixel looks: x / z, y / z of its ray, [height * 2, width * 2, 2]."""
        import cv2

        u, v = ((np.arange(_FINER * n) + 0.5) / _FINER - 0.5 for n in (self.width, self.height))
        pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 1, 2)
        steps = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, _SOLVER_STEPS, 1e-9)
        rays = cv2.undistortPointsIter(
            pixels, self.matrix, np.array(self.distortion, dtype=np.float64), np.eye(3), np.eye(3), steps
        )
        return np.asarray(rays).reshape(_FINER * self.height, _FINER * self.width, 2)

    @cached_property
    def _maps(self) -> tuple[Array, Array]:
        height, width = self.ideal_size
        places = self._rays * self._ideal_focal + [0.5 * (width - 1), 0.5 * (height - 1)]
        return places[..., 0].astype(np.float32), places[..., 1].astype(np.float32)
