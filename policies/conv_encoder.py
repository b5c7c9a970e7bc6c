"""Small camera images -> vector: a few strided convolutions, for learning from 24 to 84 pixels on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from policies.random_shift import random_shift
from robot_rl.errors import ConfigError, InvalidArrayError

SMALLEST_MAP = 2  # places a side that the last convolution must leave


class ConvEncoder(nn.Module):
    """uint8 images [N, height, width, 3] -> [N, size] in (-1, 1), as the encoder of DrQ (Yarats et al. 2021) with
    strides for its size. Raises InvalidArrayError for images of another size.

    Args:
        height, width: of the images; sampler and loop bring frames to this size alike, by area.
        channels: of each 3 x 3 convolution; each halves the image.
        size: length of the vector.
        shift: of the random shift in training [pixels].
        frozen: the convolutions stay as they are (drawn by the policy's seed, or taken from another run with
            ``encoders=``); what reads them out learns.
    """

    def __init__(
        self,
        *,
        height: int = 32,
        width: int = 32,
        channels: Sequence[int] = (32, 32, 32),
        size: int = 64,
        shift: int = 2,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        places = [math.ceil(side / 2 ** len(channels)) for side in (height, width)]
        if not channels or min(places) < SMALLEST_MAP:
            raise ConfigError(
                f"{len(channels)} convolutions on {height} x {width} pixels",
                limit=f"at least one, and {SMALLEST_MAP} places a side behind the last",
            )
        if not 0 <= shift < min(height, width):
            raise ConfigError(f"shift of {shift} pixels", limit=f"0 to {min(height, width) - 1}")
        self.image, self.size, self.shift = (height, width), size, shift
        layers: list[nn.Module] = []
        for before, after in zip([3, *channels[:-1]], channels, strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.convolutions.requires_grad_(not frozen)
        self.out = nn.Sequential(nn.Linear(channels[-1] * math.prod(places), size), nn.LayerNorm(size), nn.Tanh())
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.orthogonal_(layer.weight, math.sqrt(2.0) if isinstance(layer, nn.Conv2d) else 1.0)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [N, height, width, 3] -> [N, size]; ``generator`` (CPU) draws the shifts, None leaves the image."""
        if tuple(images.shape[1:]) != (*self.image, 3):
            raise InvalidArrayError(f"images have shape {list(images.shape[1:])}", limit=f"{[*self.image, 3]}")
        if generator is not None and self.shift:
            images = random_shift(images, self.shift, generator)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        return self.out(self.convolutions(pixels).flatten(1))
