"""Residuals on a base's chunks: exactly the base at zero, whatever the base is; who acts; what is recorded."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policies.arms import BASE, CLOSED, OPEN
from policies.diffusion import DiffusionPolicy
from policies.frozen import Frozen
from policies.q_ensemble import QEnsemble
from policies.remote import RemotePolicy
from policies.residual import ResidualPolicy
from policies.served import SamplerServer
from policies.warm_started import WarmStarted
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import CheckpointError
from robot_rl.interfaces import Policy
from robot_rl.learning.checkpoint import load_checkpoint, save_checkpoint
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import ActContext, ActionChunk, ActionKind, ActionPart, ActionSpec, Array
from tests.contracts.test_policy import Free
from tests.policies.tiny import CONFIG, SPEC, make_acting, make_policy, make_rows, make_window

BATCH = 3
DELTA = ActionSpec((ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.05,) * 3, (0.05,) * 3, "m", "base"),))
CRITIC = functools.partial(QEnsemble, members=2, hidden=(16,))


def make(base: Any, **options: Any) -> ResidualPolicy:
    policy = ResidualPolicy(SPEC, base, CRITIC, **{"hidden": (16,), "forced_open": True, "seed": 5, **options})
    policy.fit_normalizer(make_rows())
    return policy


def awake(policy: ResidualPolicy) -> ResidualPolicy:
    """With a residual that is not zero."""
    with torch.no_grad():
        policy.networks.actor.body[-1].bias.fill_(0.5)  # type: ignore[union-attr]
    return policy


def context(step: int, executed: int, *, takeover: bool = False, explore: bool = False) -> ActContext:
    whole = np.ones(BATCH, dtype=np.int64)
    return ActContext(step * whole, executed * whole, 0 * whole, np.full(BATCH, takeover), explore)


def stepwise(policy: Policy, steps: int, voided: tuple[int, ...] = ()) -> list[ActionChunk]:
    """Decisions of a policy that acts at every step; before the steps ``voided`` somebody else took over or back."""
    policy.reset(np.arange(BATCH), np.arange(BATCH) + 10)
    chunks: list[ActionChunk] = []
    for step in range(steps):
        done = 0 if step in (0, *voided) else int(chunks[-1].begun[0]) + 1  # type: ignore[index]
        chunks.append(policy.act(make_window(BATCH, step), context(step, done)))
    return chunks


def now(chunk: ActionChunk, what: Array | None = None) -> Array:
    """What a plan has for the step it was made at, [B, ...]."""
    assert chunk.begun is not None
    return (chunk.actions if what is None else what)[np.arange(BATCH), chunk.begun]


def alone(policy: Policy, steps: int, voided: tuple[int, ...] = ()) -> list[Array]:
    """The actions of a policy as the loop executes its chunks."""
    policy.reset(np.arange(BATCH), np.arange(BATCH) + 10)
    actions, start, chunk = [], 0, None
    for step in range(steps):
        if chunk is None or step in voided or step - start >= chunk.execute:
            done = 0 if chunk is None or step in voided else step - start
            start, chunk = step, policy.act(make_window(BATCH, step), context(step, done))
        actions.append(chunk.actions[:, step - start])
    return actions


@pytest.mark.parametrize("voided", [(), (5, 7)], ids=["undisturbed", "intervention"])
@pytest.mark.parametrize(
    "around", [None, functools.partial(WarmStarted, timesteps=(3, 1), execute=2)], ids=["", "warm"]
)
def test_a_residual_of_zero_is_the_base_bit_for_bit(around: Any, voided: tuple[int, ...]) -> None:
    base = make_acting()
    policy = make(Frozen(base, around=around))
    expected = alone(base if around is None else around(base=make_acting()), 11, voided)
    for step, chunk in enumerate(stepwise(policy, 11, voided)):
        assert now(chunk).tobytes() == expected[step].tobytes(), step
        np.testing.assert_array_equal(now(chunk, chunk.record["base_action"]), expected[step])


def test_a_served_base_is_corrected_like_any_other() -> None:
    with SamplerServer(make_acting()) as server:
        policy = make(Frozen(RemotePolicy(SPEC, server.address)))
        for step, chunk in enumerate(stepwise(policy, 6)):
            assert now(chunk).tobytes() == alone(make_acting(), 6)[step].tobytes()


def test_a_residual_is_added_in_physical_units_and_the_base_stays_recorded() -> None:
    """tanh(0.5) of a tenth of the half range of 2 m."""
    policy, expected = awake(make(make_acting(), fraction=0.1)), alone(make_acting(), 6)
    for step, chunk in enumerate(stepwise(policy, 6)):
        np.testing.assert_allclose(now(chunk), expected[step] + 0.2 * np.tanh(0.5), atol=1e-6)
        np.testing.assert_array_equal(now(chunk, chunk.record["base_action"]), expected[step])
        assert (chunk.record["arm"] == OPEN).all()
    assert policy.base.unchanged


def test_an_episode_of_the_base_is_the_bases_and_a_closed_gate_too() -> None:
    policy, expected = awake(make(make_acting(), forced_open=False, deviations=1e9)), alone(make_acting(), 5)
    for handed, arm in ((False, BASE), (True, CLOSED)):
        policy.arms.handed = handed
        for step, chunk in enumerate(stepwise(policy, 5)):
            assert now(chunk).tobytes() == expected[step].tobytes()
            assert (chunk.record["arm"] == arm).all()


def test_the_gate_opens_where_all_critics_prefer_the_sum() -> None:
    policy = awake(make(make_acting(), forced_open=False))
    policy.networks.critic = Rising()
    assert all((chunk.record["arm"] == OPEN).all() for chunk in stepwise(policy, 3))
    policy.networks.critic = Rising(-1.0)
    assert all((chunk.record["arm"] == CLOSED).all() for chunk in stepwise(policy, 3))


class Rising(torch.nn.Module):
    """Two critics that like large actions, or small ones."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, features: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return torch.stack((action.sum(dim=-1), 2.0 * action.sum(dim=-1))) * self.sign


def test_exploring_adds_noise_of_the_given_size_to_episodes_that_are_not_the_bases() -> None:
    policy = make(make_acting(), forced_open=False, noise=0.2, fraction=0.1)
    policy.arms.share, added = 0.5, []
    for first in range(0, 600, BATCH):
        policy.reset(np.arange(BATCH), np.arange(BATCH) + first)
        chunk = policy.act(make_window(BATCH), context(0, 0, explore=True))
        by = now(chunk) - now(chunk, chunk.record["base_action"])
        assert ((by == 0.0).all(axis=1) == (chunk.record["arm"][:, 0] == BASE)).all()
        added.append(by)
    noisy = np.concatenate(added)[(np.concatenate(added) != 0.0).any(axis=1)]
    assert 250 < len(noisy) < 350
    assert noisy.std() == pytest.approx(0.2 * 0.2 * 0.959, rel=0.06)  # held at two deviations


def test_a_checkpoint_names_its_base_by_path_and_hash_and_holds_nothing_of_it(tmp_path: Path) -> None:
    base = make_acting()
    folder = save_checkpoint(tmp_path / "base", weights=base.state_dict(), config=CONFIG, env_spec=SPEC)
    frozen = {"_target_": "policies.frozen.Frozen", "checkpoint": str(folder), "sha256": base.sha256()}
    critic = {"_target_": "policies.q_ensemble.QEnsemble", "_partial_": True, "hidden": [16], "members": 2}
    config = {
        "_target_": "policies.residual.ResidualPolicy",
        "base": frozen,
        "critic": critic,
        "hidden": [16],
        "seed": 5,
    }
    policy = awake(make(base, forced_open=False))
    weights = policy.state_dict()
    assert not any(value.shape == own.shape and torch.equal(value, own) and value.numel() > 16
                   for value in weights.values() for own in base.state_dict().values())  # fmt: skip
    saved = save_checkpoint(tmp_path / "residual", weights=weights, config=config, env_spec=SPEC)
    loaded = load_checkpoint(saved, SPEC)
    for one, other in zip(stepwise(policy, 6), stepwise(loaded, 6), strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
    with pytest.raises(CheckpointError, match="holds policy"):
        load_checkpoint(saved, SPEC, changes={"base.sha256": "0" * 64})


def test_rows_that_have_ended_do_not_disturb_the_base_of_the_others() -> None:
    """In a batch the rows of finished episodes are asked on and on about their last step."""
    policy, expected = make(make_acting()), alone(make_acting(), 9)
    policy.reset(np.arange(BATCH), np.arange(BATCH) + 10)
    for step in range(9):
        whole, behind = context(step, 0), step - 4 * (max(step - 1, 0) // 4)
        done = [behind, behind if step < 5 else 1, 0]  # the second row ends at step 5, the third is a filler
        stands = ActContext(np.minimum(whole.step, [9, 5, 0]), np.array(done), whole.delay_steps, whole.takeover)
        chunk = policy.act(make_window(BATCH, step), stands)
        assert now(chunk)[0].tobytes() == expected[step][0].tobytes(), step


def test_an_episode_under_a_residual_of_zero_is_the_bases_episode_bit_for_bit(tmp_path: Path) -> None:
    """Through loop, env and recorder, by an arm that lags behind: plans stay anchored where the base's are, though the
    target in force may lead by no more than a millimetre where a plan begins."""
    env = RobotEnv(FakeRobot(lag=0.8), Free(), DELTA, max_steps=14, max_lead_m=0.001, observe_set_points=True)
    base = make_policy(env.spec, observation={"arm0/tcp_pose": "position", "arm0/tcp_set_point": "position"})
    with torch.no_grad():
        for value in base.module.parameters():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(0)), alpha=0.05)
    rng = np.random.default_rng(0)
    rows = {f"obs/{name}": rng.normal(size=(64, 7)).astype(np.float32) for name in base.spec.observation}
    base.fit_normalizer({**rows, "action/commanded": rng.uniform(-0.02, 0.02, (64, 3)).astype(np.float32)})

    def recorded(name: str, policy: Any) -> dict[str, Array]:
        store = EpisodeStore.create(tmp_path / name)
        run_episode(env, policy, [EpisodeRecorder(store, extras=policy.spec.record)], seed=3)
        return dict(store.read(store.ids()[0]).arrays)

    def around() -> ResidualPolicy:
        policy = ResidualPolicy(env.spec, base, CRITIC, hidden=(16,), fraction=0.1, forced_open=True)
        policy.fit_normalizer({f"obs/{n}": rng.normal(size=(64, *s.shape)).astype(np.float32)
                               for n, s in env.spec.observation.items()})  # fmt: skip
        return policy

    alone_, zero, moved = (recorded(*run) for run in (("alone", base), ("zero", around()), ("moved", awake(around()))))
    env.close()
    for key in ("obs/arm0/tcp_pose", "obs/arm0/tcp_set_point", "action/commanded", "action/executed", "action/policy"):
        assert alone_[key].tobytes() == zero[key].tobytes(), key
    np.testing.assert_array_equal(zero["policy/base_action"][:-1], zero["action/policy"][:-1])
    added = moved["action/commanded"][:-1] - moved["policy/base_action"][:-1]
    np.testing.assert_allclose(added, 0.005 * np.tanh(0.5), atol=1e-6)  # a tenth of 5 cm, at every step


def test_the_base_is_a_diffusion_policy_that_was_never_touched() -> None:
    base = make_acting()
    before = base.sha256()
    policy = awake(make(base))
    stepwise(policy, 9)
    assert isinstance(policy.base.policy, DiffusionPolicy) and base.sha256() == before
