"""Kinematics of a simulated arm, from its own model."""

from __future__ import annotations

from controllers.arm_kinematics import ArmKinematics
from sim.arms.arm import Arm
from sim.arms.panda import panda
from sim.scene import Scene, arm_chain, build_scene


def simulated_kinematics(arm: Arm | None = None) -> ArmKinematics:
    """Of an arm, a Panda unless given."""
    arm = arm or panda()
    return ArmKinematics(arm_chain(build_scene(Scene(), arm)), arm.home_rad, arm.axes)
