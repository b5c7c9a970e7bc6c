"""Calibrate an arm and its cameras, the arm moving itself to see a board from many sides.

ros2 launch robot_rl_bringup calibrate.launch.py what:=hand_eye python:=.venv/bin/python
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import LaunchDescription

from robot_rl_bringup.actions import Values, arm, bridged, command, described
from robot_rl_bringup.arguments import OPTIONS, PYTHON, SERVED, Argument

FOLDER = Path(__file__).resolve().parents[1]
WHAT = Argument("what", "hand_eye", "what is found out", ("camera", "hand_eye", "time", "joints", "tool"))


def start(values: Values) -> list[Any]:
    return [*arm(values, FOLDER), command(values, "calibrate", values["what"], *bridged(values))]


def generate_launch_description() -> LaunchDescription:
    return described((*SERVED, WHAT, PYTHON, OPTIONS), start)
