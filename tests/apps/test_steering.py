"""Learning around a base as a user runs it: in a session, offline, and over a base that another process serves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.frozen import Frozen
from policies.served import SamplerServer
from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_training_state,
    read_config,
    save_checkpoint,
)
from robot_rl.types import ActContext
from tests.apps.fake_lift import ARM, make_root

SMALL = ["policy.hidden=[16]", "policy.critic.hidden=[16]", "algorithm.actor_start=0", "batch=16", "seed=3"]
SESSION = ["session", *ARM, *SMALL, "demos=lift", "steps=60", "start=10", "group=10", "update_ratio=2.5"]
OFTEN = ["log_every=20", "diagnose_every=0", "evaluate_every=30", "evaluate_episodes=2", "checkpoint_every=20"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("root"))


def learn(root: Path, name: str, *words: str) -> Path:
    assert main([*SESSION, *OFTEN, f"root={root}", f"name={name}", f"base={root}/runs/base", *words]) == 0
    return root / "runs" / name


def test_a_session_steers_and_leaves_the_base_as_it_was(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Frozen(str(root / "runs" / "base")).sha256
    run = learn(root, "steered", "algorithm=dsrl")
    assert "prior within reach" in capsys.readouterr().out
    assert set(json.loads((run / "start.json").read_text())) == {"prior", "prior within reach", "w = 0"}
    named = read_config(find_checkpoint(run))["base"]
    assert named["sha256"] == before == Frozen(named["checkpoint"]).sha256
    assert Path(named["checkpoint"]) == (root / "runs" / "base").resolve()
    store = EpisodeStore.open(run / "store")
    arrays = [store.read(id).arrays for id in store.ids()]
    assert arrays[0]["decision/noise"].shape[1:] == (4, 4)
    assert {int(value) for episode in arrays for value in np.unique(episode["policy/arm"])} <= {0, 1, 2}
    policy = load_checkpoint(run)
    assert not policy.arms.handed  # three episodes prove nothing: it is the base that would be deployed
    window = {key: np.zeros((1, 1, *value.shape), value.dtype) for key, value in policy.spec.observation.items()}
    own = load_checkpoint(root / "runs" / "base")
    for one in (policy, own):
        one.reset(np.array([0]), np.array([5]))
    np.testing.assert_array_equal(
        policy.act(window, ActContext.start(1)).actions, own.act(window, ActContext.start(1)).actions
    )


def test_two_sessions_of_a_seed_are_equal_also_when_one_was_halted(root: Path) -> None:
    whole = load_training_state(learn(root, "whole", "algorithm=dsrl"))[0]
    learn(root, "halted", "algorithm=dsrl", "steps=20")
    resumed = load_training_state(learn(root, "halted", "algorithm=dsrl", "resume=true"))[0]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_served_base_is_steered_by_critics_of_noise(root: Path) -> None:
    """What it is served under is a checkpoint as any other; the store is learnt from without asking it."""
    held = root / "runs" / "base"
    base = load_checkpoint(held)
    with SamplerServer(base) as server:
        config = {"_target_": "policies.remote.RemotePolicy", "address": server.address, "sha256": base.sha256()}
        save_checkpoint(root / "runs" / "served", weights={}, config=config, env_spec=base.env_spec)
        run = learn(root, "remote", "algorithm=dsrl_sac", f"base={root}/runs/served", "evaluate_every=0", "steps=40")
        assert read_config(find_checkpoint(run))["base"]["sha256"] == base.sha256()
        assert load_checkpoint(run).base.unchanged


def test_demonstrations_are_learnt_from_offline(root: Path) -> None:
    words = ["train", "task=lift", "data=lift", f"root={root}", f"base={root}/runs/base", "name=offline", *SMALL]
    words += ["steps=20", "group=10", "log_every=10"]
    assert main([*words, "algorithm=dsrl"]) == 0
    policy = load_checkpoint(root / "runs" / "offline")
    assert policy.arms.handed  # nobody hands over
    assert main([*words, "algorithm=dsrl_sac", "name=none"]) == 2


def test_an_algorithm_around_a_base_wants_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SESSION, "algorithm=dsrl", f"root={root}", "name=nothing"]) == 2
    assert "base=runs/<run of the base>" in capsys.readouterr().err
