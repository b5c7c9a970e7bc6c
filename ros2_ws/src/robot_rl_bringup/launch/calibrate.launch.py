"""Calibrate an arm and its cameras, the arm moving itself to see a board from many sides. A simulated arm has a camera
beside its hand and a board on its table.

ros2 launch robot_rl_bringup calibrate.launch.py what:=hand_eye python:=.venv/bin/python
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from launch import LaunchDescription

from robot_rl_bringup.actions import Values, arm, bridged, command, described
from robot_rl_bringup.arguments import CAMERAS, OBJECTS, OPTIONS, PYTHON, SERVED, Argument

FOLDER = Path(__file__).resolve().parents[1]
WHAT = Argument("what", "hand_eye", "what is found out", ("camera", "hand_eye", "time", "joints", "tool"))
ARGUMENTS = tuple(replace(each, default="") if each is OBJECTS else each for each in SERVED)
WRIST, WRIST_PX = "wrist", 480  # option of the group camera/, and its images


def start(values: Values) -> list[Any]:
    simulated = not values["arm_file"] and values["arm"].startswith("sim_")
    if simulated and values["cameras"] == CAMERAS.default:
        values = {**values, "cameras": WRIST}
    kinematics = ["kinematics=arm_file", f"kinematics.arm={values['arm_file'] or values['arm']}"]
    return [
        *arm(values, FOLDER, scene="board", camera=WRIST, image_px=WRIST_PX),
        command(values, "calibrate", values["what"], *bridged(values), *kinematics),
    ]


def generate_launch_description() -> LaunchDescription:
    return described((*ARGUMENTS, WHAT, PYTHON, OPTIONS), start)
