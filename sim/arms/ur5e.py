"""Universal Robots UR5e with a Robotiq 2F-85."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import math

import mujoco
import numpy as np

from sim.arms.arm import Arm
from sim.arms.robosuite_assets import GRIPPER, robosuite_model, with_gripper

_HAND = "right_hand"
_DRIVEN = ("finger_joint", "right_outer_knuckle_joint")
_JOINTS = (
    "shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint", "wrist_1_joint", "wrist_2_joint", "wrist_3_joint"
)  # fmt: skip


def ur5e() -> Arm:
    """Six joints, elbow up; the pads open 8.5 cm. At home the TCP is at (0.48, 0, 0.20) m."""
    return Arm(
        name="ur5e",
        load=_load,
        joints=_JOINTS,
        hand_body=_HAND,
        tcp_body=f"{GRIPPER}eef",
        tcp_quat_wxyz=(0.70710678, 0.0, 0.0, -0.70710678),
        fingers=tuple(f"{GRIPPER}{name}" for name in _DRIVEN),
        finger_open=(0.0, 0.0),
        finger_closed=(0.8, 0.8),
        pads=(f"{GRIPPER}left_fingerpad_collision", f"{GRIPPER}right_fingerpad_collision"),
        home_rad=(-0.28292616, -1.5785257, 1.95739003, -1.94966066, -1.57079633, 1.28787017),
        joint_lower_rad=(-math.pi, -math.pi, 0.05, -1.5 * math.pi, -math.pi, -math.pi),
        joint_upper_rad=(math.pi, 0.0, 3.0, 0.5 * math.pi, 0.0, math.pi),
        joint_speed_rad_s=(math.pi,) * 6,
        torque_n_m=(150.0, 150.0, 150.0, 28.0, 28.0, 28.0),
        box_lower_m=(0.2, -0.6, 0.0),
        box_upper_m=(0.75, 0.6, 0.7),
        spheres={
            "tip_left_open": (0.0, 0.046, -0.0085, 0.0125),
            "tip_right_open": (0.0, -0.046, -0.0085, 0.0125),
            "tips_closed": (0.0, 0.0, 0.0055, 0.0125),
            "knuckle_left": (0.0, 0.05, -0.07, 0.045),
            "knuckle_right": (0.0, -0.05, -0.07, 0.045),
        },
    )


def _load() -> mujoco.MjSpec:
    return with_gripper(robosuite_model("robots/ur5e/robot.xml"), _HAND, _gripper())


def _gripper() -> mujoco.MjSpec:
    """robosuite's model couples the bars of a finger by weak springs, which lets the pads tilt around what they hold:
    here the linkage is rigid, the pads stay parallel and both sides close with a bounded force."""
    spec = robosuite_model("grippers/robotiq_gripper_85.xml")
    for tendon in list(spec.tendons):
        spec.delete(tendon)
    for driver, side in zip(_DRIVEN, ("left", "right"), strict=True):
        joint = spec.joint(driver)
        joint.armature, joint.damping = 0.005, np.array([0.2, 0.0, 0.0])
        for follower, ratio in ((f"{side}_inner_finger_joint", -1.0), (f"{side}_inner_knuckle_joint", 1.0)):
            spec.joint(follower).armature = 0.001
            spec.add_equality(
                type=mujoco.mjtEq.mjEQ_JOINT, name1=follower, name2=driver, solref=[0.004, 1.0],
                data=[0.0, ratio, *[0.0] * 9],
            )  # fmt: skip
    for actuator in spec.actuators:
        actuator.forcelimited, actuator.forcerange = True, [-4.0, 4.0]  # N m: 30 to 40 N at the pads
    return spec
