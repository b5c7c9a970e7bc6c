"""Flows: the path, Euler's steps by hand, the closed form of a linear-Gaussian problem, and learning two modes."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.diffusion import DiffusionPolicy
from policies.flow_matching import Euler, StraightPath
from policies.noise_schedules import NoiseSchedule
from policies.samplers import DDIM, DDPM
from robot_rl.errors import ConfigError
from robot_rl.learning.bc import BehaviourCloning
from tests.policies.tiny import make_batch, make_policy, make_rows


def test_the_path_goes_straight_from_noise_to_data_in_even_steps() -> None:
    path = StraightPath(steps=10)
    np.testing.assert_allclose(path.sigma, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    np.testing.assert_allclose(path.signal + path.sigma, 1.0)
    assert path.timesteps(10) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert path.timesteps(5) == [9, 7, 5, 3, 1]  # s = 1, 0.8, 0.6, 0.4, 0.2
    assert path.timesteps(1) == [9]
    with pytest.raises(ConfigError, match="11 sampling steps"):
        path.timesteps(11)


def test_two_euler_steps_by_hand() -> None:
    """dx/ds = x + s from x = 2 at s = 1: x(1/2) = 2 - 3/2 = 1/2, then x(0) = 1/2 - (1/2 + 1/2)/2 = 0."""
    euler = Euler(StraightPath(steps=10), steps=2, clip=None)

    def field(x: Tensor, index: int) -> Tensor:
        return x + [1.0, 0.5][index]

    end = euler.sample(field, torch.full((1, 1, 1), 2.0, dtype=torch.float64))
    assert end.item() == pytest.approx(0.0, abs=1e-12)
    seen: list[float] = []
    euler.sample(field, torch.full((1, 1, 1), 2.0), lambda clean, index: seen.append(clean.item()) or clean)
    assert seen == pytest.approx([2 - 3, 0.5 - 0.5 * 1.0])  # x - s dx/ds


@pytest.mark.parametrize("start", [-1.3, 0.5, 0.8])
def test_gaussian_data_has_a_closed_form(start: float) -> None:
    """Data N(m, d^2): the flow is a(n) = m + d n, reached to O(1/steps) by the exact velocity field."""
    mean, deviation, path = 0.4, 0.3, StraightPath(steps=1000)

    def error(steps: int) -> float:
        euler = Euler(path, steps=steps, clip=None)

        def field(x: Tensor, index: int) -> Tensor:
            s = (euler.timesteps[index] + 1) / 1000
            variance = (1 - s) ** 2 * deviation**2 + s**2
            return -mean + (s - (1 - s) * deviation**2) / variance * (x - (1 - s) * mean)

        end = euler.sample(field, torch.full((1, 1, 1), start, dtype=torch.float64)).item()
        return abs(end - (mean + deviation * start))

    assert error(1000) < 2e-3
    assert error(1000) < error(100) < error(10)


def test_a_clipped_step_is_ddims_on_this_path() -> None:
    """Generic DDIM x' = signal' x0 + sigma' (x - signal x0) / sigma with clipped x0, written out."""
    path = StraightPath(steps=20)
    euler = Euler(path, steps=4, clip=0.5)
    x = y = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def field(x: Tensor, index: int) -> Tensor:
        return torch.sin(3 * x) + index

    for index, t in enumerate(euler.timesteps):
        s, signal = path.sigma[t], path.signal[t]
        following = path.sigma[euler.timesteps[index + 1]] if index < 3 else 0.0
        clean = (y - s * field(y, index)).clamp(-0.5, 0.5)
        y = (1 - following) * clean + following * (y - signal * clean) / s
    torch.testing.assert_close(euler.sample(field, x), y, atol=1e-12, rtol=0)


def test_samplers_refuse_the_other_ones_path() -> None:
    with pytest.raises(ConfigError, match="cannot follow a NoiseSchedule"):
        Euler(NoiseSchedule())
    sampler: Any
    for sampler in (DDIM, DDPM):
        with pytest.raises(ConfigError, match="Euler"):
            sampler(StraightPath(), timesteps=[3, 0])
    with pytest.raises(ConfigError, match="falling"):
        Euler(StraightPath(), timesteps=[0, 3])


def flow(**options: Any) -> DiffusionPolicy:
    return make_policy(sampler=functools.partial(Euler, steps=10), schedule=StraightPath(steps=50), **options)


def test_the_loss_is_the_velocitys_error_by_hand() -> None:
    policy = flow()
    policy.fit_normalizer(make_rows())
    batch = {key: torch.from_numpy(value) for key, value in make_batch().items()}
    draw = torch.Generator().manual_seed(3)
    t = torch.randint(0, 50, (16,), generator=draw)
    noise = torch.randn(16, 8, 2, generator=draw)
    clean, s = policy.normalizer.normalize("action", batch["action/commanded"]), ((t + 1) / 50)[:, None, None]
    with torch.no_grad():
        cond = policy.encode({key.removeprefix("obs/"): value for key, value in batch.items()})
        output = policy.predict((1 - s) * clean + s * noise, t, cond)
        expected = (output - (noise - clean)).square().mean().item()
        assert policy.loss(batch, torch.Generator().manual_seed(3)).item() == pytest.approx(expected, rel=1e-5)


def test_cloning_a_flow_keeps_both_modes() -> None:
    """The same observation, demonstrators who go left or right: samples do both and none goes down the middle."""
    policy = flow(horizon=4, observation={"wire/angle": "raw"}, noise_samples=4)
    random = np.random.default_rng(0)
    side = random.choice([-1.0, 1.0], size=(64, 1, 1)).astype(np.float32)
    action = np.broadcast_to(side * np.array([1.0, 0.3], dtype=np.float32), (64, 4, 2)).copy()
    policy.fit_normalizer({"obs/wire/angle": np.zeros((64, 1), np.float32), "action/commanded": action.reshape(-1, 2)})
    batch = {"obs/wire/angle": torch.zeros(1, 64, 2, 1), "action/commanded": torch.from_numpy(action)[None]}
    learner = BehaviourCloning(policy, steps=500, learning_rate=5e-3, warmup_steps=20, ema_maximum=0.98)
    for _ in range(500):
        learner.update({"demonstrations": batch})
    policy.load_state_dict(learner.acting_state())
    noise = torch.randn(200, 4, 2, generator=torch.Generator().manual_seed(1))
    chunks = policy.sample({"wire/angle": torch.zeros(200, 2, 1)}, noise).numpy()
    assert (np.abs(np.abs(chunks[..., 0]) - 1) < 0.2).mean() > 0.85
    assert 0.3 < (chunks[:, 0, 0] > 0).mean() < 0.7
    assert (np.sign(chunks[..., 0]) == np.sign(chunks[:, :1, 0])).mean() > 0.95  # a chunk stays with its mode
