"""What happens when physics blows up: it is noticed, the last states are kept for whoever looks into it, and told."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import tempfile
from collections import deque
from math import isfinite
from pathlib import Path

import mujoco
import numpy as np

from robot_rl.errors import SimulationDivergedError
from robot_rl.types import Array
from sim.physics import Physics

_KEPT_STEPS = 40
_MOST_DUMPS = 5
# Norm of all velocities [m/s, rad/s] beyond which a tabletop has blown up; MuJoCo itself speaks of 1e10.
_MOST_SPEED = 1000.0
# What MuJoCo finds itself and, as it must not reset the state here, only counts.
_WARNINGS = {
    "position": int(mujoco.mjtWarning.mjWARN_BADQPOS),
    "velocity": int(mujoco.mjtWarning.mjWARN_BADQVEL),
    "acceleration": int(mujoco.mjtWarning.mjWARN_BADQACC),
}


class DivergenceGuard:
    """Watches one simulated world; ``folder`` takes the last states (a temporary one without), at most 5 files."""

    def __init__(self, physics: Physics, folder: str | None = None) -> None:
        self._physics, self._folder, self._dumps = physics, folder, 0
        self._position, self._speed = physics.data.qpos, physics.data.qvel
        self._warnings = physics.data.warning.number
        self._past: deque[tuple[Array, Array, Array]] = deque(maxlen=_KEPT_STEPS)

    def reset(self) -> None:
        """Forget the last episode."""
        self._past.clear()

    def remember(self, target: Array) -> None:
        """Keep the state that a control step begins with, and its set point [7]."""
        self._past.append((self._position.copy(), self._speed.copy(), target))

    def check(self, step: int) -> None:
        """Raise SimulationDivergedError when control step ``step`` ended in a state that is not to be believed."""
        cause = self._cause()
        if cause is None:
            return
        kept = f"The last {len(self._past)} states are in {self._dump()}" if self._dumps < _MOST_DUMPS else (
            f"{self._dumps} files of last states were written before, this one is not"
        )  # fmt: skip
        raise SimulationDivergedError(f"physics diverged in step {step}: {cause}", remedy=f"{kept}; reset to go on")

    def _cause(self) -> str | None:
        position, speed, found = self._position, self._speed, self._warnings.tolist()
        extent, moving = position.dot(position), speed.dot(speed)
        if not isfinite(extent + moving):  # beyond 1e154 counts as diverged as well
            return "not all positions and velocities are finite"
        if moving > _MOST_SPEED**2:
            return f"velocities up to {np.abs(speed).max():.3g} m/s or rad/s"
        for what, kind in _WARNINGS.items():
            if found[kind]:
                return f"MuJoCo found a bad {what}, {found[kind]} times"
        return None

    def _dump(self) -> Path:
        """Write the states [steps, ...] that the last control steps began with, and the present one."""
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="robot_rl_diverged_")
        folder = Path(self._folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._dumps += 1
        path = folder / f"diverged_{self._dumps}.npz"
        data, past = self._physics.data, list(self._past)
        np.savez(
            path, qpos=[row[0] for row in past], qvel=[row[1] for row in past], target=[row[2] for row in past],
            qpos_now=data.qpos, qvel_now=data.qvel,
        )  # fmt: skip
        return path
