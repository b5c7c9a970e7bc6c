"""Kinematics of a described arm, from the same chain that its bridge computes with. Needs no ROS."""

from __future__ import annotations

from controllers.arm_kinematics import ArmKinematics
from robot_rl_bridge.arm_description import load_arm


def described_kinematics(arm: str) -> ArmKinematics:
    """Of the arm in a file, or of that name in $ROBOT_RL_SITE or robot_rl_bringup. Raises ConfigError."""
    description = load_arm(arm)
    return ArmKinematics(description.chain, description.home_rad)
