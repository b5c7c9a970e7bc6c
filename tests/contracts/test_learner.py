"""The Learner contract, for every option of the group algorithm/, on a policy of a few parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from robot_rl.apps.main import compose, instantiate
from robot_rl.interfaces import Learner
from robot_rl.learning.targets import build
from robot_rl.types import ReplayView, WindowSpec
from tests.contracts.options import options
from tests.contracts.test_policy import SPEC, rows
from tests.contracts.trained_base import save_base

NETWORK = ["policy.network.width=16", "policy.network.blocks=1", "policy.network.condition_width=8"]
CHUNKS = [*NETWORK, "policy.history=1", "policy.horizon=4", "policy.execute=2"]
TINY = {  # what each option learns with, made small
    "diffusion": ["policy=diffusion_mlp", *CHUNKS],
    "calql": ["value.history=1", "value.horizon=2", "value.ensemble.hidden=[16]", "algorithm.actor.hidden=[16]"],
    "iql": ["value.history=1", "value.horizon=2", "value.ensemble.hidden=[16]"],
    "dsrl": ["policy.hidden=[16]", "policy.critic.hidden=[16]", "algorithm.actor_start=0"],
    "dsrl_sac": ["policy.hidden=[16]", "policy.critic.hidden=[16]", "algorithm.actor_start=0"],
    "expo": ["policy.hidden=[16]", "policy.critic.hidden=[16]", "policy.candidates=3", "algorithm.actor_start=0"],
    "hg_dagger": ["policy=gaussian", "policy.hidden=[16]"],
    "residual": ["policy.hidden=[16]", "policy.critic.hidden=[16]", "algorithm.actor_start=0"],
    "rlpd": ["policy=gaussian", "policy.hidden=[16]", "algorithm.critic.hidden=[16]"],
    "success_classifier": ["judge.encoder.height=16", "judge.encoder.width=16", "judge.encoder.channels=[8]"],
}
SIDE = 16  # of images [pixels]
OF_A_BASE = {  # what is recorded of it
    "policy/arm": (),
    "policy/base_action": (SPEC.action.size,),
    "policy/candidates": (3, 2, SPEC.action.size),
    "decision/noise": (4, SPEC.action.size),
}


@pytest.fixture(params=options("algorithm"))
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Constructor of equal learners."""
    base = save_base(tmp_path_factory.getbasetemp() / "base", SPEC)

    def make() -> Learner:
        config = compose("train", [f"algorithm={request.param}", "steps=10", f"base={base}", *TINY[request.param]])
        learnt = config.get("judge") or config.get("value") or config.policy  # as robot-rl train chooses
        policy = build(OmegaConf.to_container(learnt, resolve=True), env_spec=SPEC)()  # type: ignore[arg-type]
        rng, shapes = np.random.default_rng(0), rows(SPEC)
        if hasattr(policy, "fit_normalizer"):
            policy.fit_normalizer({k: rng.normal(size=(64, *v)).astype(np.float32) for k, v in shapes.items()})
        return instantiate(config.algorithm)(policy)

    return make


def batches(learner: Learner, groups: int, seed: int = 0) -> dict[str, dict[str, torch.Tensor]]:
    """Random data [G, B, ...] of every view, as samplers give it."""
    generator, result = torch.Generator().manual_seed(seed), {}
    for name, view in learner.views.items():
        make = windows if isinstance(view, WindowSpec) else transitions
        result[name] = make(view, groups, generator)  # type: ignore[arg-type]
    return result


def windows(view: WindowSpec, groups: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    shapes = rows(SPEC)
    batch = {
        key: images(groups, generator)
        if key.startswith("images/")
        else torch.rand((groups, 8, offsets.length, *shapes[key]), generator=generator)
        for key, offsets in view.keys.items()
    }
    lengths = [offsets.length for key, offsets in view.keys.items() if key.startswith("action/")]
    label = torch.tensor([0.0, 1.0]).repeat(groups, 4)  # of frames, which a classifier learns
    return {**batch, "mask": torch.ones((groups, 8, *lengths), dtype=torch.bool), "success": label}


def images(groups: int, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 256, (groups, 8, 1, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)


def transitions(view: ReplayView, groups: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    shapes, batch = {**rows(SPEC), **OF_A_BASE}, {}
    for key in view.observation:
        for prefix in ("", "next/"):
            batch[prefix + key] = torch.rand((groups, 8, view.history, *shapes[key]), generator=generator)
    for key in view.extras:
        for prefix in ("", "next/"):
            batch[prefix + key] = torch.rand((groups, 8, *shapes[key]), generator=generator)
    steps = () if view.action.startswith("decision/") else (view.horizon,)
    batch["action"] = torch.rand((groups, 8, *steps, *shapes[view.action]), generator=generator)
    batch["action_mask"] = torch.ones((groups, 8, view.horizon), dtype=torch.bool)
    batch["reward"] = torch.rand((groups, 8), generator=generator)
    batch["return"] = torch.rand((groups, 8), generator=generator)
    batch["bootstrap"] = torch.full((groups, 8), view.discount_per_control_step**view.n_step)
    whole = torch.zeros((groups, 8), dtype=torch.int64)
    return {**batch, "episode": whole, "row": whole, "version": whole, "intervention": whole.to(torch.uint8)}


def test_satisfies_the_protocol_and_declares_its_views(make: Any) -> None:
    learner = make()
    assert isinstance(learner, Learner)
    assert all(isinstance(view, (ReplayView, WindowSpec)) for view in learner.views.values())


def test_an_update_changes_what_acts_and_reports_finite_metrics(make: Any) -> None:
    learner = make()
    before = {name: value.clone() for name, value in learner.acting_state().items()}
    metrics = learner.update(batches(learner, groups=2))
    assert metrics
    assert all(np.isfinite(value) for value in metrics.values())
    after = learner.acting_state()
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_restored_learner_continues_bit_for_bit(make: Any) -> None:
    first = make()
    first.update(batches(first, groups=2))
    second = make()
    second.load_state_dict(first.state_dict())
    for learner in (first, second):
        learner.update(batches(learner, groups=1, seed=1))
    for name, value in first.acting_state().items():
        assert torch.equal(value, second.acting_state()[name]), name


def test_what_acts_is_a_copy(make: Any) -> None:
    """A published version must not change under whoever acts with it."""
    learner = make()
    published = learner.acting_state()
    kept = {name: value.clone() for name, value in published.items()}
    learner.update(batches(learner, groups=1))
    assert all(torch.equal(published[name], kept[name]) for name in kept)
