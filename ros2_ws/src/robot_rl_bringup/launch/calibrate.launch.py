"""Calibrate a camera of an arm, moving it to see a board from many sides.

ros2 launch robot_rl_bringup calibrate.launch.py what:=hand_eye camera:=wrist python:=.venv/bin/python
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import LaunchDescription

from robot_rl_bringup.actions import Values, arm, bridged, command, described
from robot_rl_bringup.arguments import OPTIONS, PYTHON, SERVED, Argument

FOLDER = Path(__file__).resolve().parents[1]
WHAT = Argument("what", "hand_eye", "what is found out", ("intrinsics", "hand_eye", "time_offset"))
CAMERA = Argument("camera", "wrist", "which camera of the arm's description")


def start(values: Values) -> list[Any]:
    words = [values["what"], *bridged(values), f"camera={values['camera']}"]
    return [*arm(values, FOLDER), command(values, "calibrate", *words)]


def generate_launch_description() -> LaunchDescription:
    return described((*SERVED, WHAT, CAMERA, PYTHON, OPTIONS), start)
