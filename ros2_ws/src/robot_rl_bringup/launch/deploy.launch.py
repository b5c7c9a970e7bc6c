"""Run a trained policy on an arm, after the checks of `robot-rl deploy`.

ros2 launch robot_rl_bringup deploy.launch.py checkpoint:=runs/lift_human python:=.venv/bin/python
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import LaunchDescription

from robot_rl_bringup.actions import Values, arm, bridged, command, described, node
from robot_rl_bringup.arguments import CHECKPOINT, EPISODES, MCAP, OPTIONS, PYTHON, SERVED

FOLDER = Path(__file__).resolve().parents[1]


def start(values: Values) -> list[Any]:
    words = [f"checkpoint={values['checkpoint']}", f"episodes={values['episodes']}"]
    actions = [*arm(values, FOLDER), command(values, "deploy", f"task={values['task']}", *bridged(values), *words)]
    if values["mcap"]:
        actions.append(node(values, "recorder", folder=values["mcap"]))
    return actions


def generate_launch_description() -> LaunchDescription:
    return described((*SERVED, CHECKPOINT, EPISODES, MCAP, PYTHON, OPTIONS), start)
