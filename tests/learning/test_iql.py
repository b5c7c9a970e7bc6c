"""Implicit Q-learning where the answer is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.chunk_critic import ChunkCritic
from robot_rl.errors import ConfigError, InvalidArrayError
from robot_rl.learning.bc import DEMONSTRATIONS
from robot_rl.learning.iql import Iql, expectile_loss
from tests.learning.chain import DISCOUNT, judged, make_batch, make_critic


def trained(updates: int = 25, **options: object) -> tuple[ChunkCritic, Iql, dict[str, float]]:
    critic = make_critic()
    settings = {"discount": DISCOUNT, "learning_rate": 3e-3, "polyak": 0.05, **options}
    learner, metrics = Iql(critic, **settings), {}  # type: ignore[arg-type]
    for _ in range(updates):
        metrics = learner.update({DEMONSTRATIONS: make_batch()})
    critic.load_state_dict(learner.acting_state())
    return critic, learner, metrics


def test_the_expectile_of_two_values_divides_them_as_it_says() -> None:
    """Of {0, 1} the loss tau (1 - v)^2 + (1 - tau) v^2 is least at v = tau."""
    value = torch.linspace(0, 1, 101)
    losses = torch.stack([expectile_loss(torch.tensor([0.0, 1.0]) - v, 0.7) for v in value])
    assert value[losses.argmin()].item() == pytest.approx(0.7)


@pytest.mark.parametrize("expectile", [0.5, 0.9])
def test_values_are_those_computed_by_hand(expectile: float) -> None:
    """V(middle) is the expectile of {0, 1}, tau itself, so Q(start, right) = gamma^2 tau."""
    critic, _, metrics = trained(expectile=expectile)
    found = judged(critic)
    np.testing.assert_allclose(found["middle"], [0.0, 1.0], atol=0.05)
    np.testing.assert_allclose(found["start"], [0.0, DISCOUNT**2 * expectile], atol=0.05)
    assert metrics["loss"] < 0.01


def test_a_high_expectile_stitches_the_optimum_together() -> None:
    """Q*(start, right) = gamma^2, though the only episode through it earned nothing."""
    critic, _, _ = trained(expectile=0.99, updates=40)
    found = judged(critic)
    assert found["start"][1] == pytest.approx(DISCOUNT**2, abs=0.05)
    assert found["start"][1] > found["start"][0] + 0.5
    assert found["middle"][1] > found["middle"][0] + 0.5


def test_a_shuffled_critic_knows_states_and_no_actions() -> None:
    """Every chunk belongs to every state: Q is the mean over pushes, 1/2 in the middle."""
    critic, _, _ = trained(shuffled=True, expectile=0.5)
    found = judged(critic)
    np.testing.assert_allclose(found["middle"], [0.5, 0.5], atol=0.15)


def test_targets_stay_within_what_can_be_earned() -> None:
    batch = make_batch(groups=1)
    batch["reward"] = batch["reward"] * 7.0
    critic = make_critic()
    learner = Iql(critic, discount=DISCOUNT, learning_rate=3e-3, polyak=0.05)
    for _ in range(250):
        learner.update({DEMONSTRATIONS: batch})
    assert judged(critic)["middle"][1] == pytest.approx(1.0, abs=0.05)


def test_a_batch_that_is_not_finite_changes_nothing() -> None:
    learner, batch = Iql(make_critic()), make_batch(groups=1)
    before = learner.acting_state()
    batch["reward"][0, 3] = torch.nan
    with pytest.raises(InvalidArrayError, match="reward"):
        learner.update({DEMONSTRATIONS: batch})
    assert all(torch.equal(value, before[name]) for name, value in learner.acting_state().items())


@pytest.mark.parametrize("expectile", [0.0, 1.0])
def test_an_expectile_at_its_ends_is_refused(expectile: float) -> None:
    with pytest.raises(ConfigError, match="expectile"):
        Iql(make_critic(), expectile=expectile)
