"""Demonstrations over the bridge, a policy of them that is deployed over it, a session that goes on from there: the
short form of tests.benchmarks.bridge_deploy and bridge_session, which hold what comes of it against bounds."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from robot_rl.apps.environment import closing, load_policy, make_env
from robot_rl.apps.main import compose, run_command
from robot_rl.data.store import EpisodeStore
from robot_rl.learning.checkpoint import find_checkpoint, read_manifest
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.runtime.evaluation import FIRST_SEED, evaluate
from robot_rl.types import Phase
from tests.processes.robot_rl_processes import children
from tests.ros.running_arm import RunningArm, operated, running_arm
from tests.runtime.counting import Tape

pytestmark = pytest.mark.timeout(300)  # only bounds a hang
SMALL = ["policy.network.width=32", "policy.network.blocks=1", "steps=40", "batch=32"]


@pytest.fixture(scope="module")
def arm() -> Iterator[RunningArm]:
    with running_arm() as arm:
        yield arm


@pytest.fixture(scope="module")
def root(arm: RunningArm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With three demonstrations of the scripted expert over the bridge, and a policy that has seen them."""
    root = tmp_path_factory.mktemp("root")
    where = f"root={root}"
    with operated(arm) as operator:  # on a machine under load a stream may fall silent: it goes on where it stopped
        operator.beside(lambda: run_command("record", ["task=lift", "name=demos", "episodes=3", where, *arm.words]))
    words = ["algorithm=diffusion", "task=lift", "data=demos", "name=seen", where, "evaluate_every=0"]
    run_command("train", [*words, *SMALL])
    return root


def test_demonstrations_over_the_bridge_are_whole(root: Path) -> None:
    store = EpisodeStore.open(root / "data" / "demos")
    assert not store.verify()
    for info in store.infos():
        assert info.success
        arrays = store.read(info.id).arrays
        acted = arrays["flags/phase"][:-1]
        assert set(acted.tolist()) <= {Phase.SCRIPTED, Phase.HOLD}  # a late first command is a hold
        assert arrays["action_valid"][:-1].mean() > 0.5  # of a machine under load too
        assert (np.diff(arrays["time/t_ns"]) > 0).all()
        assert {"obs/object/cube_pose", "obs/arm0/tcp_pose", "action/executed"} <= arrays.keys()
        assert arrays["obs/object/cube_pose"][-1, 2] > arrays["obs/object/cube_pose"][0, 2] + 0.04  # lifted


def test_it_is_deployed_and_every_cycle_is_logged(root: Path, arm: RunningArm) -> None:
    words = [f"checkpoint={root / 'runs' / 'seen'}", "name=deployed", f"root={root}", "episodes=2", "speed=1"]
    run_command("deploy", [*words, "confirm=none", "env.max_steps=15", "least_disk_gb=0.1", *arm.words])
    store = EpisodeStore.open(root / "runs" / "deployed" / "store")
    assert not store.verify()
    infos = store.infos()
    assert [info.metadata["seed"] for info in infos] == [FIRST_SEED, FIRST_SEED + 1]
    lengths = [info.length for info in infos]  # a machine under load misses steps
    assert max(lengths) <= 15 and min(lengths) > 10
    with (root / "runs" / "deployed" / "cycles.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == sum(lengths)
    with BridgeRobot(arm.address) as robot:
        assert robot.read().mode.startswith("stopped")


def test_a_checkpoint_starts_over_the_bridge_as_it_does_in_process(root: Path, arm: RunningArm) -> None:
    """The same code, the same start, the same noise: what is seen agrees to the simulated arm's rest, and so does what
    is planned on it."""
    tapes: dict[str, Tape] = {}
    for name, words in (("bridge", arm.words), ("in process", ["robot=sim_panda"])):
        env = make_env(compose("evaluate", ["task=lift", "checkpoint=seen", "env.max_steps=4", *words]).env)
        with closing(env):
            policy = load_policy(str(find_checkpoint(root / "runs" / "seen")), env.spec, [], {})
            tapes[name] = Tape()
            evaluate(env, policy, [FIRST_SEED + 5], listeners=[tapes[name]])
    here, there = (tapes[name].rows[0].observation for name in ("in process", "bridge"))
    assert here.state.keys() == there.state.keys()
    for key in ("arm0/tcp_pose", "object/cube_pose", "arm0/gripper_opening"):
        np.testing.assert_allclose(there.state[key], here.state[key], atol=5e-3, err_msg=key)
    plans = [tapes[name].decisions[0].planned for name in ("bridge", "in process")]
    np.testing.assert_allclose(plans[0], plans[1], atol=0.02)


def test_a_session_around_it_learns_over_the_bridge_and_ends_by_itself(root: Path, arm: RunningArm) -> None:
    before, run = set(children(os.getpid())), root / "runs" / "better"
    words = ["algorithm=residual", f"base={root / 'runs' / 'seen'}", "task=lift", "demos=demos", "name=better"]
    words += ["steps=120", "start=40", "batch=32", "update_ratio=1", "evaluate_every=0"]
    words += ["algorithm.actor_start=10", "policy.hidden=[16]", "policy.critic.hidden=[16]", "env.max_steps=30"]
    run_command("session", [*words, "confirm=none", "log_every=20", f"root={root}", *arm.words])
    manifest, store = read_manifest(find_checkpoint(run)), EpisodeStore.open(run / "store")
    assert manifest["step"] >= 120
    assert 0.5 * (manifest["step"] - 200) <= manifest["updates"] <= manifest["step"]
    assert manifest["updates"] > 0
    assert not store.verify()
    episodes = [store.read(info.id).arrays for info in store.infos()]
    committed = sum(len(arrays["time/t_ns"]) - 1 for arrays in episodes)
    assert committed >= manifest["step"] - 30  # it has enough in the midst of an episode
    assert max(arrays["policy/version"].max() for arrays in episodes) > 0  # what was learnt acted
    assert all(np.abs(arrays["policy/base_action"][:-1]).max() > 0.0 for arrays in episodes)
    assert len(list((run / "actor" / "episodes").iterdir())) <= 1  # the learner has the others
    assert set(children(os.getpid())) <= before
    with BridgeRobot(arm.address) as robot:
        assert robot.read().mode.startswith("stopped")
