"""Move an arm by hand; nothing is recorded unless mcap names a folder.

ros2 launch robot_rl_bringup teleop.launch.py device:=spacemouse
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import LaunchDescription

from robot_rl_bringup.actions import Values, arm, described, node
from robot_rl_bringup.arguments import DEVICE, MCAP, PATH, SERVED

FOLDER = Path(__file__).resolve().parents[1]


def start(values: Values) -> list[Any]:
    actions = [*arm(values, FOLDER), node(values, "teleop", device=values["device"], path=values["path"])]
    if values["mcap"]:
        actions.append(node(values, "recorder", folder=values["mcap"]))
    return actions


def generate_launch_description() -> LaunchDescription:
    return described((*SERVED, DEVICE, PATH, MCAP), start)
