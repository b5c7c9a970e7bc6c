"""Launch files: what they start, checked without a ROS installation, and run for real."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from robot_rl_bridge.arm_description import load_arm
from tests.ros.launch_stand_in import LAUNCH, DeclareLaunchArgument, Started, description, executed, installed

FILES = sorted(path.name for path in LAUNCH.glob("*.launch.py"))
FIXED_FRAME = yaml.safe_load((LAUNCH.parent / "rviz" / "arm.rviz").read_text())["Visualization Manager"][
    "Global Options"
]["Fixed Frame"]
GIVEN = {"name": "lift_human", "demos": "lift_human", "checkpoint": "runs/lift"}  # arguments without a default


def declared(file: str) -> dict[str, DeclareLaunchArgument]:
    with installed():
        return {e.name: e for e in description(file).entities if isinstance(e, DeclareLaunchArgument)}


def started(file: str, folder: Path, **arguments: str) -> dict[str, Started]:
    needed = {name: value for name, value in GIVEN.items() if name in declared(file)}
    return {process.name: process for process in executed(file, needed | arguments, folder).started}


def parameters(process: Started) -> dict[str, Any]:
    """What a node is given by its files."""
    files = [
        word for before, word in zip(process.command, process.command[1:], strict=False) if before == "--params-file"
    ]
    return {k: v for file in files for k, v in yaml.safe_load(Path(file).read_text())["/**"]["ros__parameters"].items()}


def test_there_is_a_launch_file_for_every_job() -> None:
    assert {"calibrate", "deploy", "record", "sim", "teleop", "train"} == {name.split(".")[0] for name in FILES}


@pytest.mark.parametrize("file", FILES)
def test_every_argument_is_described(file: str) -> None:
    for argument in declared(file).values():
        assert argument.description and len(argument.description) > 5, argument.name
        if argument.choices and argument.default_value is not None:
            assert argument.default_value in argument.choices


@pytest.mark.parametrize("file", FILES)
def test_the_example_in_a_launch_file_works(file: str, tmp_path: Path) -> None:
    example = re.search(rf"ros2 launch robot_rl_bringup {re.escape(file)}(.*)", (LAUNCH / file).read_text())
    assert example is not None
    assert executed(file, dict(word.split(":=", 1) for word in example[1].split()), tmp_path).started


def cases() -> list[tuple[str, str, str]]:
    """Every choice of every argument, and a value for those that are free."""
    return [
        (file, argument.name, value)
        for file in FILES
        for argument in declared(file).values()
        for value in (argument.choices or ["7" if argument.name in ("episodes", "steps") else f"some_{argument.name}"])
    ]


@pytest.mark.parametrize(("file", "name", "value"), cases())
def test_every_argument_reaches_something(file: str, name: str, value: str, tmp_path: Path) -> None:
    """Whatever differs from the default changes what is started, and whatever is started is one of our nodes or of our
    commands, with parameters that it declares."""
    (tmp_path / "default").mkdir()
    before, after = started(file, tmp_path / "default"), started(file, tmp_path, **{name: value})
    if value not in (declared(file)[name].default_value, GIVEN.get(name)):
        assert shown(before) != shown(after)
    for process in after.values():
        check(process)


def shown(processes: dict[str, Started]) -> list[Any]:
    return [
        ([w for w in p.command if not w.endswith(".yaml")], dict(p.environment), parameters(p))
        for p in processes.values()
    ]


def check(process: Started) -> None:
    if process.name == "rviz2":
        assert Path(process.command[process.command.index("-d") + 1]).is_file()
        return
    if process.name == "static_transform_publisher":
        assert process.command[process.command.index("--child-frame-id") + 1] == FIXED_FRAME
        return
    assert process.ends_all, f"{process.name} may end without the others"
    if process.name.startswith("robot-rl "):
        check_command(process)
        return
    module = importlib.import_module(f"robot_rl_bridge.{process.name}")
    table = {entry.name: entry for entry in module.PARAMETERS}
    for name, value in parameters(process).items():
        assert name in table, f"{process.name} declares no parameter '{name}'"
        assert type(value) is type(table[name].default), f"{process.name}: {name} is {value!r}"


def check_command(process: Started) -> None:
    """In the Python that was asked for, without what belongs to the Python of ROS."""
    words = process.command
    assert words[0] == "env"
    assert {"PYTHONPATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"} <= set(words)
    assert words[words.index("-m") + 1] == "robot_rl_bringup.command"
    from robot_rl.apps.main import COMMANDS

    assert words[words.index("-m") + 2] in COMMANDS


@pytest.mark.parametrize("file", FILES)
def test_commands_take_the_words_they_are_given(file: str, tmp_path: Path) -> None:
    from robot_rl.apps.main import compose

    for process in started(file, tmp_path).values():
        if process.name.startswith("robot-rl "):
            name, *words = process.command[process.command.index("-m") + 2 :]
            if "=" not in words[0]:
                words[0] = f"procedure={words[0]}"  # as the command itself reads it
            assert "BridgeRobot" in str(compose(name, words))


@pytest.mark.parametrize("file", FILES)
def test_a_value_that_is_no_choice_is_refused(file: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="arm"):
        started(file, tmp_path, arm="toaster")


@pytest.mark.parametrize("file", [file for file in FILES if GIVEN.keys() & declared(file).keys()])
def test_what_has_no_default_must_be_given(file: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Required"):
        executed(file, {}, tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_only_this_machine_finds_the_nodes_unless_asked_and_warned(file: str, tmp_path: Path) -> None:
    needed = {name: value for name, value in GIVEN.items() if name in declared(file)}
    quiet = executed(file, needed, tmp_path)
    assert not quiet.said
    assert all(process.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST" for process in quiet.started)
    wide = executed(file, {**needed, "discovery": "SUBNET"}, tmp_path)
    assert any("WARNING" in text for text in wide.said)
    assert all(process.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET" for process in wide.started)


def test_a_real_arm_gets_a_bridge_that_waits_to_be_activated(tmp_path: Path) -> None:
    real = started("sim.launch.py", tmp_path, arm="fr3")
    assert list(real) == ["bridge"]
    assert parameters(real["bridge"])["auto_activate"] is False
    simulated = started("sim.launch.py", tmp_path)
    assert list(simulated) == ["sim_robot", "bridge"]
    assert parameters(simulated["bridge"])["auto_activate"] is True


def test_a_description_of_ones_own_is_an_arm(tmp_path: Path) -> None:
    ours = started("sim.launch.py", tmp_path, arm_file="/lab/arm.yaml")
    assert list(ours) == ["bridge"]
    assert parameters(ours["bridge"])["arm"] == "/lab/arm.yaml"


def test_commands_run_in_the_python_that_is_named(tmp_path: Path) -> None:
    process = started("deploy.launch.py", tmp_path, python="/opt/torch/bin/python", options="seed=3 'note=a b'")
    words = process["robot-rl deploy"].command
    assert words[:6] == ["env", "-u", "PYTHONPATH", "-u", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "/opt/torch/bin/python"]
    assert words[-2:] == ["seed=3", "note=a b"]


@pytest.mark.parametrize("original", ["launch.actions", "launch_ros.actions"])
def test_the_stand_in_takes_what_the_originals_take(original: str) -> None:
    """Only where a ROS installation is there to compare with."""
    real = pytest.importorskip(original, reason="launch is not on PyPI: runs beside a ROS installation")
    with installed():
        parts = vars(sys.modules[original]).copy()
    for name, part in parts.items():
        if inspect.isclass(part):
            theirs = inspect.signature(getattr(real, name).__init__).parameters
            takes_more = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in theirs.values())
            assert takes_more or inspect.signature(part.__init__).parameters.keys() <= theirs.keys()


def test_rviz_has_a_fixed_frame_that_somebody_tells_of(tmp_path: Path) -> None:
    """A simulated arm has no driver that does; what its bridge publishes is in that frame."""
    assert "static_transform_publisher" in started("sim.launch.py", tmp_path, rviz="true")
    assert load_arm("sim_panda").command.frame == FIXED_FRAME
    assert "static_transform_publisher" not in started("sim.launch.py", tmp_path, rviz="true", arm="fr3")
