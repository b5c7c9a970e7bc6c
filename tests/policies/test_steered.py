"""Steering is the base bit for bit where the base has the episode, and never holds its weights."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.arms import BASE, CLOSED, OPEN
from policies.black_box import BlackBox, as_sampler
from policies.diffusion import DiffusionPolicy
from policies.frozen import Frozen
from policies.q_ensemble import QEnsemble
from policies.remote import RemotePolicy
from policies.row_noise import RowNoise
from policies.scaled_noise import ScaledNoise
from policies.served import SamplerServer
from policies.steered import Steered
from policies.warm_started import WarmStarted
from robot_rl.errors import CheckpointError, ConfigError
from robot_rl.learning.checkpoint import load_checkpoint, save_checkpoint
from robot_rl.types import ActContext
from tests.policies.tiny import CONFIG, SPEC, decisions, make_acting, make_rows, make_window


@pytest.fixture(scope="module")
def base() -> DiffusionPolicy:
    return make_acting(seed=4)


def make(base: object, learnt: bool = False, **options: object) -> Steered:
    """As if it had ``learnt`` something."""
    critic = functools.partial(QEnsemble, hidden=(16,))
    policy = Steered(SPEC, base, critic, hidden=(16,), **{"deviations": 0.0, **options})  # type: ignore[arg-type]
    policy.fit_normalizer(make_rows())
    if learnt:
        with torch.no_grad():
            for value in policy.module.parameters():
                value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(7)), alpha=0.3)
    return policy


def test_an_untrained_one_gives_the_base_its_own_noise_within_reach(base: DiffusionPolicy) -> None:
    for own, ours in zip(decisions(base), decisions(make(base)), strict=True):
        noise = 3.0 * np.tanh(own.decision["noise"] / 3.0)
        np.testing.assert_allclose(ours.decision["noise"], noise, atol=1e-5)
    seen = {key: torch.from_numpy(value) for key, value in make_window(3, 2).items()}
    again = BlackBox(base).sample(seen, torch.from_numpy(ours.decision["noise"]))
    np.testing.assert_array_equal(ours.actions, again.numpy())


def test_where_the_base_has_the_episode_it_acts_bit_for_bit(base: DiffusionPolicy) -> None:
    policy = make(base, learnt=True)
    policy.arms.handed = False
    for own, ours in zip(decisions(base), decisions(policy), strict=True):
        np.testing.assert_array_equal(ours.actions, own.actions)
        np.testing.assert_array_equal(ours.decision["noise"], own.decision["noise"])
        assert (ours.record["arm"] == BASE).all()
    forced = make(base, learnt=True, forced_open=True)
    forced.arms.handed = False
    assert not np.array_equal(decisions(forced)[0].actions, decisions(base)[0].actions)


def test_exploring_rows_go_to_both_arms_and_a_row_of_the_base_is_the_bases(base: DiffusionPolicy) -> None:
    policy, batch = make(base, learnt=True), 32
    policy.arms.share = 0.5
    context = ActContext.start(batch, explore=True)
    for one in (policy, base):
        one.reset(np.arange(batch), np.arange(batch))
    ours, own = policy.act(make_window(batch), context), base.act(make_window(batch), context)
    arm = ours.record["arm"][:, 0]
    assert {BASE, CLOSED, OPEN} == set(arm.tolist()) and 8 <= (arm != BASE).sum() <= 24
    equal = (ours.actions == own.actions).all(axis=(1, 2))
    np.testing.assert_array_equal(equal, arm != OPEN)


def test_the_gate_opens_where_critics_prefer_the_preferred_noise_by_their_lower_bound(base: DiffusionPolicy) -> None:
    policy = make(base, learnt=True)
    window = make_window(32)
    seen = {key: torch.from_numpy(value) for key, value in window.items()}
    drawn = torch.from_numpy(RowNoise(4).draw(32, policy.noise_shape))
    with torch.no_grad():
        features, own = policy.features(seen), drawn.flatten(1)
        gain = policy.critic(features, policy.actor(features, own)) - policy.critic(features, own)
    for deviations in (0.0, 0.5):
        noise, opened = policy.steer(seen, drawn, 1.0, deviations)
        expected = gain.mean(dim=0) - deviations * gain.std(dim=0, unbiased=False) > 0
        np.testing.assert_array_equal(opened, expected.numpy())
        assert 0 < opened.sum() < 32 or deviations
        np.testing.assert_array_equal((noise == drawn).flatten(1).all(dim=1).numpy(), ~opened)


def test_without_spread_it_acts_by_the_mean(base: DiffusionPolicy) -> None:
    policy = make(base, learnt=True, spread=0.0, forced_open=True)
    first, second = (policy.act(make_window(2), ActContext.start(2)) for _ in range(2))
    np.testing.assert_array_equal(first.actions, second.actions)
    policy.reset(np.arange(2), np.arange(2))
    exploring = [policy.act(make_window(2), ActContext.start(2, explore=True)) for _ in range(2)]
    assert not np.array_equal(exploring[0].actions, exploring[1].actions)


def test_it_is_a_generator_for_what_acts_around_it(base: DiffusionPolicy) -> None:
    """The same steering: whoever draws as the base does reproduces it, and noise of zero is the learnt mean."""
    policy = make(base, learnt=True, forced_open=True)
    around = ScaledNoise(policy, 1.0)
    for ours, own in zip(decisions(around), decisions(policy), strict=True):
        np.testing.assert_array_equal(ours.actions, own.actions)
    still, mean = ScaledNoise(policy, 0.0), make(base, learnt=True, forced_open=True, spread=0.0)
    np.testing.assert_array_equal(decisions(still)[0].actions, decisions(mean)[0].actions)
    assert as_sampler(policy).spec.sha256 not in (base.sha256(), make(base).sha256())


def test_a_checkpoint_names_its_base_and_holds_none_of_its_weights(base: DiffusionPolicy, tmp_path: Path) -> None:
    held = save_checkpoint(tmp_path / "base", weights=base.state_dict(), config={**CONFIG, "seed": 4}, env_spec=SPEC)
    policy = make(Frozen(str(held)), learnt=True)
    named = {"_target_": "policies.frozen.Frozen", "checkpoint": str(held), "sha256": policy.base.sha256}
    critic = {"_target_": "policies.q_ensemble.QEnsemble", "_partial_": True, "hidden": [16]}
    config = {
        "_target_": "policies.steered.Steered",
        "hidden": [16],
        "base": named,
        "critic": critic,
        "deviations": 0.0,
    }
    saved = save_checkpoint(tmp_path / "steered", weights=policy.state_dict(), config=config, env_spec=SPEC)
    parts = {name.partition(".")[0] + "." + name.split(".")[1] for name in policy.state_dict()}
    assert parts == {
        "module.encoder",
        "module.actor",
        "module.critic",
        "normalizer.action",
        "normalizer.features",
        "arms.share",
        "arms.handed",
    }
    loaded = load_checkpoint(saved, SPEC)
    for ours, own in zip(decisions(loaded), decisions(policy), strict=True):
        np.testing.assert_array_equal(ours.actions, own.actions)

    window = {key: torch.from_numpy(value) for key, value in make_window(8).items()}
    quick, noise = make(Frozen(str(held), learning_precision="bfloat16")), torch.zeros(8, policy.latent_size)
    exact = policy.chunks(window, noise)
    torch.testing.assert_close(quick.chunks(window, noise), exact, atol=0.1, rtol=0.0)
    assert not torch.equal(quick.chunks(window, noise), exact)  # what acts is exact all the same
    np.testing.assert_array_equal(
        quick.base.sampler.sample(window, noise.view(8, 8, 2)), base.sample(window, noise.view(8, 8, 2))
    )

    other = make_acting(seed=5)
    swapped = save_checkpoint(tmp_path / "other", weights=other.state_dict(), config=CONFIG, env_spec=SPEC)
    with pytest.raises(CheckpointError, match="holds policy"):
        load_checkpoint(saved, SPEC, changes={"base.checkpoint": str(swapped)})
    moved = held.rename(tmp_path / "moved")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        load_checkpoint(saved, SPEC)
    assert load_checkpoint(saved, SPEC, changes={"base.checkpoint": str(moved)}).base.unchanged


def test_a_served_base_is_steered_to_the_same_chunks(base: DiffusionPolicy) -> None:
    with SamplerServer(base) as server:
        remote = RemotePolicy(SPEC, server.address)
        for ours, own in zip(decisions(make(remote, learnt=True)), decisions(make(base, learnt=True)), strict=True):
            np.testing.assert_array_equal(ours.actions, own.actions)
        with pytest.raises(ConfigError, match="offers chunks only"):
            Frozen(remote, around=WarmStarted)
        remote.sampler.close()


def test_what_cannot_be_steered_is_refused(base: DiffusionPolicy) -> None:
    with pytest.raises(ConfigError, match="no base"):
        make("")
    with pytest.raises(ConfigError, match="no hash"):
        make(RowNoise(0))
    with pytest.raises(ConfigError, match="makes no chunks from noise"):
        make(Frozen(base, around=WarmStarted))
