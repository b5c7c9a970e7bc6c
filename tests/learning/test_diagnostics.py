"""Dormant units and over-estimation, by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.q_ensemble import QEnsemble
from robot_rl.learning.diagnostics import Recorded, diagnose, dormant_ratio, earned
from robot_rl.types import Cut, ReplayView
from tests.data.test_replay import episode

VIEW = ReplayView(observation=("obs/x",), discount_per_control_step=0.5, n_step=3, cut=Cut.INTERVENTION)


class Constant:
    """Critic that says 0.75 of a step and 0.25 of what follows."""

    def values(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        rows = len(batch["reward"])
        return torch.full((rows,), 0.75), torch.full((rows,), 0.25)

    def activations(self, batch: Mapping[str, Tensor]) -> Mapping[str, Sequence[Tensor]]:
        return {"critic": [torch.tensor([[1.0, 0.0], [1.0, 0.0]])]}


def test_units_far_below_their_layers_mean_are_dormant_each_network_for_itself() -> None:
    quiet = torch.tensor([[4.0, 0.0, 2.0, 0.02], [2.0, 0.0, 4.0, 0.02]])  # means 3, 0, 3, 0.02; layer's 1.505
    assert dormant_ratio([quiet]) == 0.5
    assert dormant_ratio([quiet], threshold=0.0) == 0.25
    assert dormant_ratio([torch.stack([quiet, torch.ones_like(quiet)])]) == 0.25
    assert dormant_ratio([]) == 0.0


def test_what_was_earned_is_discounted_and_goes_on_after_a_time_limit() -> None:
    """Episode 0 ends by success, episode 1 by the clock: 0.5^2 * 8 = 2 at its start."""
    reward, bootstrap = np.array([0.0, 0.0, 1.0, 0.0, 0.0]), np.array([0.5, 0.5, 0.0, 0.5, 0.5])
    found = earned(reward, bootstrap, np.full(5, 8.0), np.array([0, 0, 0, 1, 1]))
    assert found.tolist() == [0.25, 0.5, 1.0, 2.0, 4.0]


def test_overestimation_is_the_mean_of_q_minus_return_over_steps() -> None:
    won = episode(2, id="a", reward=(0, 1), success=[1], terminated=True)  # returns 0.5, 1
    lost = episode(2, id="b")  # returns 0.0625, 0.125
    found = diagnose(Constant(), VIEW, [won, lost])
    assert found["return"] == pytest.approx((0.5 + 1.0 + 0.0625 + 0.125) / 4)
    assert found["q_minus_return"] == pytest.approx(0.75 - found["return"])
    assert found["dormant_critic"] == 0.5
    assert diagnose(Constant(), VIEW, []) == {}


def test_hidden_units_are_recorded_only_while_asked_for() -> None:
    critic = QEnsemble(3, 2, members=4, hidden=(8, 6))
    with Recorded(critic, (torch.nn.ReLU,)) as recorded:
        critic(torch.randn(5, 3), torch.randn(5, 2))
    critic(torch.randn(5, 3), torch.randn(5, 2))
    # two members at a time, each through both layers
    assert [tuple(output.shape) for output in recorded.outputs] == 2 * [(2, 5, 8), (2, 5, 6)]
