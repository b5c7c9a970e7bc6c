"""Openings and choices, by hand; a policy whose gripper is chosen."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from policies.gaussian import GaussianPolicy
from policies.gripper_values import GripperValues
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.types import ActContext, ActionKind, ActionPart, ActionSpec, ArraySpec, EnvSpec

ARM = ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.02,) * 3, (0.02,) * 3)
GRIPPER = ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,))
OTHER = ActionPart("arm1/gripper", ActionKind.GRIPPER, (0.0,), (1.0,))


def values(parts: tuple[ActionPart, ...] = (ARM, GRIPPER), **options: Any) -> GripperValues:
    return GripperValues(2, ActionSpec(parts), hidden=(8,), **options)


def policy(parts: tuple[ActionPart, ...] = (ARM, GRIPPER), epsilon: float = 0.0) -> GaussianPolicy:
    spec = EnvSpec("toy", 20.0, observation={"s": ArraySpec((2,))}, action=ActionSpec(parts))
    gripper = functools.partial(GripperValues, hidden=(8,), epsilon=epsilon)
    made = GaussianPolicy(spec, hidden=(8,), gripper=gripper, seed=3)
    made.fit_normalizer({"obs/s": np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)})
    return made


def prefer(chosen: GripperValues, choice: int) -> None:
    """Let one choice be the best everywhere."""
    with torch.no_grad():
        chosen.network[-1].bias.copy_(torch.nn.functional.one_hot(torch.tensor(choice), len(chosen.openings)) * 100.0)  # type: ignore[operator,union-attr]


def test_what_was_commanded_counts_as_the_nearest_opening() -> None:
    action = torch.zeros(5, 4)
    action[:, 3] = torch.tensor([0.0, 0.45, 0.55, 1.0, 1.3])
    assert values().choices(action).tolist() == [0, 0, 1, 1, 1]
    assert values(openings=(0.0, 0.5, 1.0)).choices(action).tolist() == [0, 1, 1, 2, 2]


def test_moving_is_closing_an_open_gripper_or_opening_one_that_is_not() -> None:
    """0.5 measured: something is held."""
    measured = torch.tensor([1.0, 0.95, 0.5, 0.0])
    closing, opening = torch.zeros(4, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    assert values().moves(closing, measured).tolist() == [True, True, False, False]
    assert values().moves(opening, measured).tolist() == [False, False, True, True]


@pytest.mark.parametrize("parts", [(ARM, GRIPPER), (GRIPPER, ARM)], ids=["last", "first"])
def test_actions_are_taken_apart_and_put_together(parts: tuple[ActionPart, ...]) -> None:
    chosen, action = values(parts), torch.tensor([[0.01, -0.02, 0.005]])
    whole = chosen.whole(action, torch.tensor([1]))
    assert whole[0, chosen.component] == 1.0
    assert torch.equal(chosen.without(whole), action)
    assert chosen.choices(whole).tolist() == [1]


@pytest.mark.parametrize("parts", [(ARM, GRIPPER), (GRIPPER, ARM)], ids=["last", "first"])
def test_the_best_choice_acts_and_the_gaussian_has_the_rest(parts: tuple[ActionPart, ...]) -> None:
    made, window = policy(parts), {"s": np.zeros((4, 1, 2), np.float32)}
    assert made.gripper is not None
    made.reset(np.arange(4), np.arange(4))
    for choice, opening in ((0, 0.0), (1, 1.0)):
        prefer(made.gripper, choice)
        action = made.act(window, ActContext.start(4, explore=True)).actions[:, 0]
        assert (action[:, made.gripper.component] == opening).all()
        arm = np.delete(action, made.gripper.component, axis=1)
        assert np.abs(arm).max() <= 0.02
        assert len(np.unique(arm)) == arm.size
        assert torch.allclose(made.physical(made.normalised(torch.from_numpy(action))), torch.from_numpy(arm))


def test_one_decision_in_ten_is_drawn_from_all_openings_while_exploring() -> None:
    chosen = values(openings=(0.0, 0.5, 1.0), epsilon=0.1)
    prefer(chosen, 2)
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    drawn = torch.bincount(chosen.choose(torch.zeros(20_000, 2), noise), minlength=3) / 20_000
    # a third of 0.1 each, the best one also whenever it is not drawn; deviation of a share: 0.0013
    torch.testing.assert_close(drawn, torch.tensor([0.0333, 0.0333, 0.9333]), atol=0.005, rtol=0.0)
    assert (chosen.choose(torch.zeros(50, 2)) == 2).all()


def test_weights_of_the_choice_travel_with_the_policy() -> None:
    first, second = policy(), policy()
    assert first.gripper is not None
    assert second.gripper is not None
    prefer(first.gripper, 0)
    prefer(second.gripper, 1)
    second.load_state_dict(first.state_dict())
    assert second.gripper.choose(torch.zeros(1, 2)).item() == 0
    plain = GaussianPolicy(first.env_spec, hidden=(8,))
    plain.fit_normalizer({"obs/s": np.ones((4, 2), np.float32)})
    with pytest.raises(CheckpointError):
        plain.load_state_dict(first.state_dict())


MISTAKES = {
    "no gripper": ({"parts": (ARM,)}, "0 parts of kind gripper"),
    "two grippers": ({"parts": (ARM, GRIPPER, OTHER)}, "2 parts of kind gripper"),
    "another part": ({"part": "arm0/gripr"}, "Did you mean 'arm0/gripper'"),
    "one opening": ({"openings": (1.0,)}, "two or more"),
    "beyond the limits": ({"openings": (0.0, 80.0)}, "from 0 to 1"),
    "no share": ({"epsilon": 1.5}, "epsilon=1.5"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_chosen_is_refused(name: str) -> None:
    options, told = MISTAKES[name]
    with pytest.raises(ConfigError, match=told):
        values(**options)


def test_one_of_two_grippers_is_chosen_by_name() -> None:
    assert values((GRIPPER, ARM, OTHER), part="arm1/gripper").component == 4
