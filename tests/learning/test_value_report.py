"""Monte-Carlo returns and what a critic is told to be worth, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from policies.chunk_critic import ChunkCritic
from robot_rl.data.replay import ReplaySampler
from robot_rl.learning.returns import WithReturns
from robot_rl.learning.value_report import rank_correlation, report_values
from robot_rl.types import ActionKind, ActionPart, ActionSpec, ArraySpec, EnvSpec, ReplayView
from tests.data.test_replay import episode

VIEW = ReplayView(observation=("obs/x",), discount_per_control_step=0.5, horizon=2)
PUSH = ActionSpec((ActionPart("bead/push", ActionKind.POINT, (0.0,), (20.0,)),))
SPEC = EnvSpec("bead", 10.0, {"x": ArraySpec((1,))}, PUSH, arm_parts=("bead",), task="line")
EPISODES = [episode(2, id="a", reward=(0, 1), success=[1], terminated=True), episode(3, id="b")]


def with_returns(beyond: float = 0.0) -> WithReturns:
    return WithReturns(ReplaySampler(EPISODES, VIEW, batch=4), EPISODES, beyond=beyond)


@pytest.mark.parametrize("beyond", [0.0, -8.0])
def test_returns_are_discounted_and_go_on_as_told_after_a_time_limit(beyond: float) -> None:
    """Success at the second step: 1/2, 1. Three steps up to the clock: 1/8, 1/4, 1/2 of what comes after."""
    chunks = with_returns(beyond)
    batch = chunks.gather(np.arange(len(chunks)))
    assert batch["return"].tolist() == [0.5, 1.0, beyond / 8, beyond / 4, beyond / 2]
    drawn = chunks.batch(3)
    first = {(int(e), int(r)): v for e, r, v in zip(batch["episode"], batch["row"], batch["return"], strict=True)}
    assert [first[int(e), int(r)] for e, r in zip(drawn["episode"], drawn["row"], strict=True)] == drawn[
        "return"
    ].tolist()


def test_a_command_that_was_dropped_ends_no_return() -> None:
    """The step that did not act is left out; what came after it still counts for what came before."""
    gap = [episode(4, reward=(0, 0, 0, 1), success=[3], terminated=True, invalid=[1])]
    chunks = WithReturns(ReplaySampler(gap, VIEW, batch=1), gap)
    batch = chunks.gather(np.arange(len(chunks)))
    assert dict(zip(batch["row"].tolist(), batch["return"].tolist(), strict=True)) == {0: 0.25, 2: 0.5, 3: 1.0}


class Linear(nn.Module):
    """Members 3 and 5 times the first step of a chunk, as the critics see it."""

    def __init__(self, feature_size: int, action_size: int) -> None:
        super().__init__()

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        return torch.tensor([3.0, 5.0])[:, None] * action[:, 0]


def test_the_report_is_as_computed_by_hand() -> None:
    """Commands 10, 11 and 10, 11, 12 of 0 to 20 are 0, 0.1, 0, 0.1, 0.2 in units of the limits and, with statistics of
    mean 0 and deviation 1 there, also what the critics see: Q = 0, 0.4, 0, 0.4, 0.8 by slope 4."""
    critic = ChunkCritic(SPEC, Linear, horizon=2)
    rows = np.array([[0.0], [20.0]], np.float32)  # -1 and 1
    critic.fit_normalizer({"obs/x": rows, "action/commanded": rows})
    found = report_values(critic, with_returns())
    assert found["q_minus_return"] == pytest.approx(1.6 / 5 - 1.5 / 5, abs=1e-6)
    assert found["return"] == pytest.approx(0.3)
    assert found["dq_da"] == pytest.approx(4.0)
    assert found["disagreement"] == pytest.approx(1.6 / 5 / 4)  # a quarter of Q, on average
    # ranks of Q 1.5 3.5 1.5 3.5 5, of returns 4 5 2 2 2: covariance -0.3, deviations sqrt 1.8 and sqrt 1.6
    assert found["rank_correlation"] == pytest.approx(-0.3 / np.sqrt(1.8 * 1.6))


def test_ranks_of_ties_are_their_mean() -> None:
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 900.0])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == pytest.approx(-1.0)
    assert rank_correlation(np.array([1.0, 2.0]), np.array([5.0, 5.0])) == 0.0
