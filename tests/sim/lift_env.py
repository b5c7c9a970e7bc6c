"""The lift task as a user gets it, by configuration."""

from __future__ import annotations

from robot_rl.apps.main import compose, instantiate
from robot_rl.runtime.env import RobotEnv
from robot_rl.teleop.scripted import ScriptedPolicy


def configured(task: str, *overrides: str) -> tuple[RobotEnv, ScriptedPolicy]:
    """Env and scripted expert of ``task``, composed as ``robot-rl record`` does it."""
    config = compose("record", [f"task={task}", *overrides])
    return instantiate(config.env), instantiate(config.teleop)
