"""Three frames in a row, in the right place: by hand, and the running rule against the one over whole episodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.errors import ConfigError
from robot_rl.runtime.success_rule import SuccessCounter, SuccessRule

ANYWHERE = np.zeros((6, 3))


def test_the_third_frame_in_a_row_is_the_success() -> None:
    rule = SuccessRule(0.8, 3)
    assert rule.first(np.array([0.9, 0.9, 0.7, 0.8, 0.9, 1.0]), ANYWHERE) == 5
    assert rule.first(np.array([0.9, 0.9, 0.7, 0.8, 0.9, 0.1]), ANYWHERE) is None
    assert SuccessRule(0.8, 1).first(np.array([0.1, 0.9]), ANYWHERE[:2]) == 1


def test_levels_are_the_thresholds_up_to_which_it_would_have_been_one() -> None:
    scores = np.array([0.9, 0.5, 0.7, 0.8, 0.6, 0.2])
    np.testing.assert_array_equal(SuccessRule(0.8, 3).levels(scores, ANYWHERE), [0, 0, 0.5, 0.5, 0.6, 0.2])


def test_a_frame_with_the_tool_elsewhere_does_not_count() -> None:
    rule = SuccessRule(0.5, 2, lower_m=[0, 0, 0], upper_m=[1, 1, 1])
    where = np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 1.1], [0, 1, 0], [1, 0, 1]])
    assert rule.inside(where).tolist() == [True, False, True, True]
    assert rule.first(np.ones(4), where) == 3


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.9]), st.booleans()), min_size=1, max_size=12), st.integers(1, 4))
def test_the_running_rule_says_the_same(frames: list[tuple[float, bool]], consecutive: int) -> None:
    rule = SuccessRule(0.5, consecutive, lower_m=[0, 0, 0], upper_m=[1, 1, 1])
    scores = np.array([score for score, _ in frames])
    positions = np.array([[0.5 if inside else 2.0] * 3 for _, inside in frames]).reshape(-1, 3)
    counter = SuccessCounter(rule)
    fired = [counter.add(score, where) for score, where in zip(scores, positions, strict=True)]
    assert rule.first(scores, positions) == (fired.index(True) if any(fired) else None)


def test_an_episode_begins_to_count_anew() -> None:
    counter = SuccessCounter(SuccessRule(0.5, 2))
    assert not counter.add(1.0, ANYWHERE[0])
    counter.reset()
    assert not counter.add(1.0, ANYWHERE[0])


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.1}, {"threshold": 0.5, "consecutive": 0}])
def test_a_rule_that_always_or_never_holds_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        SuccessRule(**options)  # type: ignore[arg-type]
