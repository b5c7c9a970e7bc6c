"""Observation window -> conditioning vector: normalised low-dimensional features and camera embeddings, over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from policies.features import Feature, check_keys
from robot_rl.data.normalizer import Normalizer
from robot_rl.errors import ConfigError, SpecMismatchError, valid_choices
from robot_rl.types import Array, Arrays, ArraySpec, EnvSpec

FEATURES = "features"  # key of the feature vector's statistics
STATE = "obs/"  # before a name: its path in episodes


class ObservationEncoder(nn.Module):
    """Features of T_o steps, then one embedding per step and camera, concatenated.

    Args:
        spec: of the env; raises SpecMismatchError where a feature or camera reads what it does not offer.
        history: T_o.
        features: low-dimensional features in order.
        cameras: {camera: constructor of its encoder, images [N, h, w, 3] -> [N, size]: ImageEncoder, ConvEncoder}.
        fourier, fourier_scale: number and spread of random Fourier features of the low-dimensional part (Tancik et al.
            2020), which let a smooth network tell positions apart that lie a pixel or a millimetre from one another.
    """

    def __init__(
        self,
        spec: EnvSpec,
        history: int,
        features: Sequence[Feature],
        cameras: Mapping[str, Callable[[], nn.Module]],
        fourier: int = 0,
        fourier_scale: float = 0.5,
    ) -> None:
        super().__init__()
        if not features and not cameras:
            raise ConfigError("a policy without observation", remedy="Name features or cameras")
        check_keys(features, spec.observation)
        for camera in cameras:
            if camera not in spec.cameras:
                raise SpecMismatchError(f"no camera '{camera}'", remedy=valid_choices(camera, spec.cameras))
            if spec.cameras[camera].channels != 3:
                raise SpecMismatchError(f"camera '{camera}' has {spec.cameras[camera].channels} channels", limit="3")
        self.history, self.features = history, list(features)
        self.cameras = nn.ModuleDict({camera: make() for camera, make in cameras.items()})
        state = {key: spec.observation[key] for feature in features for key in feature.keys}
        images = {
            image_key(camera): ArraySpec((*encoder.image, 3), "uint8", frame=spec.cameras[camera].frame)  # type: ignore[misc]
            for camera, encoder in self.cameras.items()
        }
        if len({image.shape for image in images.values()}) > 1:
            raise ConfigError("cameras differ in image size", limit="one height and width for all of them")
        self.inputs: dict[str, ArraySpec] = {**state, **images}
        zeros = {key: torch.zeros(value.shape) for key, value in state.items()}
        self.feature_size = sum(feature(zeros).shape[-1] for feature in features)
        embeddings = sum(int(encoder.size) for encoder in self.cameras.values())  # type: ignore[arg-type]
        self.size = history * (self.feature_size + embeddings) + 2 * fourier
        directions = fourier_scale * math.pi * torch.randn(history * self.feature_size, fourier)
        self.register_buffer("directions", directions)  # drawn once, saved with the weights

    def vector(self, observation: Mapping[str, Tensor]) -> Tensor:
        """{key: [..., D]} -> features in physical units [..., F]."""
        return torch.cat([feature(observation) for feature in self.features], dim=-1)

    def of_rows(self, rows: Arrays) -> dict[str, Array]:
        """Features in physical units [N, F] of rows of episodes {array path: [N, D]}, by the key of their statistics;
        nothing where there are none."""
        if not self.features:
            return {}
        state = [key for key in self.inputs if not key.startswith(image_key(""))]
        return {FEATURES: self.vector({key: torch.from_numpy(rows[f"{STATE}{key}"]) for key in state}).numpy()}

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) that images are brought to; None without cameras."""
        sizes = [value.shape for key, value in self.inputs.items() if key.startswith(image_key(""))]
        return (sizes[0][0], sizes[0][1]) if sizes else None

    def forward(
        self, observation: Mapping[str, Tensor], normalizer: Normalizer, generator: torch.Generator | None = None
    ) -> Tensor:
        """{key: [B, T_o, ...]} -> [B, size]; ``generator`` draws random crops and shifts (training), None none."""
        parts = []
        if self.features:
            scaled = normalizer.normalize(FEATURES, self.vector(observation)).flatten(1)
            angles = scaled @ self.directions  # type: ignore[operator]
            parts += [scaled, angles.sin(), angles.cos()]
        for camera, encoder in self.cameras.items():
            images = observation[image_key(camera)]
            parts.append(encoder(images.flatten(0, 1), generator).view(len(images), -1))
        return torch.cat(parts, dim=-1)


def image_key(camera: str) -> str:
    """Name of a camera's decoded images in a window."""
    return f"images/{camera}"
