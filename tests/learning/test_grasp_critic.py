"""The grasp critic: targets by hand, a bandit with a known optimum, and nobody else pays for the fingers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from policies.gaussian import GaussianPolicy
from policies.gripper_values import GripperValues
from policies.q_ensemble import QEnsemble
from robot_rl.errors import ConfigError
from robot_rl.learning.rlpd import Rlpd
from robot_rl.types import ActContext, ActionKind, ActionPart, ActionSpec, ArraySpec, EnvSpec

OPENING = "arm0/gripper_opening"
SPEC = EnvSpec(
    robot="bead",
    step_rate_hz=10.0,
    observation={"s": ArraySpec((1,)), OPENING: ArraySpec((1,))},
    action=ActionSpec(
        (
            ActionPart("arm0/x", ActionKind.RAW, (-1.0,), (1.0,)),
            ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,)),
        )
    ),
)


def make(penalty: float = 0.1, observation: dict[str, str] | None = None, **options: Any) -> Rlpd:
    gripper = functools.partial(GripperValues, hidden=(32,), epsilon=0.0)
    policy = GaussianPolicy(SPEC, hidden=(32,), gripper=gripper, observation=observation, seed=1)
    rng = np.random.default_rng(0)
    rows = {f"obs/{key}": rng.normal(size=(64, 1)).astype(np.float32) for key in SPEC.observation}
    policy.fit_normalizer(rows)
    critic = functools.partial(QEnsemble, members=2, hidden=(32,))
    return Rlpd(policy, critic, **{"demonstrations": False, "gripper_penalty": penalty, **options})


def batch(rows: int = 128, seed: int = 0, groups: int = 1) -> dict[str, dict[str, torch.Tensor]]:
    """Fingers that are open in half of the rows; any action; nothing is earned and every episode ends."""
    generator = torch.Generator().manual_seed(seed)
    drawn: dict[str, torch.Tensor] = {}
    for prefix in ("", "next/"):
        drawn[f"{prefix}obs/s"] = torch.randn((groups, rows, 1, 1), generator=generator)
        drawn[f"{prefix}obs/{OPENING}"] = torch.randint(0, 2, (groups, rows, 1, 1), generator=generator).float()
    drawn["action"] = torch.rand((groups, rows, 1, 2), generator=generator)
    return {"online": {**drawn, "reward": torch.zeros((groups, rows)), "bootstrap": torch.zeros((groups, rows))}}


def test_the_target_is_the_slow_network_where_the_quick_one_would_go() -> None:
    """Double Q: the quick network prefers choice 1, the slow one gives it 0.3; clipped to [-0.1 / (1 - 0.9), 1]."""
    grasp = make(discount=0.9).grasp
    assert grasp is not None
    with torch.no_grad():
        for network, bias in ((grasp.values, (0.2, 0.8)), (grasp.target, (0.9, 0.3))):
            network.network[-1].weight.zero_()
            network.network[-1].bias.copy_(torch.tensor(bias))
    reward = torch.tensor([0.0, -0.1, 1.0, 2.0, -5.0])
    bootstrap = torch.tensor([0.9, 0.9, 0.0, 0.0, 0.0])
    expected = torch.tensor([0.27, 0.17, 1.0, 1.0, -1.0])
    torch.testing.assert_close(grasp.targets(reward, bootstrap, torch.zeros(5, 2)), expected)


def test_the_penalty_is_taken_where_the_fingers_change() -> None:
    """One-step ends, no bootstrap: the loss is the mean square of Q(s, choice) - (r - 0.1 * moved)."""
    grasp = make(penalty=0.1).grasp
    assert grasp is not None
    with torch.no_grad():
        grasp.values.network[-1].weight.zero_()
        grasp.values.network[-1].bias.copy_(torch.tensor((0.2, 0.5)))
    rows = {
        f"obs/{OPENING}": torch.tensor([1.0, 0.0, 1.0, 0.0]).view(4, 1, 1),
        "action": torch.tensor([[0.0, 0.1], [0.0, 0.2], [0.0, 0.9], [0.0, 0.8]])[:, None],
        "reward": torch.tensor([0.0, 0.0, 1.0, 1.0]),
        "bootstrap": torch.zeros(4),
    }
    # moved, not moved, not moved, moved; targets -0.1, 0, 1, 0.9 against values 0.2, 0.2, 0.5, 0.5
    metrics = grasp.update(rows, torch.zeros(4, 2), torch.zeros(4, 2))
    assert metrics["grasp_loss"].item() == pytest.approx((0.3**2 + 0.2**2 + 0.5**2 + 0.4**2) / 4)
    assert metrics["gripper_moves"].item() == pytest.approx(0.5)
    assert metrics["grasp_q"].item() == pytest.approx(0.35)


def test_the_slow_network_follows_by_its_share() -> None:
    learner = make(polyak=0.25)
    assert learner.grasp is not None
    before = [value.clone() for value in learner.grasp.target.parameters()]
    learner.update(batch())
    for old, slow, fast in zip(
        before, learner.grasp.target.parameters(), learner.grasp.values.parameters(), strict=True
    ):
        torch.testing.assert_close(slow, 0.75 * old + 0.25 * fast)


@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_a_bandit_is_solved_unless_moving_costs_more_than_it_earns(penalty: float) -> None:
    """Closing earns 0.1 where s > 0, opening where s < 0; at 0.2 for a change the fingers stay as they are."""
    learner = make(penalty=penalty, learning_rate=3e-3)
    for step in range(300):
        data = batch(seed=step)
        closes = data["online"]["action"][0, :, 0, 1] < 0.5
        data["online"]["reward"] = 0.1 * (closes == (data["online"]["obs/s"][0, :, 0, 0] > 0.0)).float()[None]
        learner.update(data)
    sides = np.random.default_rng(1).uniform(0.2, 2.0, 100) * np.repeat([-1.0, 1.0], 50)
    measured = np.tile([0.0, 1.0], 50)
    window = {"s": sides.astype(np.float32)[:, None, None], OPENING: measured.astype(np.float32)[:, None, None]}
    opening = learner.policy.act(window, ActContext.start(100)).actions[:, 0, 1]  # type: ignore[attr-defined]
    wanted = measured if penalty else (sides < 0.0).astype(float)
    assert (opening == wanted).mean() >= 0.98


def test_only_the_grasp_critic_pays() -> None:
    """Arm, critics and temperature are the same to the bit whatever the fingers cost."""
    free, dear = make(penalty=0.0), make(penalty=0.5)
    for learner in (free, dear):
        for step in range(3):
            learner.update(batch(seed=step, groups=2))
    gripper = [name for name in free.state_dict() if "gripper" in name]
    states = free.state_dict(), dear.state_dict()
    assert gripper
    for name in states[0]:
        if "gripper" not in name:
            assert torch.equal(states[0][name], states[1][name]), name
    assert any(not torch.equal(states[0][name], states[1][name]) for name in gripper)


def test_the_critics_of_the_arm_do_not_see_the_gripper() -> None:
    learner, data = make(), batch()
    other = {**data["online"], "action": data["online"]["action"].clone()}
    other["action"][..., 1] = 1.0 - other["action"][..., 1]
    rows = [{key: value[0] for key, value in part.items()} for part in (data["online"], other)]
    assert torch.equal(learner.values(rows[0])[0], learner.values(rows[1])[0])
    assert learner.target_entropy == -0.5


def test_a_restored_learner_continues_bit_for_bit() -> None:
    first, second = make(), make(seed=5)
    first.update(batch())
    second.load_state_dict(first.state_dict())
    second.seed = first.seed
    for learner in (first, second):
        learner.update(batch(seed=1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_the_acting_state_carries_the_choice() -> None:
    learner = make()
    before = learner.acting_state()
    learner.update(batch())
    after = learner.acting_state()
    assert any("gripper" in name and not torch.equal(before[name], after[name]) for name in before)


def test_without_a_gripper_to_choose_there_is_no_grasp_critic() -> None:
    policy = GaussianPolicy(SPEC, hidden=(8,))
    policy.fit_normalizer({f"obs/{key}": np.ones((4, 1), np.float32) for key in SPEC.observation})
    learner = Rlpd(policy, functools.partial(QEnsemble, members=2, hidden=(8,)), demonstrations=False)
    assert learner.grasp is None
    assert "grasp_loss" not in learner.update(batch())


def test_several_steps_and_an_unseen_opening_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"n_step=3.*n_step=1"):
        make(n_step=3)
    with pytest.raises(ConfigError, match=f"does not observe '{OPENING}'"):
        make(observation={"s": "raw"})
    with pytest.raises(ConfigError, match="gripper_penalty=-1"):
        make(penalty=-1.0)
    seen = {key: value for key, value in batch()["online"].items() if OPENING not in key}
    assert make(penalty=0.0, observation={"s": "raw"}).update({"online": seen})["gripper_moves"] == 0.0
