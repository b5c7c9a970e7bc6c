from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from policies.noise_schedules import NoiseSchedule
from robot_rl.errors import ConfigError


@pytest.mark.parametrize(("kind", "theirs"), [("squared_cosine", "squaredcos_cap_v2"), ("linear", "linear")])
def test_schedules_agree_with_diffusers(kind: str, theirs: str) -> None:
    reference: Any = DDPMScheduler(num_train_timesteps=100, beta_schedule=theirs)  # type: ignore[arg-type]
    ours = NoiseSchedule(kind, steps=100)
    np.testing.assert_allclose(ours.betas, reference.betas.numpy(), atol=1e-6)
    np.testing.assert_allclose(ours.alphas_cumprod, reference.alphas_cumprod.numpy(), atol=1e-6)


def test_linear_schedule_by_hand() -> None:
    schedule = NoiseSchedule("linear", steps=3, beta_start=0.1, beta_end=0.3)
    np.testing.assert_allclose(schedule.betas, [0.1, 0.2, 0.3])
    np.testing.assert_allclose(schedule.alphas_cumprod, [0.9, 0.72, 0.504])


def test_linspace_grid_starts_at_pure_noise_and_the_arange_grid_does_not() -> None:
    schedule = NoiseSchedule(steps=100)
    assert schedule.timesteps(4) == [99, 66, 33, 0]
    assert schedule.timesteps(4, "arange") == [75, 50, 25, 0]
    assert schedule.timesteps(1) == [99]
    assert schedule.timesteps(100) == list(range(99, -1, -1))


def test_wrong_names_and_counts_list_the_choices() -> None:
    with pytest.raises(ConfigError, match="squared_cosine"):
        NoiseSchedule("squared_cosin")
    with pytest.raises(ConfigError, match="linspace"):
        NoiseSchedule().timesteps(8, "linspac")
    with pytest.raises(ConfigError, match="1 to 100"):
        NoiseSchedule(steps=100).timesteps(101)
