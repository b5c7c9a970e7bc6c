"""The Panda's chain as a table, frozen, so that kinematics is tested where there is no simulator."""

from typing import Any

from controllers.kinematics import SerialChain
from controllers.safety_limits import SafetyLimits

ROWS = [
    {
        "name": "joint1",
        "position": [0.0, 0.0, 0.333],
        "quat_xyzw": [0.0, 0.0, 0.0, 1.0],
        "axis": [0.0, 0.0, 1.0],
        "lower_rad": -2.8973,
        "upper_rad": 2.8973,
    },
    {
        "name": "joint2",
        "position": [0.0, 0.0, 0.0],
        "quat_xyzw": [-0.707107, 0.0, 0.0, 0.707107],
        "axis": [0.0, 0.0, 1.0],
        "lower_rad": -1.7628,
        "upper_rad": 1.7628,
    },
    {
        "name": "joint3",
        "position": [0.0, -0.316, 0.0],
        "quat_xyzw": [0.707107, 0.0, 0.0, 0.707107],
        "axis": [0.0, 0.0, 1.0],
        "lower_rad": -2.8973,
        "upper_rad": 2.8973,
    },
    {
        "name": "joint4",
        "position": [0.0825, 0.0, 0.0],
        "quat_xyzw": [0.707107, 0.0, 0.0, 0.707107],
        "axis": [0.0, 0.0, 1.0],
        "lower_rad": -3.0718,
        "upper_rad": -0.0698,
    },
    {
        "name": "joint5",
        "position": [-0.0825, 0.384, 0.0],
        "quat_xyzw": [-0.707107, 0.0, 0.0, 0.707107],
        "axis": [0.0, 0.0, 1.0],
        "lower_rad": -2.8973,
        "upper_rad": 2.8973,
    },
    {
        "name": "joint6",
        "position": [0.0, 0.0, 0.0],
        "quat_xyzw": [0.707107, 0.0, 0.0, 0.707107],
        "axis": [0.0, 0.0, 1.0],
        "lower_rad": -0.0175,
        "upper_rad": 3.7525,
    },
    {
        "name": "joint7",
        "position": [0.088, 0.0, 0.0],
        "quat_xyzw": [0.707107, 0.0, 0.0, 0.707107],
        "axis": [0.0, 0.0, 1.0],
        "lower_rad": -2.8973,
        "upper_rad": 2.8973,
    },
]
TCP_POSE = [0.0, 0.0, 0.2035, 0.0, 0.0, -0.382911, 0.923785]
HOME_RAD = [0.0, 0.00762964, 0.0, -2.44792045, 0.0, 2.45555009, 0.7853981633974483]


def panda_chain() -> SerialChain:
    return SerialChain.from_table(ROWS, TCP_POSE)


def panda_limits(**tighter: Any) -> SafetyLimits:
    chain = panda_chain()
    return SafetyLimits(
        box_lower_m=(0.25, -0.35, 0.005),
        box_upper_m=(0.75, 0.35, 0.5),
        upright_quat_xyzw=(1.0, 0.0, 0.0, 0.0),
        joint_lower_rad=tuple(chain.lower),
        joint_upper_rad=tuple(chain.upper),
        joint_speed_rad_s=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
        torque_n_m=(80.0, 80.0, 80.0, 80.0, 80.0, 12.0, 12.0),
        force_source="none",
        max_acceleration_m_s2=12.0,
        max_acceleration_rad_s2=20.0,
    ).tightened(**tighter)
