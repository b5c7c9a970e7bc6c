"""RLPD: targets by hand, a bandit with a known optimum, a temperature that meets its target."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from policies.gaussian import GaussianPolicy
from policies.q_ensemble import QEnsemble
from robot_rl.errors import ConfigError, InvalidArrayError, RobotRlError
from robot_rl.learning.rlpd import Rlpd
from robot_rl.learning.soft_losses import SoftLosses, attainable_returns
from robot_rl.types import ActContext, ActionKind, ActionPart, ActionSpec, ArraySpec, EnvSpec

SPEC = EnvSpec(
    robot="bead",
    step_rate_hz=10.0,
    observation={"s": ArraySpec((3,))},
    action=ActionSpec((ActionPart("a", ActionKind.RAW, (-2.0, 0.0), (2.0, 1.0)),)),
)


def make(members: int = 2, hidden: int = 32, **options: Any) -> Rlpd:
    policy = GaussianPolicy(SPEC, hidden=(hidden, hidden), seed=1)
    policy.fit_normalizer({"obs/s": np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)})
    critic = functools.partial(QEnsemble, members=members, hidden=(hidden, hidden))
    return Rlpd(policy, critic, **{"demonstrations": False, **options})


def batch(rows: int = 64, groups: int = 1, seed: int = 0, **given: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        "obs/s": torch.randn((groups, rows, 1, 3), generator=generator),
        "next/obs/s": torch.randn((groups, rows, 1, 3), generator=generator),
        "action": torch.rand((groups, rows, 1, 2), generator=generator) * torch.tensor([4.0, 1.0])
        - torch.tensor([2.0, 0.0]),
        "reward": torch.zeros((groups, rows)),
        "bootstrap": torch.zeros((groups, rows)),
    }
    return {"online": {**drawn, **given}}


def test_the_target_is_reward_plus_discounted_least_of_the_chosen_critics() -> None:
    learner = make(members=5, subset=2, discount=0.9)
    next_features = torch.randn(4, 3)
    noise, chosen = torch.randn(4, 2), torch.tensor([3, 1])
    reward, bootstrap = torch.tensor([0.0, 0.0, 1.0, 0.0]), torch.tensor([0.9, 0.81, 0.0, 0.9])
    found = learner.losses.target_of(reward, bootstrap, next_features, noise, chosen, learner.log_temperature)
    with torch.no_grad():
        action, _ = learner.policy.sample(next_features, noise)
        each = learner.target(next_features, action)
    least = torch.minimum(each[3], each[1])
    expected = torch.stack([0.9 * least[0], 0.81 * least[1], torch.tensor(1.0), 0.9 * least[3]]).clamp(0.0, 1.0)
    torch.testing.assert_close(found, expected)


def test_the_mean_action_is_drawn_to_what_is_shown_by_the_weight_that_is_left() -> None:
    """Mean actions 0.3 and 0.5 beside shown 0.1: (0.04 + 0.16) / 2, times 5; halved after ten steps, a sixteenth
    after twenty."""
    learner = make(demonstrations=True, imitation=5.0, imitation_steps=10.0)
    actor = Sure()
    losses = SoftLosses(
        actor,  # type: ignore[arg-type]
        Indifferent(),
        Indifferent(),
        subset=2,
        entropy_backup=False,
        bounds=(0.0, 1.0),
        precision="float32",
        compiled=False,
    )
    features, noise = torch.tensor([[0.9], [0.8], [0.3], [0.5]]), torch.zeros(4, 1)
    taken = torch.tensor([[0.0], [0.0], [0.1], [0.1]])
    for steps, expected in ((0, 0.5), (10, 0.25), (20, 0.03125)):
        learner.step = steps
        shown = learner._shown(taken)
        means = losses.of_actor(features, noise, torch.tensor(0.0), *shown)
        assert means.tolist() == [pytest.approx(expected), 0.0]
        assert gradient(actor.module.bias) == pytest.approx([6.0 * expected])  # 2 (0.2 + 0.4) / 2 to (0.04 + 0.16) / 2
        actor.module.zero_grad()
    assert make()._shown(taken) == ()
    with pytest.raises(ConfigError, match="demonstrations=true"):
        make(imitation=1.0)


def test_a_target_is_the_mean_over_views_and_learnt_at_all_of_them() -> None:
    """Two views of two transitions: ahead (0.2 + 0.6) / 2 and (0.4 + 0.8) / 2, targets 0.2 and 0.1 + 0.3, errors
    -0.1, -0.2, 0.1 and 0. Their gradients, also where the two critics are asked one by one."""
    critic, features = AtItsWord(), torch.tensor([[0.1], [0.2], [0.3], [0.4]], requires_grad=True)
    losses = SoftLosses(
        Sure(),  # type: ignore[arg-type]
        critic,
        AtItsWord(),
        subset=2,
        entropy_backup=False,
        bounds=(0.0, 1.0),
        precision="float32",
        compiled=False,
    )
    means = losses.of_critic(
        features,
        torch.zeros(2, 1),
        torch.tensor([0.0, 0.1]),
        torch.tensor([0.5, 0.5]),
        torch.tensor([[0.2], [0.4], [0.6], [0.8]]),
        torch.zeros(4, 1),
        torch.tensor([0, 1]),
        torch.tensor(0.0),
    )
    assert means.tolist() == pytest.approx([0.015, 0.25, 0.3])
    assert gradient(critic.weight) == pytest.approx([-0.005, -0.005])  # 2 (-0.01 - 0.04 + 0.03) / 8
    assert gradient(features) == pytest.approx([-0.05, -0.1, 0.05, 0.0])  # of both critics


@pytest.mark.parametrize(
    ("entropy_backup", "targets"), [(True, (0.2, 0.5)), (False, (0.1, 0.25))], ids=["entropy", "bounds"]
)
def test_targets_by_hand_with_the_entropys_bonus_and_within_bounds(
    entropy_backup: bool, targets: tuple[float, float]
) -> None:
    """Ahead 0.2 and 0.6, of log-density -2 at temperature 0.1, bootstrapped by 0.5 and 0: with the bonus
    0.5 (0.2 + 0.2) and 0.5; without it 0.1, and 0.5 cut to the bound of 0.25."""
    losses = SoftLosses(
        Sure(log_density=-2.0),  # type: ignore[arg-type]
        AtItsWord(),
        AtItsWord(),
        subset=2,
        entropy_backup=entropy_backup,
        bounds=(0.0, 0.25),
        precision="float32",
        compiled=False,
    )
    values, ahead = torch.tensor([[0.1], [0.3]]), torch.tensor([[0.2], [0.6]])
    reward, bootstrap, temperature = torch.tensor([0.0, 0.5]), torch.tensor([0.5, 0.0]), torch.tensor(0.1)
    means = losses.of_critic(
        values, torch.zeros(2, 1), reward, bootstrap, ahead, torch.zeros(2, 1), torch.tensor([0, 1]), temperature.log()
    )
    assert means[0].item() == pytest.approx(((0.1 - targets[0]) ** 2 + (0.3 - targets[1]) ** 2) / 2)
    assert means[2].item() == pytest.approx(sum(targets) / 2)


def test_views_of_a_state_without_images_are_alike() -> None:
    learner = make(augmentations=2)
    state = {key: value[0] for key, value in batch(rows=8)["online"].items()}
    features = learner._features(state, "", torch.Generator().manual_seed(0))
    torch.testing.assert_close(features[:8], features[8:])
    assert np.isfinite(learner.update(batch())["critic_loss"])
    with pytest.raises(ConfigError, match="augmentations=0"):
        make(augmentations=0)


def gradient(of: torch.Tensor) -> list[float]:
    assert of.grad is not None
    return of.grad.flatten().tolist()


class AtItsWord(torch.nn.Module):
    """Two critics that say what the features say."""

    members, block = 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2, 1))

    def weights(self) -> list[tuple[torch.Tensor]]:
        return [(self.weight,)]

    @staticmethod
    def judge(weights: list[tuple[torch.Tensor]], features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        assert len(features) == len(action)
        return weights[0][0] * features[:, 0]

    def forward(self, features: torch.Tensor, action: torch.Tensor, chosen: object = None) -> torch.Tensor:
        return self.judge(self.weights(), features, action)


class Sure:
    """An actor whose mean action is its features, of one density."""

    def __init__(self, log_density: float = 0.0) -> None:
        self.module, self._log_density = torch.nn.Linear(1, 1), log_density
        torch.nn.init.ones_(self.module.weight)
        torch.nn.init.zeros_(self.module.bias)

    def sample(self, features: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        action = self.module(features) + noise
        return action, self._log_density + 0.0 * action[:, 0]


class Indifferent(torch.nn.Module):
    """Two critics that say 0 of everything."""

    members = block = 2

    def weights(self) -> list[tuple[torch.Tensor]]:
        return []

    @staticmethod
    def judge(weights: list[tuple[torch.Tensor]], features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return (0.0 * action[:, 0]).expand(2, -1)


def test_what_acts_is_the_average_of_the_actors_weights() -> None:
    """The decay grows from 0 as 1 - (1 + step)^-3/4, at most 0.3: shares of the newest 1, 0.7, 0.7."""
    learner, seen = make(averaging=0.3), []
    for step in range(3):
        learner.update(batch(seed=step))
        seen.append({name: value.clone() for name, value in learner.policy.module["body"].state_dict().items()})  # type: ignore[index]
    for name in seen[0]:
        expected = 0.7 * seen[2][name] + 0.3 * (0.7 * seen[1][name] + 0.3 * seen[0][name])
        torch.testing.assert_close(learner.acting_state()[f"module.body.{name}"], expected)


@pytest.mark.parametrize(
    ("shift", "bounds"), [(0.0, (0.0, 1.0)), (-1.0, (-10.0, 0.0)), (-0.5, (-5.0, 0.5))], ids=["0/1", "-1/0", "-.5/.5"]
)
def test_targets_stay_within_attainable_returns(shift: float, bounds: tuple[float, float]) -> None:
    assert attainable_returns(1.0, shift, 0.9) == pytest.approx(bounds)
    with pytest.raises(ConfigError, match="shift <= 0"):
        attainable_returns(1.0, 0.1, 0.9)


def bandit_step(learner: Rlpd, step: int, best: torch.Tensor) -> dict[str, float]:
    """Reward 1 - |a - a*|^2 / 4 in normalised actions, no bootstrap."""
    data = batch(seed=step)
    action = learner.policy.normalised(data["online"]["action"][0, :, 0])
    data["online"]["reward"] = 1.0 - (action - best).square().sum(-1)[None] / 4.0
    return learner.update(data)


def test_a_bandit_is_solved_and_its_entropy_comes_to_the_target() -> None:
    """Soft optimum: the mean action is a*, the deviation s of both components satisfies ln(2 pi e s^2) = target."""
    learner = make(hidden=64, learning_rate=3e-3, initial_temperature=0.05, target_entropy=-1.0)
    best = torch.tensor([0.4, -0.3])
    entropy = [bandit_step(learner, step, best)["entropy"] for step in range(1600)]
    assert np.mean(entropy[-100:]) == pytest.approx(-1.0, abs=0.15)
    window = {"s": np.random.default_rng(1).normal(size=(64, 1, 3)).astype(np.float32)}
    physical = torch.from_numpy(learner.policy.act(window, ActContext.start(64)).actions[:, 0])  # type: ignore[attr-defined]
    torch.testing.assert_close(learner.policy.normalised(physical).mean(0), best, atol=0.06, rtol=0.0)
    # exp(Q / temperature) with Q = -d^2 / 4 has s^2 = 2 temperature
    expected = np.exp(-1.0) / (2.0 * np.pi * np.e) / 2.0
    assert learner.log_temperature.exp().item() == pytest.approx(expected, rel=0.35)


def test_the_actor_step_leaves_the_critics_alone_and_the_critic_step_the_actor() -> None:
    learner = make()
    before = {name: value.clone() for name, value in learner.critic.named_parameters()}
    learner._actor_step(torch.randn(16, 3), torch.zeros(16, 2))
    assert all(torch.equal(value, before[name]) for name, value in learner.critic.named_parameters())
    assert all(value.grad is None for value in learner.critic.parameters())
    actor = learner.optimizers["actor"].named
    body = {name: value.clone() for name, value in actor.items()}
    learner._critic_step({key: value[0] for key, value in batch()["online"].items()})
    assert all(torch.equal(value, body[name]) for name, value in actor.items())
    assert all(value.requires_grad for value in learner.critic.parameters())


@pytest.mark.filterwarnings("ignore:.*script_method. is deprecated:DeprecationWarning")  # torch to itself
def test_a_compiled_learner_learns_what_one_that_is_not_does() -> None:
    learners = [make(hidden=16, compiled=compiled) for compiled in (False, True)]
    for step in range(3):
        first, second = (learner.update(batch(seed=step)) for learner in learners)
        assert second == pytest.approx(first, rel=1e-4, abs=1e-5)
    weights, others = (learner.state_dict() for learner in learners)
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-4)


def test_critics_are_independent_networks() -> None:
    """The batched product gives what each member gives alone, also the odd one in a block of its own."""
    ensemble = QEnsemble(3, 2, members=5, hidden=(16, 8))
    features, action = torch.randn(5, 3), torch.randn(5, 2)
    together = ensemble(features, action)
    single = QEnsemble(3, 2, members=1, hidden=(16, 8))
    for member in range(5):
        single.load_state_dict({name: value[member : member + 1] for name, value in ensemble.state_dict().items()})
        torch.testing.assert_close(single(features, action)[0], together[member])
    torch.testing.assert_close(ensemble(features, action, torch.tensor([3, 1, 4])), together[[3, 1, 4]])
    torch.testing.assert_close(ensemble.judge(ensemble.weights(), features, action), together)
    gradients = torch.autograd.grad(together[3].sum(), ensemble.layers[0].linear.weight)[0]  # type: ignore[union-attr]
    assert [bool(gradient.any()) for gradient in gradients] == [False, False, False, True, False]


def test_log_probability_is_that_of_the_squashed_gaussian() -> None:
    """Against torch.distributions, also far out where tanh saturates."""
    from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

    policy = make().policy
    features, noise = torch.randn(8, 3), 4.0 * torch.randn(8, 2)
    action, log_prob = policy.sample(features, noise)
    mean, raw = policy.module["body"](features).chunk(2, dim=-1)  # type: ignore[index,operator]
    std = (-10.0 + 6.0 * (torch.tanh(raw) + 1.0)).exp()
    normal = Independent(TransformedDistribution(Normal(mean, std), TanhTransform(cache_size=1)), 1)
    inside = action.abs().amax(dim=-1) < 0.999
    torch.testing.assert_close(normal.log_prob(action)[inside], log_prob[inside], rtol=1e-3, atol=1e-3)
    assert torch.isfinite(log_prob).all()


def test_equal_seeds_give_equal_numbers_and_a_restored_learner_continues_bit_for_bit() -> None:
    first, second = (make(members=3, averaging=0.9) for _ in range(2))
    for learner in (first, second):
        learner.update(batch(groups=2))
    third = make(members=3, averaging=0.9, seed=9)
    third.load_state_dict(first.state_dict())
    third.seed = first.seed
    for learner in (first, second, third):
        learner.update(batch(groups=2, seed=1))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
        assert torch.equal(value, third.state_dict()[name]), name
    for name, value in first.acting_state().items():
        assert torch.equal(value, third.acting_state()[name]), name


@pytest.mark.parametrize(
    ("key", "place"),
    [("reward", (1, 5)), ("obs/s", (0, 3, 0, 2)), ("next/obs/s", (1, 0, 0, 0)), ("action", (0, 9, 0, 1))],
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_batch_that_is_not_finite_is_named_and_changes_nothing(
    key: str, place: tuple[int, ...], value: float
) -> None:
    learner = make()
    learner.update(batch(groups=2))
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    bad = batch(groups=2, seed=1)
    bad["online"][key][place] = value
    bad["online"]["episode"] = torch.full((2, 64), 7)
    bad["online"]["row"] = torch.arange(128).view(2, 64)
    told = rf"step 2: '{key}' of view 'online' holds {value:g} at \[{', '.join(map(str, place))}\] \(episode 7, row "
    with pytest.raises(InvalidArrayError, match=told):
        learner.update(bad)
    assert all(torch.equal(before[name], tensor) for name, tensor in learner.state_dict().items())
    learner.update(batch(groups=2, seed=1))


def test_values_too_large_to_be_added_up_are_no_reason_to_stop() -> None:
    make(reward_scale=1.0).update(batch(reward=torch.full((1, 64), 3e38)))


def test_losses_that_are_not_finite_end_the_run() -> None:
    learner = make()
    with torch.no_grad():
        next(learner.critic.parameters()).fill_(float("nan"))
    with pytest.raises(RobotRlError, match="after step 1 critic_loss is nan"):
        learner.update(batch())
