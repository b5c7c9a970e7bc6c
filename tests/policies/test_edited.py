"""Edited chunks: exactly the base at zero, one rule that acts and makes targets, candidates as recorded."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from policies.arms import BASE, CLOSED, OPEN
from policies.edited import EditedPolicy
from policies.frozen import Frozen
from policies.q_ensemble import QEnsemble
from policies.remote import RemotePolicy
from policies.served import SamplerServer
from robot_rl.learning.candidates import best_candidate
from robot_rl.types import ActContext, ActionChunk
from tests.policies.tiny import SPEC, make_acting, make_rows, make_window

BATCH = 3
CRITIC = functools.partial(QEnsemble, members=2, hidden=(16,))


def make(base: Any = None, **options: Any) -> EditedPolicy:
    given = {"candidates": 4, "hidden": (16,), "fraction": 0.1, "seed": 5, **options}
    policy = EditedPolicy(SPEC, make_acting() if base is None else base, CRITIC, **given)
    policy.fit_normalizer(make_rows())
    return policy


def decisions(policy: Any, *, explore: bool = False) -> list[ActionChunk]:
    policy.reset(np.arange(BATCH), np.arange(BATCH) + 10)
    return [policy.act(make_window(BATCH, step), ActContext.start(BATCH, explore=explore)) for step in range(3)]


class Judge(torch.nn.Module):
    """Two critics that agree: the larger the sum of the chunk, the better, or the worse."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.sign * torch.stack((action.sum(dim=-1), 2.0 * action.sum(dim=-1)))


def judged(policy: EditedPolicy, sign: float, bias: float = 0.5) -> EditedPolicy:
    policy.networks.critic = Judge(sign)
    with torch.no_grad():
        policy.networks.actor.body[-1].bias.fill_(bias)  # type: ignore[union-attr]
    return policy


def test_the_best_candidate_is_what_gains_most_for_sure() -> None:
    """Gains over candidate 0: 0.1 and 0.5 (mean 0.3, deviation 0.2), 0.2 and 0.2; nothing where all lose."""
    values = torch.tensor([[[0.5, 0.6, 0.7], [0.5, 0.4, 0.4]], [[0.1, 0.6, 0.3], [0.1, 0.0, 0.1]]])
    assert best_candidate(values, 0.0).tolist() == [1, 0]
    assert best_candidate(values, 1.0).tolist() == [2, 0]
    assert best_candidate(torch.zeros(2, 5, 4), 0.0).tolist() == [0] * 5


def test_zero_edits_are_the_base_bit_for_bit() -> None:
    """One sample, untrained edits: whatever the critics say there is nothing else to choose."""
    for chunk, expected in zip(decisions(make(candidates=1)), decisions(make_acting()), strict=True):
        assert chunk.actions.tobytes() == expected.actions.tobytes()
        np.testing.assert_array_equal(chunk.decision["noise"], expected.decision["noise"])


@pytest.mark.parametrize("handed", [False, True], ids=["base's episode", "nothing is better"])
def test_of_many_candidates_the_first_is_the_base_bit_for_bit(handed: bool) -> None:
    policy = make(deviations=1e9)
    policy.arms.handed = handed
    for chunk, expected in zip(decisions(policy), decisions(make_acting()), strict=True):
        assert chunk.actions.tobytes() == expected.actions.tobytes()
        np.testing.assert_array_equal(chunk.record["candidates"][:, 0, 0], expected.actions[:, :4])
        assert (chunk.record["arm"] == (CLOSED if handed else BASE)).all()


def test_a_served_base_is_edited_like_any_other() -> None:
    with SamplerServer(make_acting()) as server:
        served = judged(make(Frozen(RemotePolicy(SPEC, server.address))), 1.0)
        for chunk, expected in zip(decisions(served), decisions(judged(make(), 1.0)), strict=True):
            np.testing.assert_array_equal(chunk.actions, expected.actions)


def test_the_best_of_samples_and_edits_acts_and_the_rest_of_its_chunk_stays() -> None:
    """Edits of +0.2 tanh(0.5): where larger is better the largest sample's edit acts, else the smallest sample."""
    for sign, shift in ((1.0, 0.2 * np.tanh(0.5)), (-1.0, 0.0)):
        for chunk in decisions(judged(make(), sign)):
            proposals = chunk.record["candidates"][:, 0]
            sums = np.clip(proposals + shift, -2.0, 2.0).sum(axis=(2, 3))
            best = (sign * sums).argmax(axis=1)
            np.testing.assert_allclose(chunk.actions[:, :4], proposals[np.arange(BATCH), best] + shift, atol=1e-6)
            moved = (best > 0) | (shift > 0)
            np.testing.assert_array_equal(chunk.record["arm"], np.where(moved, OPEN, CLOSED)[:, None].repeat(8, 1))
            assert (chunk.record["candidates"] == proposals[:, None]).all()  # at every step of the decision


def test_exploring_edits_are_noisy_and_the_base_stays_as_it_is() -> None:
    policy = judged(make(noise=0.3), 1.0, bias=0.0)
    sure, noisy = decisions(policy), decisions(policy, explore=True)
    assert all((a.record["candidates"] == b.record["candidates"]).all() for a, b in zip(sure, noisy, strict=True))
    assert all((a.actions[:, :4] != b.actions[:, :4]).any() for a, b in zip(sure, noisy, strict=True))
    assert policy.base.unchanged
