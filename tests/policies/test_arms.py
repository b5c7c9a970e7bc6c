"""Who has an episode, and the gate within one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.arms import Arms, gate
from robot_rl.errors import CheckpointError


def arms(share: float, handed: bool, *, forced: bool = False) -> Arms:
    made = Arms(seed=3, forced=forced)
    made.load_state_dict(
        {"arms.share": torch.tensor(share), "arms.handed": torch.tensor(float(handed)), "else": torch.ones(2)}
    )
    return made


def chosen(made: Arms, seeds: range, *, explore: bool) -> np.ndarray:
    made.reset(np.arange(len(seeds)), np.array(seeds))
    return made.reinforced(len(seeds), explore)


def test_exploring_episodes_go_by_chance_of_their_seed_and_by_the_share() -> None:
    made = arms(0.3, handed=False)
    first = chosen(made, range(2000), explore=True)
    assert first.mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_array_equal(chosen(made, range(1000, 2000), explore=True), first[1000:])
    assert chosen(arms(0.6, handed=False), range(2000), explore=True)[first].all()  # a larger share gives more away


def test_a_row_keeps_its_arm_until_it_is_reset() -> None:
    """New weights may arrive in the middle of an episode."""
    made = arms(0.0, handed=False)
    assert not chosen(made, range(2), explore=True).any()
    made.share = 1.0
    assert not made.reinforced(2, explore=True).any()
    made.reset(np.array([1]), np.array([5]))
    assert made.reinforced(2, explore=True).tolist() == [False, True]


def test_what_is_deployed_is_what_was_handed_over() -> None:
    assert not chosen(arms(0.6, handed=False), range(50), explore=False).any()
    assert chosen(arms(0.6, handed=True), range(50), explore=False).all()
    assert chosen(Arms(seed=0), range(50), explore=True).all()  # nobody hands anything over
    for explore in (False, True):
        assert chosen(arms(0.0, handed=False, forced=True), range(50), explore=explore).all()


def test_a_state_goes_out_as_it_came_in() -> None:
    state = arms(0.75, handed=True).state_dict()
    assert {key: float(value) for key, value in state.items()} == {"arms.share": 0.75, "arms.handed": 1.0}
    with pytest.raises(CheckpointError, match=r"arms\.share"):
        Arms(seed=0).load_state_dict({})


def test_the_gate_goes_by_the_members_own_differences() -> None:
    """Gains of two members: 0.1 and 0.3 (mean 0.2, deviation 0.1), -0.2 and 0.4 (0.1, 0.3), 0 and 0 (not above)."""
    base = torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.1, 0.1]])
    values = torch.tensor([[0.6, 0.3, 0.5], [0.4, 0.5, 0.1]])
    assert gate(values, base, 0.0).tolist() == [True, True, False]
    assert gate(values, base, 1.0).tolist() == [True, False, False]
    assert gate(values, base, 2.1).tolist() == [False, False, False]
