"""Intervals and tests against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.errors import InvalidArrayError
from robot_rl.runtime.statistics import bootstrap_mean, clopper_pearson, mcnemar_exact, sign_flip_test


def test_clopper_pearson_where_the_binomial_can_be_inverted_by_hand() -> None:
    # all of n: p^n = 0.025; none of n: (1 - p)^n = 0.025; 1 of 2: 1 - (1 - p)^2 = 0.025 and 1 - p^2 = 0.025
    assert clopper_pearson(10, 10) == pytest.approx((0.025**0.1, 1.0))
    assert clopper_pearson(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert clopper_pearson(1, 2) == pytest.approx((1 - math.sqrt(0.975), math.sqrt(0.975)))
    assert clopper_pearson(1, 1, confidence=0.9) == pytest.approx((0.05, 1.0))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_clopper_pearson_bounds_leave_the_tails_they_promise(case: tuple[int, int]) -> None:
    successes, trials = case
    low, high = clopper_pearson(successes, trials)

    def tail(p: float, counts: range) -> float:
        return sum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in counts)

    assert low <= successes / trials <= high
    if successes:
        assert tail(low, range(successes, trials + 1)) == pytest.approx(0.025, abs=1e-9)
    if successes < trials:
        assert tail(high, range(successes + 1)) == pytest.approx(0.025, abs=1e-9)


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(InvalidArrayError):
        clopper_pearson(*counts)


@pytest.mark.parametrize(
    ("first", "second", "p"), [(5, 0, 2 / 32), (0, 5, 2 / 32), (6, 1, 2 * (1 + 7) / 128), (3, 3, 1.0), (0, 0, 1.0)]
)
def test_mcnemar_counts_coin_tosses(first: int, second: int, p: float) -> None:
    assert mcnemar_exact(first, second) == pytest.approx(p)


def test_sign_flips_are_enumerated() -> None:
    assert sign_flip_test([1.0] * 5) == 2 / 32
    assert sign_flip_test([1.0, 2.0, 3.0]) == 2 / 8  # only +++ and --- reach 6
    assert sign_flip_test([1.0, 2.0, -3.0]) == 1.0
    assert sign_flip_test([0.0, 0.0]) == 1.0
    assert sign_flip_test([0.0, 1.0]) == 1.0


def test_sign_flips_drawn_at_random_agree_with_the_exact_test() -> None:
    differences = np.random.default_rng(1).normal(0.5, 1.0, 12)
    exact = sign_flip_test(differences)
    assert sign_flip_test(differences, resamples=4000) == pytest.approx(exact, abs=0.02)
    assert 0 < sign_flip_test(np.ones(40)) < 1e-3  # never zero: the observed one counts


def test_bootstrap_of_two_points_and_of_a_constant() -> None:
    # means of two draws from {0, 1} are 0, 1/2, 1 with 1/4, 1/2, 1/4
    assert bootstrap_mean([0.0, 1.0]) == (0.0, 1.0)
    assert bootstrap_mean([0.0, 1.0], confidence=0.4) == (0.5, 0.5)
    assert bootstrap_mean([0.3] * 4) == pytest.approx((0.3, 0.3))
    assert bootstrap_mean([1.0, 2.0, 4.0], seed=3) == bootstrap_mean([1.0, 2.0, 4.0], seed=3)
    with pytest.raises(InvalidArrayError):
        bootstrap_mean([])
    with pytest.raises(InvalidArrayError):
        bootstrap_mean([0.0, math.nan])


def test_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    samples = random.uniform(0, 1, (200, 40))
    covered = [low <= 0.5 <= high for low, high in (bootstrap_mean(sample, resamples=500) for sample in samples)]
    assert 0.88 <= np.mean(covered) <= 0.99
