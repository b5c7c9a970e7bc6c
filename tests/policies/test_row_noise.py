from __future__ import annotations

import numpy as np

from policies.row_noise import RowNoise


def test_noise_depends_on_seed_episode_and_decision_alone() -> None:
    batched, single = RowNoise(3), RowNoise(3)
    batched.reset(np.arange(4), np.array([10, 11, 12, 13]))
    rows = [batched.draw(4, (5, 2)) for _ in range(3)]
    for row, episode in enumerate((10, 11, 12, 13)):
        single.reset(np.array([0]), np.array([episode]))
        for decision in range(3):
            assert np.array_equal(single.draw(1, (5, 2))[0], rows[decision][row])


def test_resetting_one_row_leaves_the_others_alone() -> None:
    noise = RowNoise(0)
    noise.reset(np.arange(2), np.array([5, 6]))
    first = noise.draw(2, (3,))
    noise.reset(np.array([0]), np.array([5]))
    second = noise.draw(2, (3,))
    assert np.array_equal(second[0], first[0])
    assert not np.array_equal(second[1], first[1])


def test_draws_are_standard_normal_and_differ_by_seed() -> None:
    draws = RowNoise(1).draw(1, (20_000,))[0]
    assert abs(draws.mean()) < 0.03
    assert abs(draws.std() - 1) < 0.02
    assert not np.array_equal(draws, RowNoise(2).draw(1, (20_000,))[0])
    assert draws.dtype == np.float32
