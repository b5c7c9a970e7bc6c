"""Randomness by counter: what a gradient step draws depends on seed and step alone; resuming needs no random state."""

from __future__ import annotations

import numpy as np
import torch


def step_generator(seed: int, step: int) -> torch.Generator:
    """Generator (CPU, so that every device sees the same draws) of a step; negative steps are a stream of their own."""
    words = np.random.SeedSequence((seed % 2**64, step % 2**64)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)
