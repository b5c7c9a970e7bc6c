"""Pushes during an episode: forces on an object or on the arm's hand, drawn by the seed of the reset."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import Array

ARM = "arm"
_NEVER = 2**62


@dataclass(frozen=True)
class Push:
    """A constant force on ``what``, the name of a free object or ``arm`` (its hand), with ``probability`` per episode.

    Each range is drawn from uniformly: ``force_n``, the time ``start_s`` after the reset, ``duration_s``, and the
    ``elevation_rad`` of its direction above the horizontal; the direction in the horizontal plane is any.
    """

    what: str = ARM
    force_n: Sequence[float] = (20.0, 40.0)
    start_s: Sequence[float] = (0.5, 1.5)
    duration_s: Sequence[float] = (0.1, 0.2)
    elevation_rad: Sequence[float] = (0.0, 0.0)
    probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("force_n", "start_s", "duration_s"):
            check_range(f"{name} of the push on '{self.what}'", getattr(self, name), at_least=0.0)
        check_range(f"elevation_rad of the push on '{self.what}'", self.elevation_rad, at_least=-math.pi)
        if not 0.0 <= self.probability <= 1.0:
            raise ConfigError(f"push on '{self.what}' with probability {self.probability}", limit="0 to 1")


@dataclass(frozen=True)
class Disturbances:
    """What disturbs the episodes of a simulated robot."""

    pushes: Sequence[Push] = ()

    def draw(self, seed: int, timestep_s: float) -> list[Force]:
        """The forces of the episode of ``seed``."""
        drawn = []
        for index, push in enumerate(self.pushes):
            rng = np.random.default_rng([zlib.crc32(b"disturbances"), index, seed])
            happens = rng.uniform() < push.probability
            force, start, duration, up = (
                rng.uniform(low, high)
                for low, high in (push.force_n, push.start_s, push.duration_s, push.elevation_rad)
            )
            around = rng.uniform(-math.pi, math.pi)
            if happens:
                level = force * math.cos(up)
                vector = np.array([level * math.cos(around), level * math.sin(around), force * math.sin(up)])
                first = round(start / timestep_s)
                drawn.append(Force(push.what, vector, first, first + max(round(duration / timestep_s), 1)))
        return drawn


@dataclass(frozen=True)
class Force:
    """``vector_n`` [3] in the base frame, at the centre of mass of ``what``, in the ticks [first, last) of an
    episode."""

    what: str
    vector_n: Array
    first: int
    last: int


class Disturber:
    """Applies forces to a world as its episode goes on. ``bodies`` names the body of everything that can be pushed."""

    def __init__(self, data: mujoco.MjData, bodies: dict[str, int]) -> None:
        self._applied, self._bodies = data.xfrc_applied, bodies
        self._forces: list[Force] = []

    def start(self, forces: list[Force]) -> None:
        """An episode with these ``forces`` begins. Raises ConfigError for something that cannot be pushed."""
        for force in forces:
            if force.what not in self._bodies:
                raise ConfigError(f"nothing named '{force.what}' to push", remedy=f"Valid: {', '.join(self._bodies)}")
        self._forces = forces
        self._applied[:] = 0.0

    def apply(self, tick: int) -> int:
        """Set the forces of ``tick`` of the episode; returns for how many ticks they stay like that."""
        if not self._forces:
            return _NEVER
        self._applied[:] = 0.0
        change = _NEVER
        for force in self._forces:
            if force.first <= tick < force.last:
                self._applied[self._bodies[force.what], :3] += force.vector_n
            change = min(change, *(edge - tick for edge in (force.first, force.last) if edge > tick), _NEVER)
        return change


def check_range(what: str, limits: Sequence[float], at_least: float) -> None:
    """Raise ConfigError unless ``limits`` are two finite numbers in order."""
    if len(limits) != 2 or not np.isfinite(limits).all() or not at_least <= limits[0] <= limits[1]:
        raise ConfigError(f"{what} is {list(limits)}", limit=f"two numbers in order, at least {at_least:g}")
