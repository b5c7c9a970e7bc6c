"""Calibrated conservative Q-learning where the answer is known by hand."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from policies.chunk_critic import ChunkCritic
from policies.squashed_gaussian import SquashedGaussian
from robot_rl.errors import ConfigError
from robot_rl.learning.bc import DEMONSTRATIONS
from robot_rl.learning.calql import CalQl
from tests.learning.chain import DISCOUNT, judged, make_batch, make_critic

ACTOR = functools.partial(SquashedGaussian, hidden=(16,))


def make_learner(critic: ChunkCritic, **options: Any) -> CalQl:
    """For rewards 0 and 1, whose returns span 1. The weight lifts what is in the data by up to half of it."""
    settings = {"discount": DISCOUNT, "reward_shift": 0.0, "conservatism": 0.02, "learning_rate": 3e-3, "polyak": 0.05}
    return CalQl(critic, **{"actor": ACTOR, **settings, **options})


def test_the_optimum_is_recovered_and_stitched_together() -> None:
    """Q*(start, right) = gamma^2, though the only episode through it earned nothing."""
    critic = make_critic()
    learner, metrics = make_learner(critic), {}
    for _ in range(12):
        metrics = learner.update({DEMONSTRATIONS: make_batch()})
    critic.load_state_dict(learner.acting_state())
    found = judged(critic)
    np.testing.assert_allclose(found["middle"], [0.0, 1.0], atol=0.1)
    np.testing.assert_allclose(found["start"], [0.0, DISCOUNT**2], atol=0.1)
    assert metrics["loss"] < 0.02


class Uniform(nn.Module):
    """An actor without preference: density 2^-A in the box."""

    def __init__(self, feature_size: int, action_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action = 2.0 * torch.special.ndtr(noise) - 1.0
        return action, torch.full(action.shape[:-1], -noise.shape[-1] * math.log(2.0))


class Flat(nn.Module):
    """Members that say ``value`` of everything."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        return torch.full((2, len(features)), self.value)


@pytest.mark.parametrize("calibrated", [True, False])
def test_nothing_is_pushed_below_what_was_earned(calibrated: bool) -> None:
    """Q = -5 everywhere and two steps of one component: the log-integral of exp Q over the box is -5 + 2 ln 2. Where 0
    was earned, two thirds of the samples, the actor's, count as 0."""
    critic = make_critic()
    learner = make_learner(critic, actor=Uniform, calibrated=calibrated)
    critic.ensemble = Flat(-5.0)  # type: ignore[assignment]
    features, generator = torch.zeros((3, critic.feature_size)), torch.Generator().manual_seed(0)
    pushed = learner._pushed(features, features, torch.zeros(3), generator)
    expected = math.log((math.exp(-5.0) + 2.0) / 3.0) if calibrated else -5.0
    torch.testing.assert_close(pushed, torch.full((2, 3), expected + 2.0 * math.log(2.0)))


def test_a_large_weight_keeps_unseen_chunks_below_those_seen() -> None:
    """No push of 2 m was ever seen; its value stays below that of the successful one."""
    critic = make_critic()
    learner = make_learner(critic, conservatism=1.0)
    for _ in range(10):
        learner.update({DEMONSTRATIONS: make_batch()})
    critic.load_state_dict(learner.acting_state())
    chunks = torch.tensor([1.0, 2.0, -2.0]).view(1, 3, 1, 1).expand(1, 3, 2, 1)
    seen, beyond, below = critic.values({"bead/place": torch.tensor([[[0.0, 1.0]]])}, chunks).mean(dim=0)[0].tolist()
    assert seen > max(beyond, below)


@pytest.mark.parametrize("options", [{"samples": 0}, {"backup_samples": 0}, {"conservatism": -1.0}])
def test_what_cannot_be_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make_learner(make_critic(), **options)
