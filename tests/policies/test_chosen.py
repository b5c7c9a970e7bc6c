"""Choosing among samples: exactness at K = 1, nested noise, hand-made medoids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.black_box import BlackBox
from policies.chosen import AtRandom, Choice, Chosen, Medoid, in_limits
from policies.diffusion import DiffusionPolicy
from robot_rl.errors import ConfigError
from robot_rl.types import ActContext
from tests.policies.tiny import SPEC, decisions, make_acting, make_window


@pytest.fixture(scope="module")
def base() -> DiffusionPolicy:
    return make_acting(seed=4)


@pytest.mark.parametrize("choice", [Medoid(), AtRandom()])
@pytest.mark.parametrize("batch_rows", [None, 2])
def test_one_candidate_is_the_base_bit_for_bit(choice: Choice, batch_rows: int | None) -> None:
    base = make_acting(seed=4, batch_rows=batch_rows)
    for ours, theirs in zip(decisions(Chosen(base, choice, 1)), decisions(base), strict=True):
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        np.testing.assert_array_equal(ours.decision["noise"], theirs.decision["noise"])
        assert ours.execute == theirs.execute


def test_with_a_constant_batch_candidates_are_equal_to_the_bit_whatever_their_number() -> None:
    base = make_acting(seed=4, batch_rows=4)
    for few, many in zip(decisions(Chosen(base, Nth(2), 4)), decisions(Chosen(base, Nth(2), 7)), strict=True):
        np.testing.assert_array_equal(few.actions, many.actions)


class Nth:
    """Picks candidate ``n`` of every row."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, executed: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
        return torch.full((len(executed),), self.n)


def test_candidates_are_nested_and_the_first_is_the_bases(base: DiffusionPolicy) -> None:
    for few, many in zip(decisions(Chosen(base, Nth(2), 4)), decisions(Chosen(base, Nth(2), 16)), strict=True):
        np.testing.assert_array_equal(few.decision["noise"], many.decision["noise"])
        np.testing.assert_allclose(few.actions, many.actions, atol=1e-5)  # another batch shape
    for first, own in zip(decisions(Chosen(base, Nth(0), 16)), decisions(base), strict=True):
        np.testing.assert_array_equal(first.decision["noise"], own.decision["noise"])


def test_what_acts_is_the_sample_of_the_recorded_noise(base: DiffusionPolicy) -> None:
    (chunk,) = decisions(Chosen(base, Medoid(), 6), count=1)
    seen = {key: torch.from_numpy(value) for key, value in make_window(3, 0).items()}
    again = BlackBox(base).sample(seen, torch.from_numpy(chunk.decision["noise"]))
    np.testing.assert_allclose(chunk.actions, again.numpy(), atol=1e-5)


def test_a_sampler_alone_is_base_enough(base: DiffusionPolicy) -> None:
    whole, box = Chosen(base, Medoid(), 5), Chosen(BlackBox(base), Medoid(), 5)
    for one, other in zip(decisions(whole), decisions(box), strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_the_medoid_is_the_middle_of_the_larger_mode() -> None:
    """Of 0, 1, 2, 9, 10 the summed distances are 22, 19, 18, 25, 28."""
    points = torch.tensor([[0.0, 10.0, 1.0, 9.0, 2.0], [5.0, 5.0, 5.0, 5.0, 5.0]])
    index = Medoid()(points[:, :, None, None], torch.zeros(2, 5))
    assert index[0] == 4
    assert points[1, index[1]] == 5.0


def test_the_medoid_measures_along_all_executed_actions() -> None:
    """By the first step alone candidate 1 is in the middle, by both steps candidate 2 (5.22, 9.90, 5.12)."""
    steps = torch.tensor([[[0.0, 0.0], [0.1, 5.0], [0.2, 0.1]]])
    assert Medoid()(steps[..., None], torch.zeros(1, 3)).item() == 2
    assert Medoid()(steps[:, :, :1, None], torch.zeros(1, 3)).item() == 1


def test_at_random_every_candidate_is_as_likely(base: DiffusionPolicy) -> None:
    """Of 400 draws of one of 4, candidate 0 is chosen 100 times, give or take 5 standard deviations of 8.7."""
    chosen, firsts = Chosen(base, AtRandom(), 4), 0
    for seed in range(100):
        chosen.reset(np.arange(4), np.arange(4) + 4 * seed)
        base.reset(np.arange(4), np.arange(4) + 4 * seed)
        ours = chosen.act(make_window(4), ActContext.start(4)).decision["noise"]
        own = base.act(make_window(4), ActContext.start(4)).decision["noise"]
        firsts += int((ours == own).all(axis=(1, 2)).sum())
    assert abs(firsts - 100) < 44


def test_actions_are_compared_as_the_env_executes_them() -> None:
    """Limits of the bead's target are -2 to 2 m: what lies beyond counts as the limit."""
    actions = torch.tensor([[-2.0, 0.0], [1.0, 7.0]])
    torch.testing.assert_close(in_limits(actions, SPEC.action), torch.tensor([[-1.0, 0.0], [0.5, 1.0]]))


def test_no_candidates_are_refused(base: DiffusionPolicy) -> None:
    with pytest.raises(ConfigError, match="candidates=0"):
        Chosen(base, Medoid(), 0)
