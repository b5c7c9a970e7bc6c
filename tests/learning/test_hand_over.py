"""Handing over from base to RL: the posterior in closed form, a share that rises and falls, outcomes as stored."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from robot_rl.data.episode import Episode
from robot_rl.data.tables import EpisodeTable, MemoryEpisodes
from robot_rl.errors import ConfigError
from robot_rl.learning.hand_over import BASE, CLOSED, OPEN, HandOver, not_worse, outcomes_of

RL, ITS = True, False  # who had the episode
WON, LOST = True, False


def test_without_margin_two_equal_posteriors_are_even() -> None:
    assert not_worse((3.0, 5.0), (3.0, 5.0), 0.0) == pytest.approx(0.5, abs=1e-4)


def test_the_posterior_of_uniform_priors_in_closed_form() -> None:
    """P(p >= q - m) of two uniform variables is 1 - (1 - m)^2 / 2; with density 2p it is 1 - (1 - m)^3 / 3."""
    assert not_worse((1.0, 1.0), (1.0, 1.0), 0.05) == pytest.approx(1 - 0.95**2 / 2, abs=1e-5)
    assert not_worse((2.0, 1.0), (1.0, 1.0), 0.05) == pytest.approx(1 - 0.95**3 / 3, abs=1e-5)


def test_the_posterior_agrees_with_sampling() -> None:
    learnt, base = (14.0, 8.0), (20.0, 22.0)
    rng = np.random.default_rng(0)
    drawn = beta(*learnt).rvs(200_000, random_state=rng) >= beta(*base).rvs(200_000, random_state=rng) - 0.05
    assert not_worse(learnt, base, 0.05) == pytest.approx(drawn.mean(), abs=0.004)


def test_the_share_begins_low_rises_by_successes_and_falls_by_failures() -> None:
    """One RL success against nothing known: P = 1 - 0.95^3 / 3 = 0.714 is too little, three: 1 - 0.95^5 / 5 = 0.845."""
    hand_over = HandOver(lowest=0.5, highest=0.9, rise=0.1)
    expected = {1: 0.5, 2: 0.5, 3: 0.6, 4: 0.7, 5: 0.8, 6: 0.9, 7: 0.9}
    for wins, share in expected.items():
        hand_over.heard([(RL, WON)] * wins)
        assert hand_over.share == pytest.approx(share), wins
        assert hand_over.handed is (wins > 4)
    hand_over.heard([(RL, WON)] * 6 + [(ITS, WON)] * 40 + [(RL, LOST)] * 2)
    assert hand_over.share == pytest.approx(0.7)  # rolled back twice
    assert hand_over.figures["base_success"] == 1.0 and hand_over.figures["rl_success"] == 0.75


def test_of_reinforcement_learning_the_newest_episodes_count() -> None:
    """Forty early failures are forgotten after as many successes as the window holds."""
    early = [(ITS, WON), (ITS, LOST)] * 20 + [(RL, LOST)] * 40
    within, beyond = HandOver(window=10), HandOver(window=1000)
    for hand_over in (within, beyond):
        hand_over.heard([*early, *[(RL, WON)] * 10])
    assert within.figures["rl_success"] == 1.0 and within.share > 0.5
    assert beyond.figures["rl_success"] == 0.2 and beyond.share == 0.5


def test_the_base_keeps_a_tenth() -> None:
    hand_over = HandOver()
    hand_over.heard([(RL, WON)] * 200)
    assert hand_over.share == 0.9
    with pytest.raises(ConfigError, match=r"highest <= 0\.9"):
        HandOver(highest=0.95)


def test_the_share_in_force_is_resumed_and_what_was_relabelled_counts_anew() -> None:
    first, second = HandOver(), HandOver()
    told = [(RL, WON)] * 8 + [(ITS, LOST)] * 3
    first.heard(told)
    second.load_state_dict(first.state_dict())
    assert second.share == first.share > 0.5
    for hand_over in (first, second):
        hand_over.heard([(RL, LOST)] * 8 + told[8:])
        assert hand_over.share == 0.5


def test_outcomes_are_read_from_episodes_with_a_persons_help_as_no_success() -> None:
    table = EpisodeTable(["policy/arm", "flags/intervention", "rl/reward"])
    given: list[tuple[list[int], int, bool | None]] = [
        ([BASE] * 4, 0, True),
        ([OPEN, CLOSED, OPEN, CLOSED], 0, True),
        ([OPEN] * 4, 1, True),
        ([CLOSED] * 4, 0, False),
        ([OPEN] * 4, 0, None),
    ]
    episodes = []
    for number, (arm, human, success) in enumerate(given):
        arrays = {
            "policy/arm": np.array([*arm, OPEN], np.uint8),  # the final row is no step
            "flags/intervention": np.array([0, human, 0, 0, 0], np.uint8),
            "rl/reward": np.zeros(5, np.float32),
            "time/t_ns": np.arange(5),
        }
        episodes.append(Episode(f"e{number}", arrays, {"success": success}))
    table.update(MemoryEpisodes(episodes))
    outcomes, figures = outcomes_of(table)
    assert outcomes == [(ITS, WON), (RL, WON), (RL, LOST), (RL, LOST)]
    assert figures == {"gate_open": pytest.approx((0.5 + 1.0 + 0.0) / 3)}
