"""EXPO: the target is of the chunk that would act there; what is learnt of edits; views from decision to decision."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from policies.edited import EditedPolicy
from policies.q_ensemble import QEnsemble
from robot_rl.learning.expo import Expo
from robot_rl.types import ActContext
from tests.policies.tiny import SPEC, make_acting, make_rows, make_window

K, H, A = 2, 4, 2


def make(**options: Any) -> Expo:
    critic = functools.partial(QEnsemble, members=2, hidden=(32,))
    policy = EditedPolicy(SPEC, make_acting(), critic, candidates=K, hidden=(32,), fraction=0.1, deviations=0.0, seed=1)
    policy.fit_normalizer(make_rows())
    return Expo(policy, **{"demonstrations": False, "actor_start": 0, **options})


def batch(rows: int = 32, seed: int = 0, **given: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"obs/bead/position": (1, 2), "obs/wire/angle": (1, 1), "policy/candidates": (K, H, A), "policy/arm": ()}
    drawn = {
        f"{prefix}{key}": torch.rand((1, rows, *shape), generator=generator)
        for prefix in ("", "next/")
        for key, shape in shapes.items()
    }
    drawn["action"] = drawn["policy/candidates"][:, :, 0]
    return {**drawn, "reward": torch.zeros((1, rows)), "bootstrap": torch.zeros((1, rows)), **given}


class Last(torch.nn.Module):
    """Two critics: half and a quarter of the last thing they see of a chunk."""

    members = 2

    def forward(self, features: torch.Tensor, action: torch.Tensor, chosen: Any = None) -> torch.Tensor:
        return torch.stack((0.5 * action[:, -1], 0.25 * action[:, -1]))


class Add(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: torch.Tensor, proposal: torch.Tensor) -> torch.Tensor:
        return torch.full((len(features), H * A), self.value)


@pytest.mark.parametrize(("edit", "best"), [(0.5, 0.85), (-0.5, 0.8)], ids=["edited", "as it is"])
def test_the_target_is_of_the_best_of_the_recorded_candidates_and_their_edits(edit: float, best: float) -> None:
    """Limits of 2, edits up to 0.2: candidates end at 0.4 and 1.6, 0.2 and 0.8 of the limits. An edit of 0.5 adds 0.05
    to either, one of -0.5 takes as much away: the least of the critics says a quarter of the best."""
    learner = make()
    learner.training.critics.target, learner.training.slow = Last(), Add(edit)
    candidates = torch.zeros((3, K, H, A))
    candidates[:, 0, -1, -1], candidates[:, 1, -1, -1] = 0.4, 1.6
    given = {
        "next/policy/candidates": candidates,
        "reward": torch.tensor([0.0, 1.0, 0.0]),
        "bootstrap": torch.tensor([0.9**4, 0.0, 0.9**2]),  # a whole chunk, a success, one that was cut short
    }
    targets, edited = learner.targets(given, torch.zeros(3, 3), torch.tensor([0, 1]))
    torch.testing.assert_close(targets, torch.tensor([0.9**4, 0.0, 0.9**2]) * best / 4 + given["reward"])
    assert float(edited) == float(edit > 0)


def test_what_makes_the_targets_is_what_acts() -> None:
    """The same candidates, the same networks: the acting policy executes the chunk that a target is of."""
    learner = make(averaging=0.0)
    for step in range(20):
        drawn = batch(seed=step)
        learner.update({"online": {**drawn, "reward": drawn["action"][..., 0].mean(dim=2)}})
    learner.training.critics.target.load_state_dict(learner.training.critics.critic.state_dict())
    policy = learner.policy
    policy.load_state_dict(learner.acting_state())
    window = make_window(3)
    policy.reset(*(2 * [torch.arange(3).numpy()]))
    chunk = policy.act(window, ActContext.start(3))
    obs = {key: torch.from_numpy(value) for key, value in window.items()}
    features, acted = learner.networks.features(obs), learner.networks.seen(torch.from_numpy(chunk.actions[:, :H]))
    given = {
        "next/policy/candidates": torch.from_numpy(chunk.record["candidates"][:, 0]),
        "reward": torch.zeros(3),
        "bootstrap": torch.ones(3),
    }
    targets, _ = learner.targets(given, features, torch.tensor([0, 1]))
    expected = learner.training.critics.target(features, acted).amin(dim=0).clamp(0.0, 1.0)
    torch.testing.assert_close(targets, expected)


def test_edits_imitate_what_was_demonstrated_of_any_candidate() -> None:
    """Edits up to 0.2 and chunks shown 0.1 beside both candidates: an error of 0.5 squared in both components."""
    drawn = batch(rows=64)
    candidates = drawn["policy/candidates"]
    candidates[:, :, 1] = candidates[:, :, 0]
    drawn["action"] = candidates[:, :, 0] + 0.1
    demonstrations = {key: value for key, value in drawn.items() if key != "policy/arm"}
    learner = make(demonstrations=True, imitation=5.0, actor_learning_rate=3e-3, averaging=0.0)
    errors = [learner.update({"demonstrations": demonstrations})["imitation_error"] for _ in range(100)]
    assert errors[0] == pytest.approx(A * 0.5**2, rel=1e-4)
    assert errors[-1] < 0.1 * errors[0]


def test_edits_learn_where_the_value_rises() -> None:
    """Reward for the sum of a chunk: edits of any of the base's candidates come to be positive."""
    learner = make(learning_rate=3e-3, actor_learning_rate=3e-3)
    for step in range(120):
        drawn = batch(rows=64, seed=step)
        drawn["action"] = drawn["action"] + 0.2 * torch.randn(drawn["action"].shape)
        learner.update({"online": {**drawn, "reward": 0.2 + drawn["action"].mean(dim=(2, 3)) / 4}})
    last = {key: value[0] for key, value in batch(seed=9).items()}
    features, proposal = learner.training.observed(last, ""), last["policy/candidates"][:, 0]
    assert learner.networks.actor(features, learner.networks.seen(proposal)).mean() > 0.3
    assert learner.policy.base.unchanged


def test_transitions_go_from_decision_to_decision() -> None:
    view = make(discount=0.9).views["online"]
    assert (view.horizon, view.stride, view.n_step, view.discount_per_control_step) == (H, H, 1, 0.9)  # type: ignore[union-attr]
    assert view.extras == ("policy/candidates", "policy/arm")  # type: ignore[union-attr]
