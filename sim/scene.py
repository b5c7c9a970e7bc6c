"""Composition of a MuJoCo model with MjSpec: table, arm with gripper, objects, cameras, light.

The world frame is the base frame of the arm; the table's top is the plane z = 0. One description makes two models with
equal coordinates: a lean one for physics (collision geometry only) and a dressed one for rendering.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import mujoco
import numpy as np

from controllers.kinematics import SerialChain
from robot_rl.errors import ConfigError, valid_choices
from robot_rl.geometry import pose_inverse, pose_multiply
from robot_rl.types import Array
from sim.arms.arm import Arm
from sim.cameras import Profile
from sim.objects import GRASP, LINK, SceneObject

TCP_SITE = "tcp"
TIMESTEP_S = 0.002

_SHOWN, _HIDDEN = 0, 3  # geom groups
_LINK_RGBA, _FINGER_RGBA = (0.93, 0.94, 0.95, 1.0), (0.35, 0.36, 0.38, 1.0)


class Fixture(Protocol):
    """What is fastened to the arm or stands beside it without taking part in physics, such as a camera."""

    def add_to(self, spec: mujoco.MjSpec, arm: Arm) -> None: ...


@dataclass(frozen=True)
class Scene:
    """What stands around the arm. ``fixtures`` are only seen, such as a board for cameras."""

    objects: Sequence[SceneObject] = ()
    table_size_m: Sequence[float] = (1.1, 1.2)  # x, y
    table_centre_m: Sequence[float] = (0.35, 0.0)
    table_friction: float = 1.0
    table_rgba: Sequence[float] = (0.72, 0.66, 0.58, 1.0)
    fixtures: Sequence[Fixture] = ()

    def __post_init__(self) -> None:
        names = [thing.name for thing in self.objects]
        if len(set(names)) != len(names):
            raise ConfigError(f"two objects of the scene share a name: {sorted(names)}")

    def object(self, name: str) -> SceneObject:
        """The object of that name; raises ConfigError listing those there are."""
        for thing in self.objects:
            if thing.name == name:
                return thing
        raise ConfigError(
            f"no object '{name}' in the scene", remedy=valid_choices(name, [o.name for o in self.objects])
        )


@dataclass(frozen=True)
class SceneModel:
    """A compiled model and where things lie in it."""

    model: mujoco.MjModel
    arm: Arm
    scene: Scene
    object_qpos: dict[str, int] = field(default_factory=dict)  # free objects: address of their 7 coordinates
    object_mocap: dict[str, int] = field(default_factory=dict)  # fixed objects and markers

    @property
    def dof(self) -> int:
        return len(self.arm.joints)


def build_scene(scene: Scene, arm: Arm, cameras: Sequence[Fixture] = (), *, look: Profile | None = None) -> SceneModel:
    """Compile the scene, dressed for cameras of profile ``look`` or lean. Raises ConfigError when assets are missing.

    ``full`` shows the arm's visual meshes, ``fast`` its collision meshes, which have a tenth of the triangles.
    """
    spec = mujoco.MjSpec()
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0  # a grasp does not creep
    # A state that is not finite must be seen, not silently replaced by the initial one.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    spec.compiler.degree = False
    _add_arm(spec, arm, look)
    _add_table(spec, scene)
    for thing in scene.objects:
        thing.add_to(spec)
    if look is not None:
        _add_light(spec)
    for fixture in [*cameras, *(scene.fixtures if look is not None else ())]:
        fixture.add_to(spec, arm)
    model = spec.compile()
    arm.check(model)
    for thing in scene.objects:
        if thing.free:
            set_mass(model, thing.name, thing.mass_kg)
    return SceneModel(model, arm, scene, _free_addresses(model, scene), _mocap_indices(model, scene))


def _add_arm(spec: mujoco.MjSpec, arm: Arm, look: Profile | None) -> None:
    model = arm.load()
    hand = model.body(arm.hand_body)
    _strip(model, look, {arm.hand_body, *(body.name for body in hand.find_all("body"))})
    for name, lower, upper in zip(arm.joints, arm.joint_lower_rad, arm.joint_upper_rad, strict=True):
        joint = model.joint(name)
        joint.armature, joint.frictionloss = arm.armature_kg_m2, 0.0
        joint.limited, joint.range = True, [lower, upper]
        # a hard stop that begins ahead of the limit, so that no joint is ever found beyond it
        joint.solref_limit, joint.solimp_limit = [2.0 * TIMESTEP_S, 1.0], [0.99, 0.999, 0.001, 0.5, 2.0]
        joint.margin = 0.01
        joint.damping = np.array([arm.damping_n_m_s, 0.0, 0.0])  # linear, quadratic, cubic
    model.body(arm.tcp_body).add_site(name=TCP_SITE, quat=arm.tcp_quat_wxyz)
    for name in arm.pads:
        model.geom(name).friction = [2.0, 0.05, 0.0001]
    spec.attach(model, frame=spec.worldbody.add_frame(), prefix="")


def _strip(spec: mujoco.MjSpec, look: Profile | None, hand: set[str]) -> None:
    """Drop what this model does not need (meshes of the other kind, cameras, decorations); let the bodies of the
    ``hand`` touch what can be held, the links what can be stood upon."""
    used = set()
    # an arm without visual meshes looks the same in every profile
    full = look is Profile.FULL and any(g.meshname and not (g.contype or g.conaffinity) for g in spec.geoms)
    for geom in list(spec.geoms):
        collides = bool(geom.contype or geom.conaffinity)
        if not collides and (look is None or (geom.meshname and not full)):
            spec.delete(geom)
            continue
        used.add(geom.meshname)
        geom.group = _HIDDEN if collides and full else _SHOWN
        if collides:
            geom.contype, geom.conaffinity, geom.condim = 0, GRASP if geom.parent.name in hand else LINK, 3
            geom.rgba = _FINGER_RGBA if "finger" in geom.name else _LINK_RGBA
    for thing in [*spec.cameras, *spec.sites, *spec.sensors]:
        spec.delete(thing)
    for mesh in list(spec.meshes):
        if mesh.name not in used:
            spec.delete(mesh)


def _add_table(spec: mujoco.MjSpec, scene: Scene) -> None:
    x, y = scene.table_centre_m
    half_x, half_y = 0.5 * scene.table_size_m[0], 0.5 * scene.table_size_m[1]
    spec.worldbody.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=[half_x, half_y, 0.02], pos=[x, y, -0.02],
        rgba=list(scene.table_rgba), friction=[scene.table_friction, 0.005, 0.0001],
        contype=GRASP | LINK, conaffinity=GRASP | LINK,
    )  # fmt: skip


def _add_light(spec: mujoco.MjSpec) -> None:
    spec.visual.headlight.ambient[:] = 0.35
    spec.visual.headlight.diffuse[:] = 0.45
    spec.visual.headlight.specular[:] = 0.1
    spec.visual.quality.shadowsize = 2048
    spec.worldbody.add_light(
        name="lamp", pos=[0.9, 0.6, 1.8], dir=[-0.3, -0.45, -1.0], diffuse=[0.55, 0.55, 0.55], castshadow=True,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )  # fmt: skip
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.85, 0.89, 0.93], rgb2=[0.55, 0.6, 0.66], width=64, height=64,
    )  # fmt: skip
    spec.worldbody.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3.0, 3.0, 0.1], pos=[0.0, 0.0, -0.75],
        rgba=[0.45, 0.47, 0.5, 1.0], contype=0, conaffinity=0,
    )  # fmt: skip


def _free_addresses(model: mujoco.MjModel, scene: Scene) -> dict[str, int]:
    return {o.name: int(model.joint(o.name).qposadr[0]) for o in scene.objects if o.free}


def _mocap_indices(model: mujoco.MjModel, scene: Scene) -> dict[str, int]:
    return {o.name: int(model.body(o.name).mocapid[0]) for o in scene.objects if not o.free}


def set_mass(model: mujoco.MjModel, body: str, mass_kg: float) -> None:
    """Give a body of one or several geoms its mass, spread as it was."""
    index = model.body(body).id
    share = mass_kg / model.body_mass[index]
    model.body_mass[index] *= share
    model.body_inertia[index] *= share
    mujoco.mj_setConst(model, mujoco.MjData(model))


def joint_couplings(model: mujoco.MjModel) -> list[tuple[int, int, Array]]:
    """Joints that follow others by equalities: coordinate, that of the other, coefficients [5] of the polynomial
    between them (of models whose joints are 0 where they are drawn)."""
    joints = np.flatnonzero(model.eq_type == mujoco.mjtEq.mjEQ_JOINT)
    pairs = [(model.eq_obj1id[i], model.eq_obj2id[i], model.eq_data[i, :5].copy()) for i in joints]
    return [
        (int(model.jnt_qposadr[one]), int(model.jnt_qposadr[other]), data) for one, other, data in pairs if other >= 0
    ]


def chain_table(built: SceneModel) -> tuple[list[dict[str, Any]], list[float]]:
    """The arm's serial chain as rows for ``SerialChain.from_table``, and the TCP pose [7] in its last frame."""
    model = built.model
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    rows: list[dict[str, Any]] = []
    parent = _NO_MOTION
    for name in built.arm.joints:
        joint = model.joint(name)
        body = joint.bodyid[0]
        here = _pose(data.xpos[body], data.xquat[body])
        pose = pose_multiply(pose_inverse(parent), here)
        lower, upper = joint.range
        rows.append(
            {
                "name": name, "position": pose[:3].tolist(), "quat_xyzw": pose[3:].tolist(),
                "axis": joint.axis.tolist(), "lower_rad": float(lower), "upper_rad": float(upper),
            }
        )  # fmt: skip
        parent = here
    site = model.site(TCP_SITE).id
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, data.site_xmat[site])
    return rows, pose_multiply(pose_inverse(parent), _pose(data.site_xpos[site], quat)).tolist()


def arm_chain(built: SceneModel) -> SerialChain:
    """The arm's kinematics, from the model itself."""
    return SerialChain.from_table(*chain_table(built))


_NO_MOTION = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])


def _pose(position: Array, quat_wxyz: Array) -> Array:
    return np.array([*position, *quat_wxyz[1:], quat_wxyz[0]])
