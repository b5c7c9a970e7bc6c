"""A square peg and the block with its hole, as a scene."""

from __future__ import annotations

from collections.abc import Sequence

from robot_rl.errors import ConfigError
from sim.objects import Part, SceneObject, Shape
from sim.scene import Scene

# Contacts of a light peg under the force of an arm: MuJoCo's usual ones give way by more than the clearance, and a peg
# that has sunk into the rim by more than it overlaps it is let past.
_SOLREF = (0.006, 1.0)  # three steps of physics
_SOLIMP = (0.99, 0.999, 0.0005, 0.5, 2.0)


def peg_and_hole(
    clearance_m: float = 0.001,
    peg_half_width_m: float = 0.01,
    peg_half_length_m: float = 0.03,
    peg_mass_kg: float = 0.03,
    block_half_width_m: float = 0.045,
    block_height_m: float = 0.04,
    friction: float = 0.4,
    table_rgba: Sequence[float] = (0.72, 0.66, 0.58, 1.0),
) -> Scene:
    """Free object ``peg``, its axis along z, and fixed object ``hole``, a block of four walls whose frame lies in the
    middle of the rim, z up out of the hole.

    The hole is ``clearance_m`` wider than the peg (diametral: twice the gap on either side) and goes through to the
    table. Raises ConfigError for a clearance that is not positive or a hole that leaves no wall.
    """
    if not 0.0 < clearance_m < 0.02:
        raise ConfigError(f"the hole is {clearance_m} m wider than the peg", limit="0 to 0.02 m")
    half_hole = peg_half_width_m + 0.5 * clearance_m
    if half_hole + 0.005 > block_half_width_m:
        raise ConfigError(
            f"a hole of half width {half_hole} m in a block of {block_half_width_m} m", limit="5 mm of wall"
        )
    peg = SceneObject(
        "peg", Shape.BOX, (peg_half_width_m, peg_half_width_m, peg_half_length_m), mass_kg=peg_mass_kg,
        friction=(friction, 0.005, 0.0001), rgba=(0.85, 0.55, 0.15, 1.0),
        position_m=(0.4, 0.25, peg_half_length_m), solref=_SOLREF, solimp=_SOLIMP,
    )  # fmt: skip
    hole = SceneObject(
        "hole", fixed=True, parts=_walls(half_hole, block_half_width_m, block_height_m),
        friction=(friction, 0.005, 0.0001), rgba=(0.3, 0.4, 0.55, 1.0), position_m=(0.5, 0.0, block_height_m),
        solref=_SOLREF, solimp=_SOLIMP,
    )  # fmt: skip
    return Scene((peg, hole), table_rgba=table_rgba)


def _walls(inner: float, outer: float, height: float) -> tuple[Part, ...]:
    """Four boxes below z = 0 around a square hole, each as long as the hole and one wall."""
    thick, shift, drop = 0.5 * (outer - inner), 0.5 * (outer + inner), -0.5 * height
    across = ((shift, -thick), (-shift, thick))  # turning round: each wall covers one corner
    along_x = [Part(Shape.BOX, (thick, shift, -drop), (x, y, drop)) for x, y in across]
    along_y = [Part(Shape.BOX, (shift, thick, -drop), (x, y, drop)) for x, y in ((thick, shift), (-thick, -shift))]
    return (*along_x, *along_y)
