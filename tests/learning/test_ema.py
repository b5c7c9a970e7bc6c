from __future__ import annotations

import pytest
import torch

from robot_rl.learning.ema import ExponentialMovingAverage


def test_average_by_hand() -> None:
    """Decay 0 at first, then 1 - 2^-0.5, both below the cap."""
    value = {"w": torch.tensor([4.0])}
    average = ExponentialMovingAverage({"w": torch.tensor([0.0])}, power=0.5, maximum=0.5)
    assert average.decay() == 0.0
    average.update(value)
    assert average.average["w"].item() == 4.0
    assert average.decay() == pytest.approx(1 - 2**-0.5)
    average.update({"w": torch.tensor([8.0])})
    assert average.average["w"].item() == pytest.approx(4 * (1 - 2**-0.5) + 8 * 2**-0.5)
    average.step = 1000
    assert average.decay() == 0.5


def test_the_average_is_a_copy() -> None:
    value = torch.ones(2)
    average = ExponentialMovingAverage({"w": value})
    value.zero_()
    assert average.average["w"].tolist() == [1.0, 1.0]
