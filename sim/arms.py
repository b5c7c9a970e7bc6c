"""Arms as data: which of robosuite's files make one, how it stands at home, what it may do."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controllers.safety_limits import SafetyLimits
from robot_rl.errors import ConfigError, valid_choices


@dataclass(frozen=True)
class Arm:
    """A revolute arm with a parallel gripper; lengths in m, angles in rad, torques in N m."""

    name: str
    model_file: str  # below robosuite's assets
    gripper_file: str
    hand_body: str  # of the arm, carries the gripper
    joints: tuple[str, ...]
    tcp_body: str  # of the gripper
    tcp_quat_wxyz: tuple[float, float, float, float]  # TCP in that body: z approach, x forward at home
    fingers: tuple[str, ...]  # joints of the gripper, driven by its actuators in the same order
    finger_open: tuple[float, ...]  # m or rad
    finger_closed: tuple[float, ...]
    pads: tuple[str, ...]  # geoms that touch what is held
    home_rad: tuple[float, ...]
    joint_lower_rad: tuple[float, ...]
    joint_upper_rad: tuple[float, ...]
    joint_speed_rad_s: tuple[float, ...]
    torque_n_m: tuple[float, ...]
    box_lower_m: tuple[float, float, float]  # the largest workspace of the TCP: clear of base and table
    box_upper_m: tuple[float, float, float]
    armature_kg_m2: float = 0.1
    damping_n_m_s: float = 0.1
    upright_quat_xyzw: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)  # tool down

    def safety_limits(
        self, box_lower_m: Sequence[float], box_upper_m: Sequence[float], tighter: Mapping[str, Any]
    ) -> SafetyLimits:
        """The arm's limits with a workspace inside its own and what ``tighter`` names. Raises ConfigError where that
        would loosen one."""
        widest = SafetyLimits(
            box_lower_m=self.box_lower_m, box_upper_m=self.box_upper_m, upright_quat_xyzw=self.upright_quat_xyzw,
            joint_lower_rad=self.joint_lower_rad, joint_upper_rad=self.joint_upper_rad,
            joint_speed_rad_s=self.joint_speed_rad_s, torque_n_m=self.torque_n_m,
        )  # fmt: skip
        box = {"box_lower_m": tuple(box_lower_m), "box_upper_m": tuple(box_upper_m)}
        return widest.tightened(**box).tightened(**tighter)


GRIPPER = "gripper_"  # prefix of the gripper's names in the composed model

PANDA = Arm(
    name="panda",
    model_file="robots/panda/robot.xml",
    gripper_file="grippers/panda_gripper.xml",
    hand_body="right_hand",
    joints=tuple(f"joint{i}" for i in range(1, 8)),
    tcp_body=f"{GRIPPER}eef",
    tcp_quat_wxyz=(0.70710678, 0.0, 0.0, 0.70710678),
    fingers=(f"{GRIPPER}finger_joint1", f"{GRIPPER}finger_joint2"),
    finger_open=(0.04, -0.04),
    finger_closed=(0.0, 0.0),
    pads=(f"{GRIPPER}finger1_pad_collision", f"{GRIPPER}finger2_pad_collision"),
    home_rad=(0.0, 0.00762964, 0.0, -2.44792045, 0.0, 2.45555009, 0.7853981633974483),  # TCP at (0.48, 0, 0.20) m
    joint_lower_rad=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    joint_upper_rad=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    joint_speed_rad_s=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    torque_n_m=(80.0, 80.0, 80.0, 80.0, 80.0, 12.0, 12.0),
    box_lower_m=(0.2, -0.6, 0.0),
    box_upper_m=(0.8, 0.6, 0.8),
)

ARMS = {arm.name: arm for arm in (PANDA,)}


def find_arm(name: str) -> Arm:
    """The arm of that name; raises ConfigError listing those there are."""
    if name not in ARMS:
        raise ConfigError(f"no simulated arm '{name}'", remedy=valid_choices(name, ARMS))
    return ARMS[name]


def asset_root() -> Path:
    """Folder of robosuite's models, found without importing robosuite. Raises ConfigError naming the extra."""
    found = importlib.util.find_spec("robosuite")
    if found is None or not found.submodule_search_locations:
        raise ConfigError(
            "the arm's meshes are missing: robosuite is not installed", remedy="pip install 'robot-rl[sim]'"
        )
    root = Path(found.submodule_search_locations[0]) / "models" / "assets"
    if not (root / PANDA.model_file).is_file():
        raise ConfigError(
            f"robosuite has no {PANDA.model_file} below {root}", remedy="pip install 'robot-rl[sim]' (robosuite 1.5.1)"
        )
    return root
