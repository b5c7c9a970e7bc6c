"""Camera images -> vector: ResNet-18 (He et al. 2016) with GroupNorm, and spatial softmax (Levine et al. 2016).

GroupNorm instead of BatchNorm because the averaged (EMA) weights are what acts (Chi et al. 2023, sec. 4).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robot_rl.errors import ConfigError, InvalidArrayError

SMALLEST_CROP = 33  # the trunk divides by 32, and a spatial softmax over a single place says nothing


class ImageEncoder(nn.Module):
    """uint8 images [N, height, width, 3] -> [N, size]. Raises InvalidArrayError for images of another size.

    Args:
        height, width: of the images; sampler and loop bring frames to this size alike, by area.
        crop_height, crop_width: crop, random in training, central in acting.
        keypoints: expected positions read off by the spatial softmax.
        channels: width of the first of four stages; 64 is ResNet-18, less is quicker on a CPU.
        size: length of the vector.
    """

    def __init__(
        self,
        *,
        height: int = 84,
        width: int = 84,
        crop_height: int = 76,
        crop_width: int = 76,
        keypoints: int = 32,
        channels: int = 64,
        size: int = 64,
    ) -> None:
        super().__init__()
        if crop_height > height or crop_width > width:
            raise ConfigError(f"crop of {crop_height} x {crop_width}", limit=f"the image, {height} x {width}")
        if min(crop_height, crop_width) < SMALLEST_CROP:
            raise ConfigError(f"crop of {crop_height} x {crop_width}", limit=f"at least {SMALLEST_CROP} pixels")
        self.image, self.crop, self.size = (height, width), (crop_height, crop_width), size
        widths = [channels * factor for factor in (1, 2, 4, 8)]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
            _norm(channels),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        stages = []
        for before, after in zip([channels, *widths[:-1]], widths, strict=True):
            stages += [_ResidualBlock(before, after), _ResidualBlock(after, after)]
        self.stages = nn.Sequential(*stages)
        self.softmax = SpatialSoftmax(widths[-1], keypoints)
        self.out = nn.Linear(2 * keypoints, size)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """uint8 [N, height, width, 3] -> [N, size]; ``generator`` (CPU) draws the crops, None crops the centre."""
        if tuple(images.shape[1:]) != (*self.image, 3):
            raise InvalidArrayError(f"images have shape {list(images.shape[1:])}", limit=f"{[*self.image, 3]}")
        images = self._cropped(images, generator)
        pixels = images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        return self.out(self.softmax(self.stages(self.stem(pixels))).flatten(1))

    def _cropped(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        spare = [whole - part for whole, part in zip(self.image, self.crop, strict=True)]
        if generator is None:
            top, left = spare[0] // 2, spare[1] // 2
            return images[:, top : top + self.crop[0], left : left + self.crop[1]]
        count, device = len(images), images.device
        starts = [torch.randint(0, room + 1, (count,), generator=generator).to(device) for room in spare]
        rows = starts[0][:, None] + torch.arange(self.crop[0], device=device)
        columns = starts[1][:, None] + torch.arange(self.crop[1], device=device)
        image = torch.arange(count, device=device)[:, None, None]
        return images[image, rows[:, :, None], columns[:, None, :]]


class SpatialSoftmax(nn.Module):
    """Expected image position, in [-1, 1], of ``keypoints`` learned activations: [N, C, h, w] -> [N, keypoints, 2]."""

    def __init__(self, channels: int, keypoints: int) -> None:
        super().__init__()
        self.select = nn.Conv2d(channels, keypoints, 1)

    def forward(self, maps: Tensor) -> Tensor:
        logits = self.select(maps)
        height, width = logits.shape[-2:]
        weights = logits.flatten(2).softmax(dim=-1).view_as(logits)
        x = torch.linspace(-1, 1, width, device=maps.device, dtype=weights.dtype)
        y = torch.linspace(-1, 1, height, device=maps.device, dtype=weights.dtype)
        return torch.stack(((weights.sum(-2) * x).sum(-1), (weights.sum(-1) * y).sum(-1)), dim=-1)


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions; halves the image where it widens."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        stride = 1 if channels_in == channels_out else 2
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.first_norm = _norm(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.second_norm = _norm(channels_out)
        self.skip = nn.Identity() if stride == 1 else nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        z = F.relu(self.first_norm(self.first(h)))
        return F.relu(self.second_norm(self.second(z)) + self.skip(h))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(channels // 16, 1), channels)
