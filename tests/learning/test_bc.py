from __future__ import annotations

import math

import pytest
import torch

from robot_rl.errors import CheckpointError, InvalidArrayError, RobotRlError
from robot_rl.interfaces import Learner
from robot_rl.learning.bc import BehaviourCloning
from tests.policies.tiny import make_batch, make_policy, make_rows


def make_learner(**options: object) -> BehaviourCloning:
    policy = make_policy()
    policy.fit_normalizer(make_rows())
    return BehaviourCloning(policy, **{"steps": 20, "warmup_steps": 4, **options})  # type: ignore[arg-type]


def groups(*seeds: int) -> dict[str, dict[str, torch.Tensor]]:
    batches = [make_batch(seed=seed) for seed in seeds]
    return {"demonstrations": {key: torch.stack([torch.from_numpy(b[key]) for b in batches]) for key in batches[0]}}


def test_it_is_a_learner_that_asks_for_the_policys_windows() -> None:
    learner = make_learner()
    assert isinstance(learner, Learner)
    assert learner.views == {"demonstrations": learner.policy.windows}


def test_learning_rate_by_hand() -> None:
    """Warm-up over 4 of 20 steps, then a cosine that is half-way down at step 12."""
    learner = make_learner(learning_rate=1.0, final_fraction=0.1)
    assert [learner.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learner.rate(12) == pytest.approx(0.55)
    assert learner.rate(20) == pytest.approx(0.1)
    assert learner.rate(500) == pytest.approx(0.1)


def test_a_group_is_its_gradient_steps_one_by_one() -> None:
    grouped, single = make_learner(), make_learner()
    grouped.update(groups(1, 2, 3))
    for seed in (1, 2, 3):
        single.update(groups(seed))
    assert grouped.step == single.step == 3
    for key, value in grouped.acting_state().items():
        assert torch.equal(value, single.acting_state()[key]), key


def test_equal_seeds_give_equal_numbers_and_others_do_not() -> None:
    runs = [make_learner(seed=seed) for seed in (0, 0, 1)]
    losses = [[learner.update(groups(step))["loss"] for step in range(3)] for learner in runs]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_the_averaged_weights_act_and_are_copies() -> None:
    learner = make_learner(learning_rate=1e-2)
    for step in range(5):
        learner.update(groups(step))
    acting, weights = learner.acting_state(), learner.policy.state_dict()
    assert acting.keys() == weights.keys()
    assert not torch.equal(acting["module.network.chunk_in.weight"], weights["module.network.chunk_in.weight"])
    assert torch.equal(acting["normalizer.action.scale"], weights["normalizer.action.scale"])
    kept = acting["module.network.chunk_in.weight"].clone()
    learner.update(groups(9))
    assert torch.equal(acting["module.network.chunk_in.weight"], kept)


def test_state_goes_on_bit_for_bit() -> None:
    whole, first, second = make_learner(), make_learner(), make_learner()
    for step in range(8):
        whole.update(groups(step))
    for step in range(4):
        first.update(groups(step))
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    for step in range(4, 8):
        second.update(groups(step))
    assert whole.state_dict().keys() == second.state_dict().keys()
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_gradients_are_clipped_to_the_norm() -> None:
    """AdamW hides the size of a gradient, so it is read off right after the update of a learner that cannot move."""
    learner = make_learner(gradient_norm=1e-3)
    seen: list[float] = []
    step = learner._optimizer.step

    def record() -> None:
        gradients = [value.grad for value in learner.policy.module.parameters() if value.grad is not None]
        seen.append(math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients)))
        step()

    learner._optimizer.step = record  # type: ignore[method-assign, assignment]
    learner.update(groups(0))
    assert seen[0] == pytest.approx(1e-3, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_the_run_and_a_foreign_state_is_refused() -> None:
    learner = make_learner()
    with torch.no_grad():
        next(learner.policy.module.parameters()).fill_(float("nan"))
    with pytest.raises(RobotRlError, match="loss is nan at gradient step 1"):
        learner.update(groups(0))
    state = make_learner().state_dict()
    del state["weights.network.chunk_in.weight"]
    with pytest.raises(CheckpointError, match="chunk_in"):
        make_learner().load_state_dict(state)


def test_a_batch_that_is_not_finite_is_named_and_changes_nothing() -> None:
    learner, batch = make_learner(), groups(0)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    batch["demonstrations"]["action/commanded"][0, 3, 1] = float("nan")
    with pytest.raises(
        InvalidArrayError, match=r"step 0: 'action/commanded' of view 'demonstrations' holds nan at \[0, 3"
    ):
        learner.update(batch)
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
