"""Configuration: every option binds to its constructor, every app composes, mistakes end in one clear message."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import robot_rl.conf
from robot_rl.apps.main import COMMANDS, compose, main

CONF = Path(robot_rl.conf.__file__).parent
OPTIONS = sorted(path.relative_to(CONF).as_posix() for path in CONF.glob("*/**/*.yaml"))
APPS = sorted(path.stem for path in CONF.glob("*.yaml"))


def targets(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield node
        for child in node.values():
            yield from targets(child)
    elif isinstance(node, list):
        for child in node:
            yield from targets(child)


def locate(path: str) -> Any:
    """Module attribute, or attribute of a class in a module."""
    parts = path.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError as error:
            if error.name and not path.startswith(error.name):
                raise
            continue
        for part in parts[split:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"nothing named {path}")


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_binds_to_its_constructor(option: str) -> None:
    content = yaml.safe_load((CONF / option).read_text()) or {}
    for node in targets(content):
        arguments = {key: value for key, value in node.items() if not (key.startswith("_") and key.endswith("_"))}
        arguments.pop("defaults", None)  # Hydra's list of what is composed in
        signature = inspect.signature(locate(node["_target_"]))
        signature.bind_partial(*node.get("_args_", ()), **arguments)
        if not node.get("_partial_"):
            signature.bind(*node.get("_args_", ()), **arguments)


@pytest.mark.parametrize("app", APPS)
def test_every_app_composes_with_its_defaults(app: str) -> None:
    assert app in COMMANDS
    assert compose(app, []) is not None


def test_every_command_is_an_app_with_a_config() -> None:
    assert sorted(COMMANDS) == APPS
    for command in COMMANDS:
        assert callable(importlib.import_module(f"robot_rl.apps.{command}").run)


MISTAKES = {
    "key": (["evaluate", "episods=3"], "no configuration key 'episods'. Did you mean 'episodes'?"),
    "option": (["record", "task=lft"], "no task 'lft'. Did you mean 'lift'?"),
    "type": (["evaluate", "episodes=many", "checkpoint=nowhere"], "episodes"),
    "command": (["recrod"], "no command 'recrod'. Did you mean 'record'?"),
    "file": (["evaluate", "checkpoint=does/not/exist"], "does/not/exist"),
    "data": (["train", "task=lift", "data=no_such_data"], "no_such_data"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBOT_RL_ROOT", str(tmp_path))
    words, expected = MISTAKES[name]
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert expected in said
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1


def test_the_installed_command_prints_its_usage() -> None:
    command = [str(Path(sys.executable).with_name("robot-rl")), "--help"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert all(name in said for name in COMMANDS)
