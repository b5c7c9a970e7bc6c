"""Options of the config groups, found by their files, and what they build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import robot_rl.conf
from robot_rl.apps.main import compose, instantiate

CONF = Path(robot_rl.conf.__file__).parent


def options(group: str) -> list[str]:
    """Names of the options of a config group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def build_robot(robot: str, *overrides: str) -> Any:
    """The robot of an option, in the scene of task reach."""
    return instantiate(compose("view", ["task=reach", f"robot={robot}", *overrides]).robot)


def build_env(task: str, *overrides: str) -> Any:
    """The env of a task with its defaults."""
    return instantiate(compose("view", [f"task={task}", *overrides]).env)
