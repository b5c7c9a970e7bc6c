"""What a scene is made of: bodies of one or several geoms, free or fixed, and markers that nothing touches."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import mujoco

from robot_rl.errors import ConfigError, valid_choices

# Contact bits: what can be held or stood upon gives GRASP to the hand and LINK to the links of the arm, which do not
# meet each other (the joint limits keep them apart).
GRASP, LINK = 1, 2


class Shape(StrEnum):
    BOX = "box"
    SPHERE = "sphere"
    CYLINDER = "cylinder"
    CAPSULE = "capsule"
    MESH = "mesh"


_GEOM = {
    Shape.BOX: mujoco.mjtGeom.mjGEOM_BOX,
    Shape.SPHERE: mujoco.mjtGeom.mjGEOM_SPHERE,
    Shape.CYLINDER: mujoco.mjtGeom.mjGEOM_CYLINDER,
    Shape.CAPSULE: mujoco.mjtGeom.mjGEOM_CAPSULE,
    Shape.MESH: mujoco.mjtGeom.mjGEOM_MESH,
}
_SIZES = {Shape.BOX: 3, Shape.SPHERE: 1, Shape.CYLINDER: 2, Shape.CAPSULE: 2, Shape.MESH: 3}


@dataclass(frozen=True)
class Part:
    """One geom of an object, at ``position_m`` and ``quat_xyzw`` in its frame.

    ``size_m`` as MuJoCo has it: half edges of a box, radius of a sphere, radius and half height of a cylinder or
    capsule; of a mesh (its convex hull, from ``mesh_file``) the factors from the file's units to m. Parts without
    ``rgba`` have the colour of the object.
    """

    shape: Shape
    size_m: Sequence[float]
    position_m: Sequence[float] = (0.0, 0.0, 0.0)
    quat_xyzw: Sequence[float] = (0.0, 0.0, 0.0, 1.0)
    rgba: Sequence[float] | None = None
    mesh_file: str | None = None

    def __post_init__(self) -> None:
        if self.shape not in list(Shape):
            raise ConfigError(f"a part has shape '{self.shape}'", remedy=valid_choices(str(self.shape), list(Shape)))
        object.__setattr__(self, "shape", Shape(self.shape))
        if len(self.size_m) != _SIZES[self.shape] or min(self.size_m) <= 0.0:
            raise ConfigError(
                f"a {self.shape} has size {list(self.size_m)} m", limit=f"{_SIZES[self.shape]} positive sizes"
            )
        if (self.shape is Shape.MESH) != (self.mesh_file is not None):
            raise ConfigError(
                f"a {self.shape} has mesh_file={self.mesh_file}", limit="a file for a mesh, and for it only"
            )
        if self.mesh_file is not None and not Path(self.mesh_file).is_file():
            raise ConfigError(f"there is no mesh file {self.mesh_file}")

    def add_to(self, spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str) -> mujoco.MjsGeom:
        """Append it to ``body`` as the geom ``name``."""
        qx, qy, qz, qw = self.quat_xyzw
        geom = body.add_geom(name=name, type=_GEOM[self.shape], pos=list(self.position_m), quat=[qw, qx, qy, qz])
        if self.mesh_file is None:
            geom.size = [*self.size_m, 0.0, 0.0][:3]
        else:
            spec.add_mesh(name=name, file=str(Path(self.mesh_file).resolve()), scale=list(self.size_m))
            geom.meshname = name
        return geom


@dataclass(frozen=True)
class SceneObject:
    """A body on the table. It is of one ``shape`` and ``size_m`` (see Part) or of several ``parts``, and moves freely
    unless it is ``fixed``: then only resets move it. A ``marker`` is seen and placed like that, but touched by nothing.

    ``condim``, ``solref`` and ``solimp`` are those of MuJoCo's contacts; without them its own, with torsional friction
    for what touches in a point. ``mass_kg`` is that of the whole, spread evenly over the volume.
    """

    name: str
    shape: Shape | None = None
    size_m: Sequence[float] = ()
    mass_kg: float = 0.05
    friction: Sequence[float] = (1.0, 0.005, 0.0001)  # sliding [-], torsional [m], rolling [m]
    rgba: Sequence[float] = (0.8, 0.2, 0.15, 1.0)
    position_m: Sequence[float] = (0.5, 0.0, 0.0)  # where it is unless a reset says otherwise
    marker: bool = False
    quat_xyzw: Sequence[float] = (0.0, 0.0, 0.0, 1.0)
    fixed: bool = False
    parts: Sequence[Part] = ()
    condim: int | None = None
    solref: Sequence[float] | None = None  # time constant [s], damping ratio [-]
    solimp: Sequence[float] | None = None  # least and most impedance [-], width [m], midpoint, power

    def __post_init__(self) -> None:
        if (self.shape is None) == (not self.parts):
            raise ConfigError(f"object '{self.name}' has a shape and parts, or neither", limit="one of them")
        if self.mass_kg <= 0.0:
            raise ConfigError(f"object '{self.name}' has a mass of {self.mass_kg} kg", limit="> 0")
        if self.condim not in (None, 1, 3, 4, 6):
            raise ConfigError(f"object '{self.name}' has condim={self.condim}", limit="1, 3, 4 or 6")
        try:
            assert self.geoms
        except ConfigError as error:
            raise ConfigError(f"object '{self.name}': {error.what}", limit=error.limit, remedy=error.remedy) from None

    @property
    def geoms(self) -> Sequence[Part]:
        """Its parts, one for an object of one shape."""
        return self.parts or ([Part(self.shape, self.size_m)] if self.shape else [])

    @property
    def free(self) -> bool:
        """Whether physics moves it."""
        return not (self.fixed or self.marker)

    @property
    def observation(self) -> str:
        """Its name among the observations and in ``ResetRequest.simulator_state``: the pose [7] of a body, the position
        [3] of a marker."""
        return f"object/{self.name}_position" if self.marker else f"object/{self.name}_pose"

    @property
    def held(self) -> str:
        """The name in ``ResetRequest.simulator_state`` under which a start has it between the fingers: its pose [7] in
        the TCP's frame."""
        return f"object/{self.name}_held"

    def add_to(self, spec: mujoco.MjSpec) -> None:
        """Compose it into a scene; its parts are the geoms ``name``, ``name/1``, ``name/2``, ..."""
        qx, qy, qz, qw = self.quat_xyzw
        # a body that resets alone move is MuJoCo's mocap body: it has no joint and its pose is no part of the model
        body = spec.worldbody.add_body(
            name=self.name, pos=list(self.position_m), quat=[qw, qx, qy, qz], mocap=not self.free
        )
        if self.free:
            body.add_freejoint(name=self.name)
        for index, part in enumerate(self.geoms):
            geom = part.add_to(spec, body, self.geom_name(index))
            geom.rgba = list(part.rgba or self.rgba)
            if self.marker:
                geom.contype = geom.conaffinity = 0
                continue
            geom.contype, geom.conaffinity, geom.friction = GRASP | LINK, GRASP, list(self.friction)
            # the several contacts of a flat face hold it against twisting; a point contact needs torsional friction
            geom.condim = self.condim or (3 if part.shape is Shape.BOX else 4)
            if self.solref is not None:
                geom.solref = list(self.solref)
            if self.solimp is not None:
                geom.solimp = list(self.solimp)

    def geom_name(self, index: int) -> str:
        """The geom of part ``index``."""
        return f"{self.name}/{index}" if index else self.name
