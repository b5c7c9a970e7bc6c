"""What a simulated arm is made of: a model with its gripper, how it stands at home, what it may do."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mujoco

from controllers.safety_limits import SafetyLimits
from robot_rl.errors import ConfigError


@dataclass(frozen=True)
class Arm:
    """A revolute arm with a two-finger gripper; lengths in m, angles in rad, torques in N m.

    ``load`` makes its model. There the joints of the arm come first, each with a torque motor in the same order, then
    the position actuators of ``fingers``; geoms that collide are what physics knows, the others are what the profile
    ``full`` shows. Fingers that follow others do so by joint equalities.
    """

    name: str
    load: Callable[[], mujoco.MjSpec]
    joints: tuple[str, ...]
    hand_body: str  # carries the gripper, which is everything below it; its z axis is the approach
    tcp_body: str
    tcp_quat_wxyz: tuple[float, float, float, float]  # TCP in that body: z approach, x forward at home
    fingers: tuple[str, ...]  # driven joints
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
    axes: tuple[bool, ...] = (
        True,
    ) * 6  # x y z, rotation about x y z of the base: what its joints can choose of a pose
    spheres: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # of the hand: centre in the TCP frame and r
    walls_lower_m: tuple[float, float, float] = (-10.0, -10.0, 0.0)  # the spheres stay above the table

    def safety_limits(
        self, box_lower_m: Sequence[float], box_upper_m: Sequence[float], tighter: Mapping[str, Any]
    ) -> SafetyLimits:
        """The arm's limits with a workspace inside its own and what ``tighter`` names. Raises ConfigError where that
        would loosen one."""
        widest = SafetyLimits(
            box_lower_m=self.box_lower_m, box_upper_m=self.box_upper_m, upright_quat_xyzw=self.upright_quat_xyzw,
            joint_lower_rad=self.joint_lower_rad, joint_upper_rad=self.joint_upper_rad,
            joint_speed_rad_s=self.joint_speed_rad_s, torque_n_m=self.torque_n_m, force_source="simulated",
            walls_lower_m=self.walls_lower_m, spheres=self.spheres,
        )  # fmt: skip
        boxed = widest.tightened(box_lower_m=tuple(box_lower_m), box_upper_m=tuple(box_upper_m))
        return boxed.tightened(**tighter)

    def check(self, model: mujoco.MjModel) -> None:
        """Raise ConfigError unless joints and actuators come in the order that physics counts on."""
        order = [model.joint(index).name for index in range(len(self.joints))]
        driven = [model.joint(model.actuator(index).trnid[0]).name for index in range(model.nu)]
        if order != list(self.joints) or driven != [*self.joints, *self.fingers]:
            raise ConfigError(
                f"arm '{self.name}' has the joints {order} first and the actuators drive {driven}",
                limit=f"joints {list(self.joints)}, actuators of these and of {list(self.fingers)}",
                remedy="Order them like that in the arm's model",
            )
