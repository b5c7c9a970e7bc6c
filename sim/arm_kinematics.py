"""Forward and inverse kinematics of a simulated arm, for what plans or calibrates with it."""

from __future__ import annotations

import numpy as np

from controllers.inverse_kinematics import inverse_kinematics
from controllers.kinematics import SerialChain
from robot_rl.types import Array
from sim.arms.arm import Arm
from sim.arms.panda import panda
from sim.scene import Scene, arm_chain, build_scene

_ATTEMPTS = 3  # beginnings of the search; a pose that is found only from afar is no pose to drive to


class ArmKinematics:
    """Of the arm's own model (a Panda unless given): joint ``names``, limits [n] rad, home posture [n] rad."""

    def __init__(self, arm: Arm | None = None) -> None:
        arm = arm or panda()
        self.chain: SerialChain = arm_chain(build_scene(Scene(), arm))
        self.names, self.lower, self.upper = self.chain.names, self.chain.lower, self.chain.upper
        self._home, self._axes = np.array(arm.home_rad), arm.axes

    def pose(self, joint_position: Array) -> Array:
        """T_base_tcp as a pose [7] at ``joint_position`` [n] rad."""
        return self.chain.pose(joint_position)

    def reachable(self, pose: Array, margin_rad: float = 0.15) -> bool:
        """Whether joints near home exist for a pose [7], so far from their limits."""
        found = inverse_kinematics(self.chain, pose, self._home, axes=self._axes, tolerance=1e-4, attempts=_ATTEMPTS)
        return found is not None and bool(
            (found > self.lower + margin_rad).all() and (found < self.upper - margin_rad).all()
        )
