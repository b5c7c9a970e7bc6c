"""Agreement with diffusers at every step, and what the samplers must do on a network that knows the answer."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from policies.noise_schedules import NoiseSchedule
from policies.samplers import DDIM, DDPM
from robot_rl.errors import ConfigError

THEIR_PREDICTION = {"epsilon": "epsilon", "sample": "sample", "velocity": "v_prediction"}
THEIR_KIND = {"squared_cosine": "squaredcos_cap_v2", "linear": "linear"}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
# float32: diffusers untouched. float64: its table of alphas replaced by ours (schedules are compared elsewhere), since
# its own float32 rounding of 1 - alpha / alpha_prev costs up to 7e-5 near the end of the linear schedule.
CASES = [
    *itertools.product(["squared_cosine"], THEIR_PREDICTION, [torch.float32]),
    *itertools.product(THEIR_KIND, THEIR_PREDICTION, [torch.float64]),
]


def network(x: Tensor, t: int) -> Tensor:
    """Some smooth function of both, of the size of noise."""
    return torch.tanh(0.8 * x + 0.02 * t) + 0.3 * torch.sin(x.flip(1))


def reference(scheduler: type, kind: str, prediction: str, dtype: torch.dtype, **options: Any) -> Any:
    theirs = scheduler(
        num_train_timesteps=100,
        beta_schedule=THEIR_KIND[kind],
        prediction_type=THEIR_PREDICTION[prediction],
        clip_sample=True,
        **options,
    )
    if dtype == torch.float64:
        theirs.alphas_cumprod = torch.tensor(NoiseSchedule(kind, steps=100).alphas_cumprod)
        theirs.final_alpha_cumprod = theirs.one = torch.tensor(1.0, dtype=torch.float64)
    return theirs


@pytest.mark.parametrize(("kind", "prediction", "dtype"), CASES)
@pytest.mark.parametrize("recompute", [True, False])
@pytest.mark.parametrize(("grid", "spacing"), [("linspace", "linspace"), ("arange", "leading")])
def test_ddim_agrees_with_diffusers_at_every_step(
    kind: str, prediction: str, dtype: torch.dtype, recompute: bool, grid: str, spacing: str
) -> None:
    theirs = reference(DDIMScheduler, kind, prediction, dtype, timestep_spacing=spacing)
    ours = DDIM(NoiseSchedule(kind, steps=100), 16, grid, prediction, recompute_epsilon=recompute)
    theirs.set_timesteps(16)
    assert theirs.timesteps.tolist() == ours.timesteps
    x = y = torch.randn(3, 8, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for index, t in enumerate(ours.timesteps):
        if index + 1 < len(ours.timesteps):  # diffusers steps back by T // n even where its grid does not
            theirs.num_inference_steps = 100 // (t - ours.timesteps[index + 1])
        x = ours.step(index, x, network(x, t))
        y = theirs.step(network(y, t), t, y, use_clipped_model_output=recompute).prev_sample
        torch.testing.assert_close(x, y, atol=TOLERANCE[dtype], rtol=0, msg=f"step {index}, timestep {t}")


@pytest.mark.parametrize(("kind", "prediction", "dtype"), CASES)
@pytest.mark.parametrize("steps", [100, 16])
def test_ddpm_agrees_with_diffusers_at_every_step(kind: str, prediction: str, dtype: torch.dtype, steps: int) -> None:
    options = {"timestep_spacing": "linspace", "variance_type": "fixed_small"}
    theirs = reference(DDPMScheduler, kind, prediction, dtype, **options)
    ours = DDPM(NoiseSchedule(kind, steps=100), steps, prediction=prediction)
    theirs.set_timesteps(steps)
    assert theirs.timesteps.tolist() == ours.timesteps
    x = y = torch.randn(3, 8, 2, dtype=dtype, generator=torch.Generator().manual_seed(0))
    for index, t in enumerate(ours.timesteps):
        drawn = torch.randn(3, 8, 2, dtype=dtype, generator=torch.Generator().manual_seed(index))
        x = ours.step(index, x, network(x, t), drawn if t > 0 else None)
        y = theirs.step(network(y, t), t, y, generator=torch.Generator().manual_seed(index)).prev_sample
        torch.testing.assert_close(x, y, atol=TOLERANCE[dtype], rtol=0, msg=f"step {index}, timestep {t}")


def test_a_whole_sample_is_its_steps_and_is_deterministic_in_the_noise() -> None:
    noise = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(1))
    ddim = DDIM(NoiseSchedule(), 5)
    x = noise
    for index, t in enumerate(ddim.timesteps):
        x = ddim.step(index, x, network(x, t))
    predict = functools.partial(predict_on, ddim.timesteps)
    assert torch.equal(ddim.sample(predict, noise), x)
    assert torch.equal(ddim.sample(predict, noise), ddim.sample(predict, noise.clone()))
    ddpm = DDPM(NoiseSchedule(), 5)
    assert ddpm.noise_shape((8, 2)) == (5, 8, 2)
    draws = torch.randn(2, 5, 8, 2, generator=torch.Generator().manual_seed(2))
    predict = functools.partial(predict_on, ddpm.timesteps)
    first = ddpm.sample(predict, draws)
    assert torch.equal(first, ddpm.sample(predict, draws.clone()))
    draws[0, 3] += 1.0
    changed = ddpm.sample(predict, draws)
    assert not torch.equal(changed[0], first[0])
    assert torch.equal(changed[1], first[1])


def predict_on(timesteps: list[int], x: Tensor, index: int) -> Tensor:
    return network(x, timesteps[index])


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "velocity"])
@pytest.mark.parametrize("sampler", [DDIM, DDPM])
def test_an_ideal_network_of_either_prediction_recovers_the_data(sampler: type, prediction: str) -> None:
    """The posterior mean of one data point is that point: whatever the network predicts, the sample is the point."""
    schedule = NoiseSchedule()
    chosen = sampler(schedule, 10, prediction=prediction)
    point = torch.tensor([[[0.3, -0.7], [0.9, 0.1]]], dtype=torch.float64)

    def ideal(x: Tensor, index: int) -> Tensor:
        alpha = float(schedule.alphas_cumprod[chosen.timesteps[index]])
        epsilon = (x - alpha**0.5 * point) / (1 - alpha) ** 0.5
        velocity = alpha**0.5 * epsilon - (1 - alpha) ** 0.5 * point
        return {"epsilon": epsilon, "sample": point.expand_as(x), "velocity": velocity}[prediction]

    noise = torch.randn(4, *chosen.noise_shape((2, 2)), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(chosen.sample(ideal, noise), point.expand(4, 2, 2), atol=1e-6, rtol=0)


def test_a_guide_sees_and_changes_every_clean_estimate() -> None:
    ddim, seen = DDIM(NoiseSchedule(), 4), []

    def pin_first(x0: Tensor, index: int) -> Tensor:
        seen.append(index)
        return torch.cat((torch.full_like(x0[:, :1], 0.25), x0[:, 1:]), dim=1)

    noise = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(4))
    chunk = ddim.sample(functools.partial(predict_on, ddim.timesteps), noise, pin_first)
    assert seen == [0, 1, 2, 3]
    torch.testing.assert_close(chunk[:, 0], torch.full((2, 3), 0.25))


def test_a_warm_start_visits_the_timesteps_it_is_given() -> None:
    ddim = DDIM(NoiseSchedule(), timesteps=[5, 3, 1, 0])
    visited: list[int] = []

    def predict(x: Tensor, index: int) -> Tensor:
        visited.append(ddim.timesteps[index])
        return torch.zeros_like(x)

    ddim.sample(predict, torch.zeros(1, 4, 1))
    assert visited == [5, 3, 1, 0]
    with pytest.raises(ConfigError, match="falling"):
        DDIM(NoiseSchedule(), timesteps=[3, 5])
    with pytest.raises(ConfigError, match="epsilon"):
        DDIM(NoiseSchedule(), prediction="epsilom")
