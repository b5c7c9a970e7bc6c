"""Random shift, the augmentation that reinforcement learning from images needs (DrQ: Kostrikov et al. 2020, sec. 4)."""

from __future__ import annotations

import torch
from torch import Tensor


def random_shift(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    """Images [N, height, width, C], each moved by up to ``pad`` pixels down or up and right or left, on its own.

    Their edges are repeated into what comes free, as if padded and cropped. ``generator`` (CPU) draws the shifts.
    """
    count, height, width = images.shape[:3]
    shift = torch.randint(-pad, pad + 1, (2, count, 1), generator=generator).to(images.device)
    rows = (shift[0] + torch.arange(height, device=images.device)).clamp(0, height - 1)
    columns = (shift[1] + torch.arange(width, device=images.device)).clamp(0, width - 1)
    number = torch.arange(count, device=images.device)[:, None, None]
    return images[number, rows[:, :, None], columns[:, None, :]]
