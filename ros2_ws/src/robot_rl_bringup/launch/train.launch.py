"""Reinforcement learning on an arm: actor and learner beside the bridge, a person may help.

ros2 launch robot_rl_bringup train.launch.py demos:=lift_human device:=spacemouse python:=.venv/bin/python
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from launch import LaunchDescription

from robot_rl_bringup.actions import Values, arm, bridged, command, described
from robot_rl_bringup.arguments import OPTIONS, PYTHON, SERVED, TELEOP, Argument

FOLDER = Path(__file__).resolve().parents[1]
DEMOS = Argument("demos", None, "dataset of demonstrations to start from")
STEPS = Argument("steps", "6000", "control steps of the session")
HELPED = replace(
    TELEOP,
    default="none",
    description="who helps",
    choices=("none", "keyboard", "gamepad", "spacemouse", "scripted_human"),
)


def start(values: Values) -> list[Any]:
    words = ["mode=processes", f"demos={values['demos']}", f"steps={values['steps']}"]
    words += [f"teleop={values['device']}"] if values["device"] != "none" else []
    return [*arm(values, FOLDER), command(values, "session", f"task={values['task']}", *bridged(values), *words)]


def generate_launch_description() -> LaunchDescription:
    return described((*SERVED, DEMOS, STEPS, HELPED, PYTHON, OPTIONS), start)
