"""Domain randomisation: what differs from episode to episode, drawn by the seed of the reset.

Every quantity has random numbers of its own, so that switching one on leaves the others as they were.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.geometry import quat_xyzw_from_rotvec, quat_xyzw_multiply, quat_xyzw_rotate
from robot_rl.types import Array
from sim.disturbances import check_range
from sim.scene import SceneModel, set_mass


@dataclass(frozen=True)
class Randomization:
    """Ranges that every episode is drawn from, uniformly; the defaults leave everything as the scene describes it.

    ``mass`` and ``friction`` are factors for each object, of friction also for table and fingertips. The arm hears of
    its reference ``action_delay_s`` late, the policy of the world ``observation_delay_s`` late. Cameras are off by up
    to ``camera_position_m`` along each axis and turned by up to ``camera_rotation_rad`` about each; ``light`` is a
    factor on its brightness, its direction turns by up to ``light_direction_rad``; colours of objects and table differ
    by up to ``colour`` in each channel of 0 to 1.
    """

    mass: Sequence[float] = (1.0, 1.0)
    friction: Sequence[float] = (1.0, 1.0)
    action_delay_s: Sequence[float] = (0.0, 0.0)
    observation_delay_s: Sequence[float] = (0.0, 0.0)
    camera_position_m: float = 0.0
    camera_rotation_rad: float = 0.0
    light: Sequence[float] = (1.0, 1.0)
    light_direction_rad: float = 0.0
    colour: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mass", "friction", "light"):
            check_range(f"randomization.{name}", getattr(self, name), at_least=1e-3)
        for name in ("action_delay_s", "observation_delay_s"):
            check_range(f"randomization.{name}", getattr(self, name), at_least=0.0)
            if getattr(self, name)[1] > 0.5:
                raise ConfigError(f"randomization.{name} is {list(getattr(self, name))}", limit="at most 0.5 s")
        for name in ("camera_position_m", "camera_rotation_rad", "light_direction_rad", "colour"):
            check_range(f"randomization.{name}", (0.0, getattr(self, name)), at_least=0.0)

    def draw(self, what: str, seed: int, size: int | tuple[int, ...] | None = None) -> Any:
        """Numbers for the field ``what`` in the episode of ``seed``; a single limit is that to both sides."""
        limits = getattr(self, what)
        low, high = limits if isinstance(limits, Sequence) else (-limits, limits)
        return np.random.default_rng([zlib.crc32(what.encode()), seed]).uniform(low, high, size=size)


class Variation:
    """One compiled model and its varied copies, made anew for every episode from the model as it was described."""

    def __init__(self, built: SceneModel, randomization: Randomization) -> None:
        self._built, self._ranges = built, randomization
        model = built.model
        self._described = {name: np.array(getattr(model, name)) for name in _VARIED}
        self._headlight = np.array(model.vis.headlight.diffuse)
        self._objects = [thing for thing in built.scene.objects if not thing.marker]
        things = [thing.geom_name(index) for thing in self._objects for index in range(len(thing.geoms))]
        self._geoms = [model.geom(name).id for name in ("table", *things)]
        self._pads = [model.geom(name).id for name in built.arm.pads]

    def apply_physics(self, seed: int) -> None:
        """Masses and friction of the episode of ``seed``."""
        model, ranges = self._built.model, self._ranges
        factors = ranges.draw("mass", seed, len(self._objects))
        for thing, factor in zip(self._objects, factors, strict=True):
            if thing.free and tuple(ranges.mass) != (1.0, 1.0):
                set_mass(model, thing.name, thing.mass_kg * factor)
        rubbing = [*self._geoms, *self._pads]
        factors = ranges.draw("friction", seed, len(rubbing))
        model.geom_friction[rubbing, 0] = self._described["geom_friction"][rubbing, 0] * factors

    def apply_appearance(self, seed: int) -> None:
        """Cameras, light and colours of the episode of ``seed``."""
        model, ranges = self._built.model, self._ranges
        described = self._described
        model.cam_pos[:] = described["cam_pos"] + ranges.draw("camera_position_m", seed, (model.ncam, 3))
        turns = ranges.draw("camera_rotation_rad", seed, (model.ncam, 3))
        for index, turn in enumerate(turns):
            model.cam_quat[index] = _turned(described["cam_quat"][index], turn)
        bright = ranges.draw("light", seed)
        model.light_diffuse[:] = described["light_diffuse"] * bright
        model.vis.headlight.diffuse[:] = self._headlight * bright
        turn = quat_xyzw_from_rotvec(ranges.draw("light_direction_rad", seed, 3))
        for index, direction in enumerate(described["light_dir"]):
            model.light_dir[index] = quat_xyzw_rotate(turn, direction)
        shades = ranges.draw("colour", seed, (len(self._geoms), 3))
        model.geom_rgba[self._geoms, :3] = np.clip(described["geom_rgba"][self._geoms, :3] + shades, 0.0, 1.0)


_VARIED = ("geom_friction", "cam_pos", "cam_quat", "light_diffuse", "light_dir", "geom_rgba")


def _turned(quat_wxyz: Array, turn: Array) -> Array:
    w, x, y, z = quat_wxyz
    qx, qy, qz, qw = quat_xyzw_multiply(np.array([x, y, z, w]), quat_xyzw_from_rotvec(turn))
    return np.array([qw, qx, qy, qz])
