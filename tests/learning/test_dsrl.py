"""DSRL: targets by hand, a bandit with a known optimum, the good one of two modes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policies.concat_mlp import ConcatMlp
from policies.diffusion import DiffusionPolicy
from policies.noise_schedules import NoiseSchedule
from policies.q_ensemble import QEnsemble
from policies.samplers import DDIM
from policies.steered import Steered
from robot_rl.errors import ConfigError, InvalidArrayError
from robot_rl.interfaces import SamplerSpec
from robot_rl.learning.bc import BehaviourCloning
from robot_rl.learning.dsrl import Dsrl
from robot_rl.learning.dsrl_sac import DsrlSac
from robot_rl.learning.hand_over import HandOver
from robot_rl.types import ActContext, ActionKind, ActionPart, ActionSpec, ArraySpec, Cut, EnvSpec

PUSH = ActionSpec((ActionPart("bead/push", ActionKind.POINT, (-2.0,), (2.0,)),))
SPEC = EnvSpec("bead", 10.0, {"bead/place": ArraySpec((2,))}, PUSH, arm_parts=("bead",), task="sides")
Learner = Dsrl | DsrlSac


class Own:
    """A generator whose chunk of two pushes is its noise."""

    spec = SamplerSpec(SPEC.observation, PUSH, 1, 2, 2, (2, 1), "normal", 10.0, "")

    def sample(self, obs: object, noise: Tensor) -> Tensor:
        return noise.clamp(-2.0, 2.0)

    def sha256(self) -> str:
        return "0" * 64


def steered(base: Any) -> Steered:
    critic = functools.partial(QEnsemble, members=2, hidden=(32, 32))
    policy = Steered(SPEC, base, critic, hidden=(32, 32), seed=1)
    rng = np.random.default_rng(0)
    rows = {"obs/bead/place": (64, 2), "action/commanded": (64, 1)}
    policy.fit_normalizer({key: rng.normal(size=shape).astype(np.float32) for key, shape in rows.items()})
    return policy


def make(kind: type[Learner], base: Any = None, **options: Any) -> Learner:
    online = {} if kind is DsrlSac else {"demonstrations": False}
    given: dict[str, Any] = {"actor_start": 0, "learning_rate": 3e-3, **online, **options}
    return kind(steered(base or Own()), **given)


def bandit(
    learner: Learner, reward: Callable[[Tensor], Tensor], rows: int = 128, groups: int = 200
) -> Mapping[str, Any]:
    """One-step episodes at random places: what the prior's noise makes and earns, as both kinds of views hold it."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((groups, rows, *learner.policy.noise_shape), generator=generator)
    place = torch.randn((groups, rows, 1, 2), generator=generator)
    made = learner.policy.base.sampler.sample({"bead/place": place.flatten(0, 1)}, noise.flatten(0, 1))
    chunk = made.unflatten(0, (groups, rows))[:, :, : learner.policy.horizon]
    batch = {
        "obs/bead/place": place,
        "next/obs/bead/place": place,
        "action": noise if isinstance(learner, DsrlSac) else chunk,
        "reward": reward(chunk),
        "bootstrap": torch.zeros((groups, rows)),
    }
    return {"online": batch}


def pushes(policy: Steered, episodes: int = 400) -> np.ndarray:
    """First pushes of so many episodes."""
    policy.reset(np.arange(episodes), np.arange(episodes))
    place = np.random.default_rng(3).normal(size=(episodes, 1, 2)).astype(np.float32)
    return policy.act({"bead/place": place}, ActContext.start(episodes, explore=True)).actions[:, 0, 0]


@pytest.mark.parametrize("kind", [Dsrl, DsrlSac])
def test_a_bandits_optimum_is_found(kind: type[Learner]) -> None:
    """What earns most is pushing by 1 and then by -0.5."""
    learner = make(kind, target=2.0)
    best = torch.tensor([1.0, -0.5])
    learner.update(bandit(learner, lambda chunk: (-(chunk[..., 0] - best).square().sum(-1) / 2.0).exp(), groups=250))
    learner.policy.load_state_dict(learner.acting_state())
    learner.policy.spread = 0.0
    learner.policy.reset(np.arange(64), np.arange(64))
    place = np.random.default_rng(3).normal(size=(64, 1, 2)).astype(np.float32)
    chunk = learner.policy.act({"bead/place": place}, ActContext.start(64)).actions[..., 0]
    np.testing.assert_allclose(chunk.mean(axis=0), best.numpy(), atol=0.2)


class Rightwards(torch.nn.Module):
    """Critics of noise to which every step to the right is worth 0.2."""

    def forward(self, features: Tensor, noise: Tensor) -> Tensor:
        return 0.2 * noise.sum(dim=-1).expand(2, -1)


@pytest.mark.parametrize(("regulariser", "target"), [("divergence", 0.3), ("entropy", 1.0)])
def test_the_price_holds_the_distance_from_the_prior(regulariser: str, target: float) -> None:
    """Per dimension at most 0.3 nats, which a mean of sqrt(0.6) is; or in all at least 1 nat of entropy."""
    learner = make(DsrlSac, regulariser=regulariser, target=target, price_rate=0.01, learning_rate=0.01)
    places, found = torch.randn((128, 2), generator=torch.Generator().manual_seed(0)), []
    for step in range(500):
        generator = torch.Generator().manual_seed(step)
        found.append(learner.steering.step(Rightwards(), places, generator)[regulariser].item())
    assert np.mean(found[-100:]) == pytest.approx(target, abs=0.1)
    if regulariser == "divergence":
        mean, log_std = learner.policy.actor.moments(places)
        torch.testing.assert_close(mean, torch.full_like(mean, 0.6**0.5), atol=0.15, rtol=0.0)
        torch.testing.assert_close(log_std, torch.zeros_like(log_std), atol=0.15, rtol=0.0)


@pytest.fixture(scope="module")
def two_modes() -> DiffusionPolicy:
    """Behaviour cloning of pushes to either side, as often."""
    policy = DiffusionPolicy(
        SPEC,
        functools.partial(ConcatMlp, width=64, layers=2),
        functools.partial(DDIM, steps=8),
        NoiseSchedule(steps=20),
        history=1,
        horizon=2,
        execute=2,
        pad_after=1,
        seed=0,
    )
    rng = np.random.default_rng(0)
    side = rng.choice([-1.0, 1.0], (20_000, 1, 1)) + 0.1 * rng.normal(size=(20_000, 2, 1))
    place = rng.normal(size=(20_000, 1, 2))
    data = {"action/commanded": torch.from_numpy(side).float(), "obs/bead/place": torch.from_numpy(place).float()}
    policy.fit_normalizer({key: value[:, 0].numpy() for key, value in data.items()})
    learner = BehaviourCloning(policy, steps=400, learning_rate=2e-3, warmup_steps=20, ema_maximum=0.99, seed=0)
    for step in range(400):
        chosen = torch.randint(0, 20_000, (1, 128), generator=torch.Generator().manual_seed(step))
        batch = {key: value[chosen] for key, value in data.items()}
        learner.update({"demonstrations": {**batch, "mask": torch.ones((1, 128, 2), dtype=torch.bool)}})
    policy.load_state_dict(learner.acting_state())
    return policy


@pytest.mark.parametrize("kind", [Dsrl, DsrlSac])
def test_the_good_one_of_two_modes_is_steered_to(kind: type[Learner], two_modes: DiffusionPolicy) -> None:
    """The base pushes to either side; right earns. Its weights stay as they are."""
    before = two_modes.sha256()
    learner = make(kind, two_modes)
    untrained = pushes(learner.policy)
    assert 0.3 < (untrained > 0.5).mean() < 0.7 and 0.3 < (untrained < -0.5).mean() < 0.7
    learner.update(bandit(learner, lambda chunk: (chunk[..., 0].mean(-1) > 0).float(), groups=150))
    learner.policy.load_state_dict(learner.acting_state())
    trained = pushes(learner.policy)
    assert ((trained > 0.5) & (trained < 1.5)).mean() > 0.9
    assert two_modes.sha256() == before and learner.policy.base.unchanged


def test_the_target_is_what_the_next_chunk_is_worth_to_the_least_of_the_chosen_critics() -> None:
    learner = make(Dsrl, subset=2)
    assert isinstance(learner, Dsrl)
    rows = 8
    batch = {
        key: value[0, :rows]
        for key, value in bandit(learner, lambda chunk: torch.zeros(chunk.shape[:2]))["online"].items()
    }
    batch["reward"][0], batch["bootstrap"][1:] = 1.0, 0.9**2
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((rows, 2), generator=generator)
    with torch.no_grad():
        features = learner.policy.features({"bead/place": batch["next/obs/bead/place"]})
        chunk = learner.policy.chunk((3.0 * torch.tanh(noise / 3.0)).view(rows, 2, 1).clamp(-2.0, 2.0))
        least = learner._critics.target(features, chunk).amin(dim=0)
    expected = (batch["reward"] + batch["bootstrap"] * least).clamp(0.0, 1.0).mean()
    metrics, _ = learner._critic_step(batch, torch.Generator().manual_seed(5))
    torch.testing.assert_close(metrics["target"], expected, atol=1e-5, rtol=1e-5)


def test_views_are_chunks_of_the_executed_or_decisions_that_nobody_touched() -> None:
    view = make(Dsrl, discount=0.9).views["online"]
    assert (view.horizon, view.n_step, view.discount_per_control_step) == (2, 1, 0.9)
    assert (view.action, view.cut) == ("action/commanded", Cut.INTERVENTION)
    view = make(DsrlSac).views["online"]
    assert (view.action, view.cut) == ("decision/noise", Cut.DROP_HUMAN)
    learner = make(Dsrl, demonstrations=True, hand_over=HandOver(lowest=0.4))
    assert learner.views["online"].extras == ("policy/arm",) and not learner.views["demonstrations"].extras
    assert float(learner.acting_state()["arms.share"]) == pytest.approx(0.4)


def test_nothing_that_is_not_finite_is_learnt_from() -> None:
    learner = make(Dsrl)
    data = bandit(learner, lambda chunk: torch.full(chunk.shape[:2], float("nan")), groups=1)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    with pytest.raises(InvalidArrayError, match="'reward' of view 'online'"):
        learner.update(data)
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())
    with pytest.raises(ConfigError, match="no regulariser 'entropi'"):
        make(Dsrl, regulariser="entropi")
