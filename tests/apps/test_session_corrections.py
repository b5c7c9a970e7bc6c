"""Residuals and edits as a user learns them: around a base, in a session that may be halted, composed with others."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.frozen import Frozen
from robot_rl.apps.main import main
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    load_training_state,
    read_config,
    read_manifest,
)
from robot_rl.learning.training_run import read_rows
from robot_rl.types import Array
from tests.apps.fake_lift import ARM, make_root

SMALL = ["policy.hidden=[16]", "policy.critic.hidden=[16]", "algorithm.actor_start=20", "batch=16", "seed=3"]
SESSION = ["session", *ARM, *SMALL, "demos=lift", "steps=60", "start=10", "update_ratio=1.0", "draw_successes=true"]
OFTEN = ["log_every=20", "diagnose_every=40", "evaluate_every=30", "evaluate_episodes=1", "checkpoint_every=20"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("root"))


def learn(root: Path, name: str, *words: str) -> Path:
    assert main([*SESSION, *OFTEN, f"root={root}", f"name={name}", f"base={root}/runs/base", *words]) == 0
    return root / "runs" / name


def extras(run: Path, name: str) -> list[Array]:
    store = EpisodeStore.open(run / "store")
    return [store.read(id).arrays[f"policy/{name}"] for id in store.ids()]


@pytest.mark.parametrize("algorithm", ["residual", "expo"])
def test_a_session_that_was_halted_goes_on_to_the_same_numbers_and_leaves_the_base_alone(
    root: Path, algorithm: str
) -> None:
    before = Frozen(str(root / "runs" / "base")).sha256
    run = learn(root, f"{algorithm}_whole", f"algorithm={algorithm}")
    learn(root, f"{algorithm}_halted", f"algorithm={algorithm}", "steps=20")
    halted = learn(root, f"{algorithm}_halted", f"algorithm={algorithm}", "resume=true")
    (whole, _), (resumed, _) = load_training_state(run), load_training_state(halted)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    for one, other in zip(extras(run, "arm"), extras(halted, "arm"), strict=True):
        np.testing.assert_array_equal(one, other)
    named = read_config(find_checkpoint(run))["base"]
    assert named["sha256"] == before == Frozen(named["checkpoint"]).sha256
    assert not any("network" in name for name in whole if name.startswith("policy."))  # the denoiser is not in there
    policy = load_checkpoint(run)
    assert not policy.arms.handed  # three episodes prove nothing
    evaluated = read_rows(run / "evaluations.jsonl")
    assert evaluated and all({"success", "success_open"} <= row.keys() for row in evaluated)


def test_the_bases_actions_are_beside_every_step_and_every_demonstration(root: Path) -> None:
    run = root / "runs" / "residual_whole"
    store = EpisodeStore.open(run / "store")
    for id, base, arm in zip(store.ids(), extras(run, "base_action"), extras(run, "arm"), strict=True):
        commanded = store.read(id).arrays["action/commanded"]
        assert len(base) == len(commanded) and np.abs(base[-1]).max() > 0.0  # the final row, too
        limits = np.array([0.025, 0.025, 0.025, 1.0])
        kept = base[:-1].clip([-0.025, -0.025, -0.025, 0.0], limits)
        moved = np.abs(commanded[:-1] - kept)
        assert (moved <= 0.3 * limits + 1e-6).all() and moved[:, 3].max() < 1e-6  # never the gripper
        if not arm.any():
            assert moved.max() < 1e-6
    folders = list((root / "data" / "lift" / "shadows").iterdir())
    shadows = next(one for one in folders if "base_action" in np.load(next(one.iterdir())).files)
    demos = EpisodeStore.open(root / "data" / "lift")
    for id in demos.ids():
        assert np.load(shadows / f"{id}.npz")["base_action"].shape == (demos.read(id).rows, 4)


def test_a_residual_may_be_around_what_acts_around_the_base(root: Path) -> None:
    around = ["+policy@policy.base.around=warm_started", "policy.base.around.timesteps=[1,0]"]
    run = learn(root, "warm", "algorithm=residual", *around, "steps=20", "evaluate_every=0")
    policy = load_checkpoint(run)
    assert type(policy.base.policy).__name__ == "WarmStarted" and policy.base.unchanged


def test_what_is_learnt_is_evaluated_like_any_checkpoint_and_with_its_gate_forced_open(root: Path) -> None:
    words = ["evaluate", *ARM, f"checkpoint={root}/runs/residual_whole", f"root={root}", "episodes=1", "videos=0"]
    assert main(words) == 0
    assert main([*words, "+changes.forced_open=true"]) == 0


def test_a_base_goes_on_imitating_the_successes_of_a_session_in_a_run_of_its_own(root: Path) -> None:
    """Beginning with its weights and statistics; one gradient step of rate 0 leaves them as they were."""
    session = root / "runs" / "imitated"
    shutil.copytree(root / "runs" / "residual_whole" / "store", session / "store")
    store = EpisodeStore.open(session / "store")
    store.annotate(store.ids()[1], success=True, who="test")
    words = ["train", "algorithm=diffusion", "data=imitated", f"root={root}", f"base={root}/runs/base", "batch=4"]
    assert main([*words, "name=still", "steps=1", "algorithm.learning_rate=0.0"]) == 0
    assert main([*words, "name=further", "steps=3"]) == 0
    before = load_checkpoint(root / "runs" / "base")
    assert load_checkpoint(root / "runs" / "still").sha256() == before.sha256()
    further = load_checkpoint(root / "runs" / "further")
    assert further.sha256() != before.sha256() and further.normalizer.sha256() == before.normalizer.sha256()
    assert read_manifest(find_checkpoint(root / "runs" / "further"))["data"]["episodes"] == 1


@pytest.mark.parametrize("algorithm", ["residual", "expo"])
def test_demonstrations_are_learnt_from_offline(root: Path, algorithm: str) -> None:
    words = ["train", "task=lift", "data=lift", f"root={root}", f"base={root}/runs/base", f"name={algorithm}_offline"]
    assert main([*words, f"algorithm={algorithm}", *SMALL, "steps=40", "group=2", "log_every=10"]) == 0
    assert load_checkpoint(root / "runs" / f"{algorithm}_offline").arms.handed  # nobody hands over
