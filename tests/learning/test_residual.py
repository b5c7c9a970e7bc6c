"""Residual learning: targets by hand, what learns when, and a base whose constant error it takes away."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policies.q_ensemble import QEnsemble
from policies.residual import ResidualPolicy
from robot_rl.errors import ConfigError, InvalidArrayError
from robot_rl.learning.hand_over import HandOver
from robot_rl.learning.residual import Residual
from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    Arrays,
    ArraySpec,
    EnvSpec,
    PolicySpec,
)

SPEC = EnvSpec(
    robot="bead",
    step_rate_hz=10.0,
    observation={"s": ArraySpec((2,))},
    action=ActionSpec((ActionPart("bead/push", ActionKind.RAW, (-2.0, -1.0), (2.0, 1.0)),)),
    arm_parts=("bead",),
)
BIAS = np.array([0.3, -0.2], np.float32)  # of the base, in the action's units


class Biased:
    """Pushes to where it sees the goal, always a little off."""

    spec = PolicySpec({"s": SPEC.observation["s"]}, SPEC.action)

    def reset(self, rows: Array, seeds: Array) -> None: ...

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        return ActionChunk(window["s"][:, -1:] + BIAS, 1)

    def sha256(self) -> str:
        return "biased"


def make(hidden: int = 32, **options: Any) -> Residual:
    policy = ResidualPolicy(SPEC, Biased(), functools.partial(QEnsemble, members=2, hidden=(hidden, hidden)),
                            hidden=(hidden, hidden), fraction=0.5, noise=0.2, forced_open=True, seed=1)  # fmt: skip
    policy.fit_normalizer({"obs/s": np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)})
    return Residual(policy, **{"demonstrations": False, "actor_start": 0, **options})


def batch(seed: int = 0, **given: Any) -> dict[str, torch.Tensor]:
    """Pushes around the base's, at random places."""
    rows, generator = 64, torch.Generator().manual_seed(seed)
    here, there = (0.5 * torch.randn((1, rows, 1, 2), generator=generator) for _ in range(2))
    base = here[:, :, 0] + torch.from_numpy(BIAS)
    drawn = {
        "obs/s": here,
        "next/obs/s": there,
        "policy/base_action": base,
        "next/policy/base_action": there[:, :, 0] + torch.from_numpy(BIAS),
        "policy/arm": torch.full((1, rows), 2, dtype=torch.uint8),
        "action": (base + 0.4 * torch.randn(base.shape, generator=generator))[:, :, None],
        "reward": torch.zeros((1, rows)),
        "bootstrap": torch.zeros((1, rows)),
    }
    return {**drawn, **given}


class Sum(torch.nn.Module):
    """Two critics: a tenth of the sum of what they see of the action, and 0.5."""

    members = 2

    def forward(self, features: torch.Tensor, action: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        return torch.stack((0.1 * action.sum(dim=-1), torch.full((len(action),), 0.5)))[chosen]


def test_the_target_is_of_the_base_at_the_state_that_follows_plus_the_slow_residual() -> None:
    """Half ranges 2 and 1, residuals up to 1 and 0.5. Base (1, 0.5) with residual (0.4, 1) becomes (1.4, 1.0), as the
    critics see it (0.7, 1.0): 0.1 * 1.7 = 0.17. The second one leaves the limits: (2.1, 0.5) -> (1, 0.5)."""
    learner = make()
    learner.training.critics.target = Sum()
    learner.training.slow = Constant(torch.tensor([0.2, 0.9]))
    noise = torch.tensor([[0.2, 0.4], [0.4, -0.9]])  # 0.2 + 0.2, 0.9 + 0.4 cut to 1
    given = {
        "next/policy/base_action": torch.tensor([[1.0, 0.5], [1.5, 0.5]]),
        "reward": torch.tensor([0.0, 0.1]),
        "bootstrap": torch.tensor([0.9, 0.81]),
    }
    first = learner.targets(given, torch.zeros(2, 2), noise, torch.tensor([0]))
    torch.testing.assert_close(first, torch.tensor([0.9 * 0.17, 0.1 + 0.81 * 0.15]))
    least = learner.targets(given, torch.zeros(2, 2), noise, torch.tensor([0, 1]))
    torch.testing.assert_close(least, first)
    given["reward"] = torch.tensor([2.0, -2.0])
    torch.testing.assert_close(
        learner.targets(given, torch.zeros(2, 2), noise, torch.tensor([0])), torch.tensor([1.0, 0.0])
    )


class Constant(torch.nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: torch.Tensor, proposal: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(features), -1)


def test_the_critics_learn_from_the_summed_action_and_first() -> None:
    """The residual stands still until its start; what acts of it follows slowly, from the base on."""
    learner = make(actor_start=2, averaging=0.9)
    body = {name: value.clone() for name, value in learner.networks.actor.state_dict().items()}
    for step in range(2):
        assert "residual" not in learner.update({"online": batch(seed=step)})
        assert all(torch.equal(value, body[name]) for name, value in learner.networks.actor.state_dict().items())
    learner.update({"online": batch(seed=2)})
    for name, value in learner.networks.actor.state_dict().items():
        torch.testing.assert_close(learner.acting_state()[f"module.actor.{name}"], 0.9 * body[name] + 0.1 * value)
    changed = {"action": batch(seed=3)["action"] + 0.1}
    losses = [make().update({"online": batch(seed=3, **more)})["q"] for more in ({}, changed)]
    assert losses[0] != losses[1]


def test_a_constant_error_of_the_base_is_taken_away() -> None:
    """Reward 1 - |push - goal|^2 at once; the base is off by (0.3, -0.2): less than half of it is left."""
    learner = make(hidden=64, learning_rate=3e-3, actor_learning_rate=1e-3, averaging=0.9)
    for step in range(300):
        drawn = batch(seed=step)
        error = (drawn["action"][:, :, 0] - drawn["obs/s"][:, :, 0]).square().sum(-1)
        learner.update({"online": {**drawn, "reward": (1.0 - error).clamp(min=0.0)}})
    policy = learner.policy
    policy.load_state_dict(learner.acting_state())
    window = {"s": 0.5 * np.random.default_rng(1).normal(size=(64, 1, 2)).astype(np.float32)}
    chunk = policy.act(window, ActContext.start(64))  # type: ignore[attr-defined]
    off = (chunk.actions[:, 0] - window["s"][:, 0]).mean(axis=0)
    assert np.linalg.norm(off) < 0.5 * np.linalg.norm(BIAS), off
    np.testing.assert_allclose(chunk.record["base_action"][:, 0], window["s"][:, 0] + BIAS)


def test_demonstrations_are_imitated_by_what_is_missing_to_the_base() -> None:
    """Shown (0.6, -0.4) beside base 0 in residuals up to 1 and 0.5: an error of 0.36 + 0.64."""
    shown = torch.tensor([0.6, -0.4]).view(1, 1, 1, 2).expand(1, 64, 1, 2)
    nothing = torch.zeros((1, 64, 2))
    demonstrations = batch(seed=1, action=shown, **{"policy/base_action": nothing})
    del demonstrations["policy/arm"]
    batches = {"online": batch(), "demonstrations": demonstrations}
    learner = make(demonstrations=True, imitation=5.0, actor_learning_rate=3e-3)
    assert learner.update(batches)["imitation_error"] == pytest.approx(1.0)
    errors = [learner.update(batches)["imitation_error"] for _ in range(80)]
    assert errors[-1] < 0.1
    released = [make(demonstrations=True, imitation=weight, imitation_steps=1.0) for weight in (5.0, 0.0)]
    for other in released:  # n steps leave 0.5^(n^2) of it
        other.training.step = 40
        other.update(batches)
    first, second = (other.acting_state() for other in released)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    with pytest.raises(ConfigError, match="demonstrations=true"):
        make(imitation=1.0)


def test_demonstrations_alone_teach_before_anything_has_acted() -> None:
    """All rows count, not the half that demonstrations are of a batch of two views: the error of both halves falls."""
    drawn = batch(seed=1)
    base = drawn["policy/base_action"]
    drawn["action"] = (base - torch.from_numpy(BIAS))[:, :, None]
    demonstrations = {key: value for key, value in drawn.items() if key != "policy/arm"}
    learner = make(demonstrations=True, imitation=5.0, actor_learning_rate=3e-3, averaging=0.0)
    first = learner.update({"demonstrations": demonstrations})["imitation_error"]
    assert first == pytest.approx(0.3**2 + 0.4**2)  # in largest residuals, 1 and 0.5
    errors = [learner.update({"demonstrations": demonstrations})["imitation_error"] for _ in range(150)]
    assert errors[-1] < 0.01
    assert learner.pretrains and not make().pretrains


def test_a_restored_learner_goes_on_bit_for_bit_with_its_share() -> None:
    first, second = (make(hand_over=HandOver()) for _ in range(2))
    first.hand_over.heard([(True, True)] * 6)  # type: ignore[union-attr]
    first.update({"online": batch()})
    second.load_state_dict(first.state_dict())
    for learner in (first, second):
        learner.update({"online": batch(seed=1)})
    state = first.acting_state()
    assert state.keys() == second.acting_state().keys()
    assert all(torch.equal(value, second.acting_state()[name]) for name, value in state.items())
    assert float(state["arms.share"]) > 0.5 and float(state["arms.handed"]) == 0.0
    assert not any(name.startswith("base") for name in state)


def test_a_batch_that_is_not_finite_changes_nothing() -> None:
    learner = make()
    learner.update({"online": batch()})
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    bad = batch(seed=1)
    bad["policy/base_action"][0, 3, 1] = float("nan")
    with pytest.raises(InvalidArrayError, match="policy/base_action"):
        learner.update({"online": bad})
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def test_views_ask_for_the_bases_actions_at_both_ends_and_for_several_steps() -> None:
    views = make(demonstrations=True, n_step=3, discount=0.9).views
    online, shown = views["online"], views["demonstrations"]
    assert online.extras == ("policy/base_action", "policy/arm") and shown == replace(online, extras=online.extras[:1])  # type: ignore[union-attr,type-var]
    assert (online.n_step, online.horizon, online.discount_per_control_step) == (3, 1, 0.9)  # type: ignore[union-attr]
