"""A simulated arm (or a real one whose driver runs) behind its bridge.

ros2 launch robot_rl_bringup sim.launch.py arm:=sim_panda task:=lift
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription

from robot_rl_bringup.actions import arm, described
from robot_rl_bringup.arguments import SERVED

FOLDER = Path(__file__).resolve().parents[1]


def generate_launch_description() -> LaunchDescription:
    return described(SERVED, lambda values: arm(values, FOLDER))
