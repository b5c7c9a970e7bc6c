from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.black_box import BlackBox
from policies.diffusion import DiffusionPolicy
from policies.scaled_noise import ScaledNoise
from robot_rl.errors import ConfigError
from tests.policies.tiny import decisions, make_acting, make_window


@pytest.fixture(scope="module")
def base() -> DiffusionPolicy:
    return make_acting(seed=4)


def test_scale_one_is_the_base_bit_for_bit(base: DiffusionPolicy) -> None:
    for ours, theirs in zip(decisions(ScaledNoise(base, 1.0)), decisions(base), strict=True):
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        np.testing.assert_array_equal(ours.decision["noise"], theirs.decision["noise"])


@pytest.mark.parametrize("scale", [0.0, 0.5])
def test_a_smaller_scale_is_the_sampler_under_scaled_noise(base: DiffusionPolicy, scale: float) -> None:
    own, ours = decisions(base, 1)[0], decisions(ScaledNoise(BlackBox(base), scale), 1)[0]
    noise = np.float32(scale) * own.decision["noise"]
    seen = {key: torch.from_numpy(value) for key, value in make_window(3, 0).items()}
    np.testing.assert_array_equal(ours.actions, BlackBox(base).sample(seen, torch.from_numpy(noise)).numpy())
    np.testing.assert_array_equal(ours.decision["noise"], noise)
    assert not np.array_equal(ours.actions, own.actions)


def test_a_scale_without_meaning_is_refused(base: DiffusionPolicy) -> None:
    with pytest.raises(ConfigError, match="limit: 0 to 2"):
        ScaledNoise(base, -1.0)
