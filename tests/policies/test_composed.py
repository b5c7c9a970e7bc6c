"""Composition: weights by hand, one member alone to the bit, and what members must agree in."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.black_box import BlackBox, as_sampler
from policies.composed import Composed
from policies.flow_matching import Euler, StraightPath
from policies.scaled_noise import ScaledNoise
from policies.warm_started import WarmStarted
from policies.white_box import WhiteBox
from robot_rl.errors import ConfigError, SpecMismatchError
from robot_rl.interfaces import ChunkSampler, Denoiser, Policy
from robot_rl.learning.checkpoint import save_checkpoint
from tests.policies.test_warm_started import Chunks, gaussian
from tests.policies.tiny import CONFIG, SPEC, decisions, make_acting, make_rows, make_window

FLOW: dict[str, Any] = {"sampler": functools.partial(Euler, steps=5), "schedule": StraightPath(steps=50)}


def other(**options: Any) -> Any:
    """A member with other weights."""
    policy = make_acting(**options)
    with torch.no_grad():
        for value in policy.module.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(5)), alpha=0.05)
    return policy


def observed(count: int) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in make_window(count).items()}


@pytest.mark.parametrize("options", [{}, FLOW], ids=["ddim", "flow"])
def test_weight_one_on_a_member_is_that_member_bit_for_bit(options: dict[str, Any]) -> None:
    base, second = make_acting(**options), other(**options)
    for weights, alone in (([1.0, 0.0], base), ([0.0, 1.0], second)):
        for ours, theirs in zip(
            decisions(Composed(base, [second], weights)), decisions(ScaledNoise(alone, 1.0)), strict=True
        ):
            np.testing.assert_array_equal(ours.actions, theirs.actions)
            np.testing.assert_array_equal(ours.decision["noise"], theirs.decision["noise"])
    for ours, theirs in zip(decisions(Composed(base, [base])), decisions(base), strict=True):
        np.testing.assert_array_equal(ours.actions, theirs.actions)  # half and half of the same


def test_two_gaussians_by_hand() -> None:
    """Predictions are averaged at every step: here each has a closed form, 0.3 of one and 0.7 of the other."""
    members = [gaussian(-0.4, 0.2), gaussian(0.6, 0.1)]
    policy = Composed(members[0], [members[1]], [0.3, 0.7])
    (chunk,) = decisions(policy, 1, batch=1)
    x = chunk.decision["noise"][0].astype(np.float64)
    schedule, timesteps = members[0].schedule, list(policy.sampler.timesteps)
    for t, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        s, n = float(schedule.signal[t]), float(schedule.sigma[t])
        epsilon = 0.0
        for weight, mean, deviation in ((0.3, -0.4, 0.2), (0.7, 0.6, 0.1)):
            clean = mean + s * deviation**2 / (s * s * deviation**2 + n * n) * (x - s * mean)
            epsilon = epsilon + weight * (x - s * clean) / n
        clean = np.clip((x - n * epsilon) / s, -1, 1)
        ahead = (
            (1.0, 0.0) if following is None else (float(schedule.signal[following]), float(schedule.sigma[following]))
        )
        x = ahead[0] * clean + ahead[1] * (x - s * clean) / n
    np.testing.assert_allclose(chunk.actions[0], x, atol=1e-4)


def test_it_is_itself_a_base_for_everything() -> None:
    policy = Composed(make_acting(), [other()], [0.4, 0.6])
    assert isinstance(policy, Policy) and isinstance(policy, WhiteBox) and isinstance(policy, Denoiser)
    sampler = as_sampler(policy)
    assert isinstance(sampler, ChunkSampler) and isinstance(sampler, BlackBox)
    assert sampler.spec.sha256 == Composed(make_acting(), [other()], [0.4, 0.6]).sha256()
    assert sampler.spec.sha256 != Composed(make_acting(), [other()], [0.6, 0.4]).sha256()
    np.testing.assert_array_equal(decisions(ScaledNoise(policy, 1.0), 1)[0].actions, decisions(policy, 1)[0].actions)
    assert WarmStarted(policy, [2, 0]).calls_per_plan == 2


def test_the_denoiser_is_the_weighted_sum() -> None:
    base, second = make_acting(), other(observation={"wire/angle": "raw"}, history=1)
    policy, seen = Composed(base, [second], [0.25, 0.75]), observed(2)
    assert policy.spec.observation.keys() == base.spec.observation.keys()
    x, t = torch.randn(2, 8, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 7])
    now = {key: value[:, -1:] for key, value in seen.items()}
    with torch.no_grad():
        both = 0.25 * base.predict(x, t, base.encode(seen)) + 0.75 * second.predict(x, t, second.encode(now))
        torch.testing.assert_close(policy.predict(x, t, policy.encode(seen)), both)


def test_members_are_loaded_from_checkpoints(tmp_path: Path) -> None:
    from robot_rl.learning.targets import build

    second = build(CONFIG, env_spec=SPEC)
    second.fit_normalizer(make_rows())
    folder = save_checkpoint(tmp_path / "run", weights=second.state_dict(), config=CONFIG, env_spec=SPEC)
    policy = Composed(make_acting(), [str(folder)], [0.0, 1.0])
    np.testing.assert_array_equal(decisions(policy, 1)[0].actions, decisions(second, 1)[0].actions)


def test_what_does_not_fit_is_refused() -> None:
    base = make_acting()
    for options, reason in [
        ({"horizon": 4}, "T_p"),
        (FLOW, "noise schedule, prediction"),
        ({"normalization": "gaussian"}, "action normaliser"),
    ]:
        with pytest.raises(SpecMismatchError, match=f"differ in {reason}"):
            Composed(base, [make_acting(**options)])
    with pytest.raises(ConfigError, match="Chunks offers chunks only"):
        Composed(base, [Chunks()])
    for weights in ([1.0], [0.5, 0.6], [1.5, -0.5]):
        with pytest.raises(ConfigError, match="weights"):
            Composed(base, [other()], weights)
