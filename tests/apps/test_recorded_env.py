"""What a dataset was recorded in comes back without being named again: for replay, evaluation and viewing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from robot_rl.apps.environment import env_config
from robot_rl.apps.main import compose, main
from robot_rl.apps.recorded_env import env_of_training, rebuilt
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import ConfigError

TURNING = [
    "task=reach",
    "action=tcp_delta",
    "controller=cartesian_impedance_precise",
    "robot.step_rate_hz=10",
    "task.narrow=0.5",
]
SMALL = ["steps=2", "batch=4", "checkpoint_every=2", "policy.network.width=8", "policy.sampler.steps=2"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


def test_a_checkpoint_is_evaluated_in_the_env_of_its_demonstrations(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", *TURNING[:2], "teleop=random", "env.max_steps=20", "keep_failures=true", "episodes=1"]) == 0
    assert main(["replay", "data=reach"]) == 0
    assert main(["train", "data=reach", *SMALL]) == 0
    (run,) = (root / "runs").glob("reach*")
    capsys.readouterr()
    assert main(["evaluate", f"checkpoint={run}", "episodes=1", "videos=0"]) == 0
    (report,) = (run / "evaluation").glob("*.json")
    assert json.loads(report.read_text())["episodes"][0]["length"] <= 20
    assert main(["evaluate", f"checkpoint={run}", "task=reach", "episodes=1", "videos=0"]) == 2
    assert "was made for another env: action" in capsys.readouterr().err


def stored(overrides: list[str]) -> Any:
    """A store, as far as it is asked, whose one episode was recorded with ``overrides``."""
    env = env_of_training(compose("record", overrides))
    episode = SimpleNamespace(metadata={"config": {"env": env}})
    return SimpleNamespace(ids=lambda: ["one"], read=lambda id: episode, spec=SimpleNamespace(task="reach"))


def test_arm_and_action_are_those_of_the_demonstrations_and_starts_those_of_the_task() -> None:
    kept = env_of_training(compose("train", ["data=any"]), stored(TURNING))
    assert [part["kind"] for part in kept["action"]["parts"]] == ["tcp_delta", "gripper"]
    assert kept["robot"]["step_rate_hz"] == 10
    assert "CartesianImpedance" in kept["robot"]["gains"]["_target_"]
    assert kept["task"]["narrow"] == 1.0
    given = env_of_training(compose("train", ["data=any", "task=reach", "task.narrow=0.7"]), stored(TURNING))
    assert (given["task"]["narrow"], given["robot"]) == (0.7, kept["robot"])


def test_what_is_named_comes_before_what_is_stored() -> None:
    made_in = env_of_training(compose("record", TURNING))
    assert env_config(compose("replay", ["data=any"]), "replay", "reach", made_in).robot.step_rate_hz == 10
    named = compose("replay", ["data=any", "task=reach"])
    assert env_config(named, "replay", "reach", made_in).robot.step_rate_hz == 20
    assert env_config(compose("replay", ["data=any"]), "replay", "reach").robot.step_rate_hz == 20


def test_a_dataset_that_does_not_tell_leaves_it_to_the_task(tmp_path: Path) -> None:
    store = EpisodeStore.create(tmp_path / "empty")
    assert env_of_training(compose("train", ["data=any"]), store) == {}
    assert env_of_training(compose("train", ["data=any", "task=reach"]), store)["task"]["narrow"] == 1.0


def test_a_real_arm_moves_only_for_who_names_it() -> None:
    with pytest.raises(ConfigError, match=r"real robot.*task=... robot=") as told:
        rebuilt(env_of_training(compose("record", TURNING)), simulated=False, command="replay")
    assert "replay" in str(told.value)


@pytest.mark.parametrize("target", ["os.system", "sim.gymnasium_env.os.system", "robot_rl.apps.main.os", "sim.none.X"])
def test_a_stored_env_builds_nothing_but_our_parts(target: str) -> None:
    made_in = env_of_training(compose("record", TURNING))
    made_in["robot"]["arm"] = [{"_target_": target}]
    with pytest.raises(ConfigError, match=f"names '{target}'"):
        rebuilt(made_in, simulated=True, command="evaluate")
