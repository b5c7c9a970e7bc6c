"""Plans that continue the one in force: weights by hand, settled actions to the bit, smaller jumps at borders."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from policies.flow_matching import Euler, StraightPath
from policies.real_time_chunking import RealTimeChunked, prefix_weights
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext, Array
from tests.policies.test_warm_started import Chunks, gaussian
from tests.policies.tiny import decisions, make_acting, make_window

FLOW: dict[str, Any] = {"sampler": functools.partial(Euler, steps=5), "schedule": StraightPath(steps=50)}


def context(step: int, executed: int, delay: int = 0, takeover: bool = False) -> ActContext:
    return ActContext(np.array([step]), np.array([executed]), np.array([delay]), np.array([takeover]))


def test_weights_by_hand() -> None:
    """One settled row, fading up to row 4: the ramp (4 - i) / 4 of rows 1 to 3, bent by w (e^w - 1) / (e - 1)."""
    weights = prefix_weights(np.array([1, 0, 2, 0]), np.array([4, 0, 2, 8]), 6)
    bent = [w * (np.exp(w) - 1) / (np.e - 1) for w in (3 / 4, 2 / 4, 1 / 4)]
    np.testing.assert_allclose(weights[0], [1, *bent, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(weights[1], 0)
    np.testing.assert_array_equal(weights[2], [1, 1, 0, 0, 0, 0])
    assert (np.diff(weights[3]) < 0).all() and 0 < weights[3, 5] < weights[3, 0] < 1


@pytest.mark.parametrize("options", [{}, FLOW], ids=["ddim", "flow"])
def test_without_overlap_and_delay_it_is_the_base_bit_for_bit(options: dict[str, Any]) -> None:
    base, chunked = make_acting(**options), RealTimeChunked(make_acting(**options), overlap=0)
    for policy in (base, chunked):
        policy.reset(np.array([0]), np.array([7]))
    for step in (0, 4, 8):
        moment = context(step, min(step, 4))
        ours, theirs = chunked.act(make_window(1, step), moment), base.act(make_window(1, step), moment)
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        assert ours.execute == theirs.execute
    np.testing.assert_array_equal(
        decisions(RealTimeChunked(make_acting(**options)), 1)[0].actions, decisions(base, 1)[0].actions
    )


@pytest.mark.parametrize("options", [{}, FLOW], ids=["ddim", "flow"])
@pytest.mark.parametrize("measured", [True, False])
def test_what_the_arm_executes_meanwhile_is_settled_to_the_bit(options: dict[str, Any], measured: bool) -> None:
    policy = RealTimeChunked(make_acting(**options), delay_steps=0 if measured else 3)
    delay = 3 if measured else 0
    policy.reset(np.array([0]), np.array([7]))
    first = policy.act(make_window(1, 0), context(0, 0, delay)).actions[0]
    second = policy.act(make_window(1, 1), context(4, 4, delay)).actions[0]
    np.testing.assert_array_equal(second[:3], first[4:7])
    assert not np.array_equal(second[3], first[7])
    voided = policy.act(make_window(1, 2), context(8, 4, delay, takeover=True)).actions[0]
    assert not np.array_equal(voided[:3], second[4:7])


def test_each_step_draws_the_clean_estimate_towards_the_plan_in_force() -> None:
    """Data N(0, d^2) in closed form: by hand, over the sampler's own steps."""
    base = gaussian(0.0, 0.3)
    policy = RealTimeChunked(base, overlap=4)
    policy.reset(np.array([0]), np.array([4]))
    first = policy.act(make_window(1), context(0, 0)).actions[0]
    chunk = policy.act(make_window(1), context(4, 4))
    weight = prefix_weights(np.array([0]), np.array([4]), 8)[0][:, None]
    wanted: Array = np.concatenate((first[4:], np.repeat(first[-1:], 4, axis=0)))
    x, timesteps = chunk.decision["noise"][0].astype(np.float64), list(base.sampler.timesteps)
    for t, following in zip(timesteps, [*timesteps[1:], -1], strict=True):
        s, n = float(base.schedule.signal[t]), float(base.schedule.sigma[t])
        clean = np.clip(s * 0.09 / (s * s * 0.09 + n * n) * x, -1, 1)
        clean = clean + weight * (wanted - clean)
        ahead = (float(base.schedule.signal[following]), float(base.schedule.sigma[following]))
        s2, n2 = ahead if following >= 0 else (1.0, 0.0)
        x = s2 * clean + n2 * (x - s * clean) / n
    np.testing.assert_allclose(chunk.actions[0], x, atol=1e-4)


def test_borders_jump_less_than_the_bases() -> None:
    """The jump: how far a plan's first new action lies from what the plan before had for that step."""

    def jump(policy: Any) -> float:
        policy.reset(np.array([0]), np.array([3]))
        previous, jumps = None, []
        for step in range(0, 40, 4):
            chunk = policy.act(make_window(1, step), context(step, 4 if step else 0)).actions[0]
            if previous is not None:
                jumps.append(np.linalg.norm(chunk[0] - previous[4]))
            previous = chunk
        return float(np.mean(jumps))

    assert jump(RealTimeChunked(make_acting())) < 0.7 * jump(make_acting())


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="Chunks offers chunks only"):
        RealTimeChunked(Chunks())
    with pytest.raises(ConfigError, match="8 steps are planned and 4 executed"):
        RealTimeChunked(make_acting(), overlap=5)
    with pytest.raises(ConfigError, match="delay_steps=5"):
        RealTimeChunked(make_acting(), delay_steps=5)
