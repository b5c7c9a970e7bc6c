"""Record demonstrations as episodes, and with mcap the raw streams beside them.

ros2 launch robot_rl_bringup record.launch.py name:=lift_human device:=spacemouse episodes:=20 python:=.venv/bin/python
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import LaunchDescription

from robot_rl_bringup.actions import Values, arm, bridged, command, described, node
from robot_rl_bringup.arguments import EPISODES, MCAP, NAME, OPTIONS, PYTHON, SERVED, TELEOP

FOLDER = Path(__file__).resolve().parents[1]


def start(values: Values) -> list[Any]:
    words = [f"teleop={values['device']}", f"name={values['name']}", f"episodes={values['episodes']}"]
    actions = [*arm(values, FOLDER), command(values, "record", f"task={values['task']}", *bridged(values), *words)]
    if values["mcap"]:
        actions.append(node(values, "recorder", folder=values["mcap"]))
    return actions


def generate_launch_description() -> LaunchDescription:
    return described((*SERVED, NAME, EPISODES, TELEOP, MCAP, PYTHON, OPTIONS), start)
