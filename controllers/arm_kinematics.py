"""An arm's kinematics for what plans or calibrates with it: where its TCP is, and which poses it can take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from controllers.inverse_kinematics import inverse_kinematics
from controllers.kinematics import SerialChain
from robot_rl.types import Array

_ATTEMPTS = 3  # beginnings of the search; a pose that is found only from afar is no pose to drive to


class ArmKinematics:
    """Of ``chain`` with its posture ``home_rad`` [n]; ``axes`` [6] are the components of a pose that it can choose:
    all, unless given."""

    def __init__(self, chain: SerialChain, home_rad: Sequence[float], axes: Sequence[bool] = (True,) * 6) -> None:
        self.chain, self.names, self.lower, self.upper = chain, chain.names, chain.lower, chain.upper
        self._home, self._axes = np.array(home_rad), axes

    def pose(self, joint_position: Array) -> Array:
        """T_base_tcp as a pose [7] at ``joint_position`` [n] rad."""
        return self.chain.pose(joint_position)

    def reachable(self, pose: Array, margin_rad: float = 0.15) -> bool:
        """Whether joints near home exist for a pose [7], so far from their limits."""
        found = inverse_kinematics(self.chain, pose, self._home, axes=self._axes, tolerance=1e-4, attempts=_ATTEMPTS)
        return found is not None and bool(
            (found > self.lower + margin_rad).all() and (found < self.upper - margin_rad).all()
        )
