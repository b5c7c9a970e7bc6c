"""Franka Panda with its own gripper."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import mujoco

from sim.arms.arm import Arm
from sim.arms.robosuite_assets import GRIPPER, robosuite_model, with_gripper

_HAND = "right_hand"
_TIPS = (("left", "open", 0.053), ("right", "open", -0.053), ("left", "closed", 0.013), ("right", "closed", -0.013))


def panda() -> Arm:
    """Seven joints; the fingers open 8 cm. At home the TCP is at (0.48, 0, 0.20) m."""
    return Arm(
        name="panda",
        load=_load,
        joints=tuple(f"joint{i}" for i in range(1, 8)),
        hand_body=_HAND,
        tcp_body=f"{GRIPPER}eef",
        tcp_quat_wxyz=(0.70710678, 0.0, 0.0, 0.70710678),
        fingers=(f"{GRIPPER}finger_joint1", f"{GRIPPER}finger_joint2"),
        finger_open=(0.04, -0.04),
        finger_closed=(0.0, 0.0),
        pads=(f"{GRIPPER}finger1_pad_collision", f"{GRIPPER}finger2_pad_collision"),
        home_rad=(0.0, 0.00762964, 0.0, -2.44792045, 0.0, 2.45555009, 0.7853981633974483),
        joint_lower_rad=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
        joint_upper_rad=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
        joint_speed_rad_s=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
        torque_n_m=(80.0, 80.0, 80.0, 80.0, 80.0, 12.0, 12.0),
        box_lower_m=(0.2, -0.6, 0.0),
        box_upper_m=(0.8, 0.6, 0.8),
        spheres={
            **{f"tip_{side}_{at}": (0.0, y, -0.003, 0.0125) for side, at, y in _TIPS},
            "hand_left": (0.0, 0.05, -0.077, 0.077),
            "hand_right": (0.0, -0.05, -0.077, 0.077),
        },
    )


def _load() -> mujoco.MjSpec:
    gripper = robosuite_model("grippers/panda_gripper.xml")
    for name in ("finger_joint1", "finger_joint2"):
        gripper.joint(name).frictionloss = 0.0
    return with_gripper(robosuite_model("robots/panda/robot.xml"), _HAND, gripper)
