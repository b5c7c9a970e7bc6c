"""Tasks of other simulators through the commands: recorded, trained on, evaluated, replayed."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import pytest

from robot_rl.apps.environment import env_config
from robot_rl.apps.main import compose, main
from robot_rl.errors import ConfigError
from robot_rl.learning.checkpoint import find_checkpoint, read_spec
from tests.shared_data import shared_data

SMALL = [
    "steps=2",
    "batch=8",
    "policy.network.width=32",
    "policy.network.blocks=1",
    "policy.horizon=4",
    "policy.execute=2",
]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    return tmp_path


def evaluation(run: Path) -> dict[str, object]:
    (report,) = (run / "evaluation").glob("*.json")
    return json.loads(report.read_text())


def test_a_gymnasium_environment_goes_the_whole_way(root: Path) -> None:
    task = ["task=gymnasium", "env.id=MountainCarContinuous-v0", "env.max_steps=20"]
    assert main(["record", *task, "teleop=random", "episodes=2", "keep_failures=true", "name=car"]) == 0
    assert main(["train", *task, "data=car", *SMALL, "evaluate_every=2", "evaluate_episodes=2"]) == 0
    run = root / "runs" / "car-seed0"
    assert main(["evaluate", f"checkpoint={run}", *task, "episodes=2", "batch=2", "videos=0"]) == 0
    report = evaluation(run)
    assert report["task"] == "MountainCarContinuous-v0"
    assert main(["evaluate", f"checkpoint={run}", "episodes=1", "videos=0", "name=again"]) == 0  # it knows its env
    (again,) = (root / "runs" / "again").glob("*.json")
    assert json.loads(again.read_text())["task"] == "MountainCarContinuous-v0"
    with pytest.raises(ConfigError, match="no task option is called 'MountainCarContinuous-v0'"):
        env_config(compose("evaluate", [f"checkpoint={run}"]), "evaluate", "MountainCarContinuous-v0")


def beginning_of(source: Path, target: Path, steps: int) -> Path:
    """The first steps of one human demonstration, as a file: to replay 1384 states takes its time."""
    with h5py.File(source) as whole, h5py.File(target, "w") as part:
        data = part.create_group("data")
        data.attrs.update(whole["data"].attrs)
        demo = data.create_group("demo_3")
        demo.attrs.update(whole["data/demo_3"].attrs)
        for name in ("states", "actions"):
            demo[name] = whole[f"data/demo_3/{name}"][:steps]
    return target


def test_human_demonstrations_of_robosuite_train_a_policy_that_runs_there(root: Path) -> None:
    """The data name the task option that they fit."""
    whole = shared_data("robosuite_human") / "v1.4.1" / "lift" / "demo.hdf5"
    source = beginning_of(whole, root / "demo.hdf5", steps=60)
    assert main(["dataset", "import", "format=robosuite_demos", f"source={source}", "name=human"]) == 0
    assert main(["train", "data=human", *SMALL]) == 0
    run = root / "runs" / "human-seed0"
    task = f"task={read_spec(find_checkpoint(run)).task}"
    short = [task, "env.max_steps=5", "env.hard_reset=false", "episodes=1", "batch=1", "videos=0"]
    assert main(["evaluate", f"checkpoint={run}", *short]) == 0
    assert evaluation(run)["task"] == "robosuite_lift"
