"""A planar arm: three joints in the plane y = 0 of the base, and fingers that close across it."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from pathlib import Path

import mujoco

from sim.arms.arm import Arm


def planar() -> Arm:
    """Cheap, for quick tests: x, z and the pitch of the tool can be commanded, the rest of a target has no effect. Its
    workspace is the plane, 1 mm to either side. At home the TCP is at (0.48, 0, 0.20) m."""
    return Arm(
        name="planar",
        load=_load,
        joints=("shoulder", "elbow", "wrist"),
        hand_body="hand",
        tcp_body="tcp",
        tcp_quat_wxyz=(1.0, 0.0, 0.0, 0.0),
        fingers=("left_finger", "right_finger"),
        finger_open=(0.04, 0.04),
        finger_closed=(0.0, 0.0),
        pads=("left_pad", "right_pad"),
        home_rad=(-1.0892144, 2.01214633, 0.64786439),
        joint_lower_rad=(-2.6, 0.1, -2.2),
        joint_upper_rad=(1.0, 2.9, 2.6),
        joint_speed_rad_s=(3.0, 3.0, 3.0),
        torque_n_m=(80.0, 60.0, 20.0),
        box_lower_m=(0.2, -0.001, 0.0),
        box_upper_m=(0.75, 0.001, 0.6),
        axes=(True, False, True, False, True, False),
    )


def _load() -> mujoco.MjSpec:
    return mujoco.MjSpec.from_file(str(Path(__file__).with_name("planar.xml")))
