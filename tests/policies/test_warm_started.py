"""Continuing a plan: what is shifted, noised and flushed; the linear-Gaussian case in closed form."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from policies.diffusion import DiffusionPolicy
from policies.flow_matching import Euler, StraightPath
from policies.last_plans import LastPlans
from policies.samplers import DDPM
from policies.warm_started import WarmStarted, gripper_components
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext, ActionChunk, ActionKind, ActionPart, ActionSpec
from tests.policies.tiny import SPEC, decisions, make_acting, make_policy, make_rows, make_window

FLOW: dict[str, Any] = {"sampler": functools.partial(Euler, steps=5), "schedule": StraightPath(steps=50)}
ANCESTRAL: dict[str, Any] = {"sampler": functools.partial(DDPM, steps=6)}


def context(step: int, executed: int, takeover: bool = False, batch: int = 1) -> ActContext:
    whole = np.ones(batch, dtype=np.int64)
    return ActContext(step * whole, executed * whole, 0 * whole, np.full(batch, takeover))


class Toward(nn.Module):
    """The exact denoiser of data N(mean, deviation^2), so that everything it makes has a closed form."""

    def __init__(self, policy: DiffusionPolicy, mean: float, deviation: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.mean, self.variance = mean, deviation**2
        self.signal, self.sigma = torch.tensor(policy.schedule.signal), torch.tensor(policy.schedule.sigma)

    def time(self, t: Tensor) -> Tensor:
        return torch.stack((self.signal[t], self.sigma[t]), dim=-1).float()

    def condition(self, cond: Tensor) -> Tensor:
        return torch.zeros((len(cond), 2))

    def denoise(self, x: Tensor, modulation: Tensor) -> Tensor:
        signal, sigma = (modulation[..., part, None, None] for part in (0, 1))
        gain = signal * self.variance / (signal**2 * self.variance + sigma**2)
        clean = self.mean + gain * (x - signal * self.mean)
        return (x - signal * clean) / sigma


def gaussian(mean: float, deviation: float) -> DiffusionPolicy:
    policy = make_policy()
    policy.fit_normalizer({**make_rows(), "action/commanded": np.array([[-1, -1], [1, 1]], np.float32)})
    policy.network = Toward(policy, mean, deviation)
    return policy


def test_a_plan_is_the_last_one_shifted_and_denoised_in_closed_form() -> None:
    """From x at noise level t, DDIM on N(m, d^2) scales the distance to the mean by d / sqrt(signal^2 d^2 + sigma^2),
    up to the error of its steps, of which the list [3, 2, 1, 0] makes little."""
    base = gaussian(0.2, 0.1)
    policy = WarmStarted(base, timesteps=[3, 2, 1, 0])
    policy.reset(np.array([0]), np.array([4]))
    first = policy.act(make_window(1), context(0, 0)).actions[0]
    second = policy.act(make_window(1), context(1, 1)).actions[0]
    signal, sigma = float(base.schedule.signal[3]), float(base.schedule.sigma[3])
    guess = signal * np.concatenate((first[1:], first[-1:]))
    contraction = 0.1 / np.sqrt(signal**2 * 0.01 + sigma**2)
    np.testing.assert_allclose(second, 0.2 + contraction * (guess - signal * 0.2), atol=0.01)
    exact = guess
    for t in (3, 2, 1, 0):  # each of its four steps, by the formula
        s, n = float(base.schedule.signal[t]), float(base.schedule.sigma[t])
        clean = np.clip(0.2 + s * 0.01 / (s * s * 0.01 + n * n) * (exact - s * 0.2), -1, 1)
        back = (float(base.schedule.signal[t - 1]), float(base.schedule.sigma[t - 1])) if t else (1.0, 0.0)
        exact = back[0] * clean + back[1] * (exact - s * clean) / n
    np.testing.assert_allclose(second, exact, atol=1e-5)


@pytest.mark.parametrize("options", [{}, FLOW, ANCESTRAL], ids=["ddim", "flow", "ddpm"])
def test_the_first_plan_is_the_bases_and_so_is_every_one_after_a_flush(options: dict[str, Any]) -> None:
    base, warm = make_acting(**options), WarmStarted(make_acting(**options), timesteps=[5, 3, 1, 0])
    for policy in (base, warm):
        policy.reset(np.array([0]), np.array([7]))
    moments = [(0, 0, False), (1, 1, False), (2, 1, True), (3, 1, False), (5, 0, False), (6, 9, False)]
    ours = [warm.act(make_window(1, step), context(step, done, over)).actions for step, done, over in moments]
    theirs = [base.act(make_window(1, step), context(step, done, over)).actions for step, done, over in moments]
    cold = [np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True)]
    # start; continued; hand-back of an intervention; continued; no plan in force; the loop has another plan in force
    assert cold == [True, False, True, False, True, True]
    warm.reset(np.array([0]), np.array([7]))
    np.testing.assert_array_equal(warm.act(make_window(1, 0), context(7, 1)).actions, ours[0])


def test_rows_are_flushed_one_by_one_and_a_shift_follows_what_was_executed() -> None:
    policy = WarmStarted(make_acting(), timesteps=[2, 1, 0], execute=2)
    assert policy.spec.execute == 2 and policy.calls_per_plan == 3
    both = decisions(policy, 1, batch=2)[0].actions
    seen = make_window(2, 1)
    whole = policy.act(seen, context(2, 2, batch=2)).actions
    decisions(policy, 1, batch=2)
    policy.reset(np.array([1]), np.array([99]))
    mixed = policy.act(seen, context(2, 2, batch=2)).actions
    np.testing.assert_array_equal(mixed[0], whole[0])
    assert not np.array_equal(mixed[1], whole[1])
    memory = LastPlans()
    memory.remember(context(0, 0, batch=2), both)
    plans, left = memory.continued(context(2, 2, batch=2), 8, 2)
    assert left.tolist() == [6, 6]
    np.testing.assert_array_equal(plans[:, :6], both[:, 2:])
    np.testing.assert_array_equal(plans[:, 6:], both[:, [-1, -1]])


@pytest.mark.parametrize("options", [{}, FLOW, ANCESTRAL], ids=["ddim", "flow", "ddpm"])
def test_settled_rows_stay_to_the_bit_and_the_rest_is_planned_around_them(options: dict[str, Any]) -> None:
    """Two are settled; where the loop measures a delay of three, three; after a take-over none."""
    policy = WarmStarted(make_acting(**options), timesteps=[5, 3, 1, 0], noise=1.0, settled=2)
    policy.reset(np.array([0]), np.array([7]))
    first, second = (policy.act(make_window(1, step), context(step, step)).actions[0] for step in (0, 1))
    np.testing.assert_array_equal(second[:2], first[1:3])
    assert not np.array_equal(second[2:7], first[3:])
    late = replace(context(2, 1), delay_steps=np.array([3]))
    third = policy.act(make_window(1, 2), late).actions[0]
    np.testing.assert_array_equal(third[:3], second[1:4])
    assert not np.array_equal(third[3:7], second[4:])
    fourth = policy.act(make_window(1, 3), context(3, 1, takeover=True)).actions[0]
    assert not np.array_equal(fourth[:2], third[1:3])


def test_settled_rows_are_what_the_network_sees_at_every_level() -> None:
    """Without noise they are signal * what is settled at each level of the list; of eight rows a quarter is two."""
    base = gaussian(0.2, 0.1)
    policy = WarmStarted(base, timesteps=[8, 4, 0], settled=None)
    policy.reset(np.array([0]), np.array([4]))
    first = policy.act(make_window(1), context(0, 0)).actions[0]
    seen = watched(base)
    second = policy.act(make_window(1), context(1, 1)).actions[0]
    np.testing.assert_array_equal(second[:2], first[1:3])
    levels = [float(base.schedule.signal[t]) for t in (8, 4, 0)]
    for x, signal in zip(seen, levels, strict=True):
        np.testing.assert_allclose(x[0, :2] / signal, first[1:3], atol=1e-5)


def watched(base: DiffusionPolicy) -> list[Tensor]:
    """Every noisy chunk that the network is given from now on."""
    seen: list[Tensor] = []
    network: Any = base.network
    inner = network.denoise

    def denoise(x: Tensor, modulation: Tensor) -> Tensor:
        seen.append(x.clone())
        return inner(x, modulation)

    network.denoise = denoise
    return seen


def test_noise_reaches_the_first_level_of_the_list() -> None:
    """noise=1 starts at signal * guess + sigma * n, noise=0 at its mean."""
    starts: list[Tensor] = []
    for noise in (0.0, 1.0):
        base = gaussian(0.0, 0.5)
        policy = WarmStarted(base, timesteps=[10, 0], noise=noise)
        policy.reset(np.array([0]), np.array([4]))
        policy.act(make_window(1), context(0, 0))
        seen = watched(base)
        chunk = policy.act(make_window(1), context(1, 1))
        starts.append(seen[0])
        drawn = torch.from_numpy(chunk.decision["noise"])
    np.testing.assert_allclose(starts[1] - starts[0], float(base.schedule.sigma[10]) * drawn, atol=1e-6)


GRIPPER = ActionSpec(
    (
        ActionPart("bead/target", ActionKind.POINT, (-2.0,), (2.0,), unit="m"),
        ActionPart("bead/gripper", ActionKind.GRIPPER, (0.0,), (1.0,)),
    )
)


@pytest.mark.parametrize("binary", [True, False])
def test_a_binary_gripper_is_fully_open_or_shut_in_the_guess(binary: bool) -> None:
    base = make_policy(replace(SPEC, action=GRIPPER))
    rows = {**make_rows(), "action/commanded": np.array([[-1, 0], [1, 1]], np.float32)}  # normalised: -1 to 1
    base.fit_normalizer(rows)
    assert gripper_components(GRIPPER) == [1]
    policy = WarmStarted(base, timesteps=[1, 0], binary_gripper=binary)
    policy._last.remember(context(0, 0), np.array([[[0.3, 0.4]] * 4 + [[0.3, 0.6]] * 4], np.float32))
    starts = watched(base)
    policy.act(make_window(1), context(1, 1))
    gripper = starts[0][0, :, 1] / float(base.schedule.signal[1])
    expected = [-1.0] * 3 + [1.0] * 5 if binary else [-0.2] * 3 + [0.2] * 5
    np.testing.assert_allclose(gripper, expected, atol=1e-6)
    np.testing.assert_allclose(starts[0][0, :, 0] / float(base.schedule.signal[1]), 0.3, atol=1e-6)


class Chunks:
    """A base that shows nothing but its chunks."""

    spec = SPEC

    def sample(self, obs: Any, noise: Tensor) -> Tensor:
        return noise

    def act(self, window: Any, context: ActContext) -> ActionChunk:
        raise AssertionError("nobody asks it to act here")


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="Chunks offers chunks only"):
        WarmStarted(Chunks())
    with pytest.raises(ConfigError, match="execute=8"):
        WarmStarted(make_acting(), execute=8)
    with pytest.raises(ConfigError, match="settled=8"):
        WarmStarted(make_acting(), settled=8)
    for timesteps in ([1, 2], [50, 0], []):
        with pytest.raises(ConfigError, match="falling"):
            WarmStarted(make_acting(), timesteps=timesteps)
