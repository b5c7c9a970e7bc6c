"""The governor of updates per step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.errors import ConfigError
from robot_rl.learning.update_ratio import UpdateRatio


def test_equal_bounds_give_exactly_so_many_updates() -> None:
    ratio = UpdateRatio(2.0, 2.0, start=3)
    done = []
    for steps in range(6):
        allowed = ratio.verdict(steps).updates
        ratio.add(allowed)
        done.append(allowed)
    # the steps before the start are made up for at once
    assert done == [0, 0, 0, 6, 2, 2]
    assert ratio.ratio(5) == 2.0


def test_a_starved_learner_waits() -> None:
    ratio = UpdateRatio(0.0, 1.5)
    ratio.add(ratio.verdict(2).updates)
    assert ratio.updates == 3
    assert ratio.verdict(2).updates == 0
    assert ratio.verdict(3).updates == 1  # 4.5 rounded down


def test_a_learner_that_is_an_episode_behind_pauses_the_actor_and_lets_it_go_again() -> None:
    ratio = UpdateRatio(1.0, 2.0, slack=10)
    assert not ratio.verdict(10).pause_actor
    assert ratio.verdict(11).pause_actor
    ratio.add(1)
    assert not ratio.verdict(11).pause_actor


@given(
    st.floats(0.1, 20.0),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 100)), min_size=1, max_size=40),
)
def test_the_maximum_is_never_passed(maximum: float, rounds: list[tuple[int, int]]) -> None:
    ratio, steps = UpdateRatio(0.0, maximum), 0
    for arrived, wished in rounds:
        steps += arrived
        ratio.add(min(wished, ratio.verdict(steps).updates))
        assert ratio.updates <= maximum * steps + 1e-6


@pytest.mark.parametrize(("minimum", "maximum"), [(2.0, 1.0), (-1.0, 1.0), (0.0, 0.0), (0.0, float("inf"))])
def test_bounds_that_make_no_sense_are_refused(minimum: float, maximum: float) -> None:
    with pytest.raises(ConfigError, match="updates per step between"):
        UpdateRatio(minimum, maximum)
