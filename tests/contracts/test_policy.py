"""The Policy contract, for every option of the group policy/, those that act around another included; and wrapping: a
policy that needs another's actions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from policies.black_box import BlackBox
from policies.chunk_critic import ChunkCritic
from policies.diffusion import DiffusionPolicy
from robot_rl.apps.environment import check_wrapper
from robot_rl.apps.main import compose, instantiate
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError
from robot_rl.interfaces import ChunkSampler, Denoiser, Policy
from robot_rl.learning.targets import build
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.recorder import EpisodeRecorder
from robot_rl.runtime.rollout import run_episode
from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    Arrays,
    ArraySpec,
    CameraSpec,
    EnvSpec,
    Judgement,
    Observation,
    PolicySpec,
    ReplayView,
    ResetRequest,
)
from tests.contracts.options import options
from tests.contracts.trained_base import save_base

ACTION = ActionSpec(
    (
        ActionPart("arm0/tcp", ActionKind.TCP_POSITION_DELTA, (-0.05,) * 3, (0.05,) * 3, "m", "base"),
        ActionPart("arm0/gripper", ActionKind.GRIPPER, (0.0,), (1.0,)),
    )
)
SPEC = replace(FakeRobot().connect(), action=ACTION, cameras={"front": CameraSpec(96, 96, 20.0)}, task="toy")


def configured(option: str, base: Path | None = None) -> Any:
    return compose("train", [f"policy={option}", *([] if base is None else [f"base={base}"])]).policy


def wraps(option: str) -> bool:
    """Whether the option acts around a trained policy."""
    try:
        check_wrapper(configured(option))
    except ConfigError:
        return False
    return True


def made(option: str, base: Path | None = None) -> Any:
    """The policy of an option; what acts around another gets the default one, what is trained around one ``base``."""
    if wraps(option):
        wrapper = configured(option)
        if "candidates" in wrapper:
            wrapper.candidates = 5
        if OmegaConf.is_missing(wrapper, "critic"):
            del wrapper.critic
            return instantiate(wrapper)(base=made("diffusion_mlp"), critic=critic_of(made("diffusion_mlp").spec))
        return instantiate(wrapper)(base=made("diffusion_mlp"))
    policy = build(OmegaConf.to_container(configured(option, base), resolve=True), env_spec=SPEC)()  # type: ignore[arg-type]
    if hasattr(policy, "fit_normalizer"):
        rng = np.random.default_rng(0)
        policy.fit_normalizer(
            {path: rng.normal(size=(64, *shape)).astype(np.float32) for path, shape in rows(SPEC).items()}
        )
    return policy


def critic_of(spec: PolicySpec) -> ChunkCritic:
    """An untrained critic of the chunks of such a policy."""
    node = OmegaConf.create(compose("train", ["algorithm=iql"]).value)
    node.update({"history": spec.history, "horizon": spec.execute, "seed": 0})
    critic = build(OmegaConf.to_container(node, resolve=True), env_spec=SPEC)()  # type: ignore[arg-type]
    critic.fit_normalizer({path: np.zeros((2, *shape), np.float32) for path, shape in rows(SPEC).items()})
    return critic


@pytest.fixture(params=options("policy"), scope="module")
def policy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return made(request.param, save_base(tmp_path_factory.mktemp("base") / "checkpoint", SPEC))


GENERATORS = [option for option in options("policy") if configured(option)["_target_"].endswith(".DiffusionPolicy")]


@pytest.fixture(params=GENERATORS, scope="module")
def generator(request: pytest.FixtureRequest) -> DiffusionPolicy:
    return made(request.param)


def rows(spec: EnvSpec) -> dict[str, tuple[int, ...]]:
    return {"action/commanded": (spec.action.size,), **{f"obs/{n}": a.shape for n, a in spec.observation.items()}}


def window(policy: Policy, batch: int) -> Arrays:
    rng = np.random.default_rng(1)
    history, result = policy.spec.history, {}
    for name, array in policy.spec.observation.items():
        shape = (batch, history, *array.shape)
        image = array.dtype == "uint8"
        result[name] = rng.integers(0, 255, shape, np.uint8) if image else rng.normal(size=shape).astype(np.float32)
    return result


def act(policy: Policy, batch: int, rows: list[int] | None = None) -> ActionChunk:
    """The first decision of episodes 0, 1, ... on a fixed window, or of some rows of it."""
    whole = window(policy, batch)
    rows = list(range(batch)) if rows is None else rows
    policy.reset(np.arange(len(rows)), np.array(rows))
    return policy.act({name: value[rows] for name, value in whole.items()}, ActContext.start(len(rows)))


def test_satisfies_the_protocol(policy: Policy) -> None:
    assert isinstance(policy, Policy)


def test_a_chunk_is_as_the_spec_says(policy: Policy) -> None:
    chunk = act(policy, 3)
    assert chunk.actions.shape == (3, policy.spec.horizon, policy.spec.action.size)
    assert 1 <= chunk.execute <= policy.spec.horizon
    assert np.isfinite(chunk.actions).all()
    assert {name: value.shape[2:] for name, value in chunk.record.items()} == {
        name: spec.shape for name, spec in policy.spec.record.items()
    }


def test_equal_seeds_give_equal_chunks_and_others_differ(policy: Policy) -> None:
    first = act(policy, 2)
    np.testing.assert_array_equal(first.actions, act(policy, 2).actions)
    policy.reset(np.arange(2), np.array([7, 8]))
    other = policy.act(window(policy, 2), ActContext.start(2))
    without_chance = all(not value.any() for value in first.decision.values())  # noise times zero
    assert np.array_equal(first.actions, other.actions) is without_chance


def test_a_row_does_not_depend_on_its_neighbours(policy: Policy) -> None:
    together, alone = act(policy, 4).actions, act(policy, 4, rows=[2]).actions
    np.testing.assert_allclose(alone[0], together[2], atol=1e-4)


def test_resetting_one_row_leaves_the_others_alone(policy: Policy) -> None:
    """Row 1 is reset between two decisions; row 0's second decision is what it would have been."""
    seen, context = window(policy, 2), ActContext.start(2)
    act(policy, 2)
    second = policy.act(seen, context).actions
    act(policy, 2)
    policy.reset(np.array([1]), np.array([1]))
    again = policy.act(seen, context).actions
    np.testing.assert_array_equal(again[0], second[0])


# --- generators: the black box and the white one ---------------------------------------------------------------------


def tensors(policy: Policy, batch: int) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in window(policy, batch).items()}


def test_a_sampler_is_deterministic_in_its_noise_and_exposes_no_gradient(generator: DiffusionPolicy) -> None:
    policy, sampler = generator, BlackBox(generator)
    assert isinstance(sampler, ChunkSampler)
    spec = sampler.spec
    noise = torch.randn((2, *spec.noise_shape), generator=torch.Generator().manual_seed(0))
    chunks = sampler.sample(tensors(policy, 2), noise)
    assert chunks.shape == (2, spec.horizon, spec.action.size)
    assert not chunks.requires_grad
    torch.testing.assert_close(chunks, sampler.sample(tensors(policy, 2), noise), rtol=0, atol=0)
    assert not torch.equal(chunks, sampler.sample(tensors(policy, 2), -noise))
    with pytest.raises(AttributeError):
        _ = sampler.predict  # type: ignore[attr-defined]


def test_what_acts_is_the_sampler_under_the_recorded_noise(generator: DiffusionPolicy) -> None:
    chunk = act(generator, 2)
    again = BlackBox(generator).sample(tensors(generator, 2), torch.from_numpy(chunk.decision["noise"]))
    np.testing.assert_array_equal(chunk.actions, again.numpy())


def test_a_denoiser_predicts_in_the_normalised_chunks_shape(generator: DiffusionPolicy) -> None:
    policy = generator
    seen, x = tensors(policy, 2), torch.zeros((2, policy.spec.horizon, policy.spec.action.size))
    assert isinstance(policy, Denoiser)
    cond = policy.encode(seen)
    assert policy.predict(x, torch.tensor([0, 1]), cond).shape == x.shape
    assert cond.shape[0] == 2


# --- wrapping -------------------------------------------------------------------------------------------------------


class Base:
    """Moves x by its seed's digit in millimetres."""

    spec = PolicySpec({"arm0/tcp_pose": SPEC.observation["arm0/tcp_pose"]}, ACTION, horizon=4, execute=2)

    def reset(self, rows: Array, seeds: Array) -> None:
        self.seeds = np.asarray(seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        actions = np.zeros((1, 4, 4), np.float32)
        actions[0, :, 0] = 0.001 * (np.arange(4) + context.step[0] + 1)
        return ActionChunk(actions, self.spec.execute)


class Residual:
    """Adds to another policy's chunk and declares the base's actions as an extra: wraps, does not inherit."""

    def __init__(self, base: Policy) -> None:
        self.base = base
        self.spec = replace(base.spec, record={"base_action": ArraySpec((4,))})

    def reset(self, rows: Array, seeds: Array) -> None:
        self.base.reset(rows, seeds)

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        chunk = self.base.act(window, context)
        return replace(chunk, actions=chunk.actions + np.float32(0.01), record={"base_action": chunk.actions})


class Free:
    """A task that judges nothing."""

    name = "toy"
    requires: frozenset[str] = frozenset()

    def reset_request(self, seed: int) -> ResetRequest:
        return ResetRequest(seed=seed)

    def judge(self, observation: Observation, action: Array, next_observation: Observation) -> Judgement:
        return Judgement(0.0)


def test_a_wrapper_gets_the_bases_actions_at_s_and_at_the_state_that_follows(tmp_path: Path) -> None:
    """Through loop, recorder, store and replay; at the truncated end the final row has them too."""
    env = RobotEnv(FakeRobot(), Free(), ACTION, max_steps=5)
    policy = Residual(Base())
    store = EpisodeStore.create(tmp_path / "data")
    end = run_episode(env, policy, [EpisodeRecorder(store, extras=policy.spec.record)], seed=0)
    env.close()
    assert (end.reason, end.length) == ("time_limit", 5)

    episode = store.read(store.ids()[0])
    base = episode.arrays["policy/base_action"][:, 0]
    # decisions at steps 0, 2, 4; the final row 5 is the second step of the decision at 4
    np.testing.assert_allclose(base, np.array([1, 2, 3, 4, 5, 6]) * 0.001, atol=1e-7)
    np.testing.assert_allclose(episode.arrays["action/commanded"][:5, 0], base[:5] + 0.01, atol=1e-6)

    view = ReplayView(observation=("obs/arm0/tcp_pose",), extras=("policy/base_action",), discount_per_control_step=0.5)
    batch = ReplaySampler(store, view, batch=5).batch(0)
    order = np.argsort(batch["row"])
    np.testing.assert_allclose(batch["policy/base_action"][order, 0], base[:5], atol=1e-7)
    np.testing.assert_allclose(batch["next/policy/base_action"][order, 0], base[1:], atol=1e-7)
    np.testing.assert_allclose(batch["bootstrap"], 0.5)  # a time limit bootstraps
