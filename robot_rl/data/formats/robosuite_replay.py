"""Recorded states of robosuite demonstrations set in the installed robosuite, to see what they looked like.

A demonstration holds MuJoCo states of the model of its day. They are laid over the model of the installed robosuite
joint by joint, by name; bodies without a joint are put where the demonstration's model had them, and objects get the
sizes that they had there, since success may rest on what touches what. Before that the arm is compared link by link:
where it differs, poses would be wrong, so such a file is refused.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.data.formats.robosuite_view import RobosuiteView, quiet_robosuite
from robot_rl.errors import StoreError, valid_choices
from robot_rl.types import Array

_SIZE_OF_JOINT = {"free": (7, 6), "ball": (4, 3), "slide": (1, 1), "hinge": (1, 1)}  # qpos, qvel
_PLACE_TOLERANCE = 1e-4  # m and quaternion components; model files carry six digits
_ARM_BODY = re.compile(r"(robot|gripper|mount|fixed_mount)\d_")


@dataclass(frozen=True)
class _Joint:
    """A joint of the demonstration's model: where its values lie in a recorded state."""

    name: str
    position: slice
    velocity: slice


class RobosuiteReplay:
    """An environment of the installed robosuite that is set to recorded states, never stepped."""

    def __init__(self, env_name: str, robots: Sequence[str], configuration: str | None, cameras: bool) -> None:
        """Raises StoreError where robosuite is missing or knows no such environment or robot."""
        with quiet_robosuite():
            try:
                import robosuite
            except ImportError as error:
                raise StoreError("replaying needs robosuite", remedy="pip install 'robot-rl[sim]'") from error
            if env_name not in robosuite.ALL_ENVIRONMENTS:
                known = valid_choices(env_name, robosuite.ALL_ENVIRONMENTS)
                raise StoreError(f"robosuite {robosuite.__version__} has no environment '{env_name}'", remedy=known)
            more = {"env_configuration": configuration} if configuration else {}
            self.version: str = robosuite.__version__
            with _fixed_sizes():
                self._env: Any = robosuite.make(
                    env_name,
                    robots=list(robots),
                    has_renderer=False,
                    has_offscreen_renderer=cameras,
                    use_camera_obs=False,
                    ignore_done=True,
                    **more,
                )
                self._env.reset()
        self.env_name, self._view = env_name, RobosuiteView(self._env)
        self._joints: list[_Joint] = []
        self._shapes: dict[str, dict[str, str]] = {}  # those compiled in, where they are a demonstration's

    def place(self, model_xml: str) -> None:
        """Take over the scene of a demonstration. Raises StoreError where its arm or joints are others."""
        world = ET.fromstring(model_xml).find("worldbody")
        if world is None:
            raise self._unlike("its model has no worldbody")
        joints = list(_joints_of(world))
        for joint in joints:
            self._joint_name(joint)
        self._joints = joints
        self._reshape(_shapes_of(world))
        for body, top in _bodies_of(world):
            self._place_body(body, top)
        self._env.sim.forward()

    def set_state(self, state: Array) -> None:
        """Put the joints to a recorded state [1 + nq + nv] (time, positions, velocities)."""
        sim = self._env.sim
        nq = sum(joint.position.stop - joint.position.start for joint in self._joints)
        nv = sum(joint.velocity.stop - joint.velocity.start for joint in self._joints)
        if len(state) != 1 + nq + nv:
            raise self._unlike(f"a state has {len(state)} values, its model says {1 + nq + nv}")
        for joint in self._joints:
            name = self._joint_name(joint)
            sim.data.set_joint_qpos(name, _scalar(state[1:][joint.position]))
            sim.data.set_joint_qvel(name, _scalar(state[1 + nq :][joint.velocity]))
        sim.forward()

    def observe(self) -> dict[str, Array]:
        """State observations under our names; poses in the frame of the first arm's base, quaternions xyzw."""
        return self._view.observe(self._seen())

    def base_pose(self, arm: int) -> Array:
        """T_world_base of an arm, [7]."""
        return self._view.base_pose(arm)

    def tcp_pose(self, arm: int) -> Array:
        """T_world_tcp, [7]: the grip site between the fingers."""
        return self._view.tcp_pose(arm, self._seen())

    def succeeded(self) -> bool:
        """Success by the environment's own rule."""
        return bool(self._env._check_success())

    def check_camera(self, camera: str) -> None:
        """Raise StoreError for an unknown camera."""
        known = self._env.sim.model.camera_names
        if camera not in known:
            raise StoreError(f"{self.env_name} has no camera '{camera}'", remedy=valid_choices(camera, known))

    def image(self, camera: str, size_px: int) -> Array:
        """RGB uint8 [size, size, 3] of a camera by robosuite's name."""
        return np.flipud(self._env.sim.render(camera_name=camera, width=size_px, height=size_px)).copy()

    def close(self) -> None:
        self._env.close()

    def _seen(self) -> Mapping[str, Any]:
        return self._env._get_observations(force_update=True)

    def _reshape(self, shapes: dict[str, dict[str, str]]) -> None:
        """Give the geoms of ``shapes`` the sizes and places in their bodies that they had; what rests on these, such as
        bounds of collision, is compiled anew."""
        if shapes == self._shapes:
            return
        model = ET.fromstring(self._env.model.get_xml())
        for geom in model.iter("geom"):
            geom.attrib.update(shapes.get(geom.get("name", ""), {}))
        with quiet_robosuite(), _fixed_sizes():
            self._env.reset_from_xml_string(ET.tostring(model, encoding="unicode"))
        self._shapes = shapes

    def _place_body(self, body: ET.Element, top: bool) -> None:
        model: Any = self._env.sim.model
        name = _current_name(body.get("name", ""), model.body_names)
        place, turn = _numbers(body, "pos", "0 0 0"), _numbers(body, "quat", "1 0 0 0")
        has_joint = body.find("joint") is not None or body.find("freejoint") is not None
        if name is None or (has_joint and not _ARM_BODY.match(name)):
            return  # a decoration, or an object whose state says where it is
        i = model.body_name2id(name)
        if top or not _ARM_BODY.match(name):
            model.body_pos[i], model.body_quat[i] = place, turn
            return
        same_turn = min(np.abs(model.body_quat[i] - turn).max(), np.abs(model.body_quat[i] + turn).max())
        if np.abs(model.body_pos[i] - place).max() > _PLACE_TOLERANCE or same_turn > _PLACE_TOLERANCE:
            raise self._unlike(f"link '{name}' sits at {place.tolist()}, not at {model.body_pos[i].tolist()}")

    def _joint_name(self, joint: _Joint) -> str:
        found = _current_name(joint.name, self._env.sim.model.joint_names)
        if found is None:
            raise self._unlike(f"there is no joint '{joint.name}'")
        return found

    def _unlike(self, what: str) -> StoreError:
        return StoreError(
            f"the demonstration does not fit {self.env_name} of robosuite {self.version}: {what}",
            remedy="Replay it with the robosuite it was recorded with",
        )


@contextmanager
def _fixed_sizes() -> Iterator[None]:
    """robosuite draws the sizes of its objects, until a demonstration tells them, from numpy's global stream: the same
    ones every time, and the stream as it was."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)


def _joints_of(world: ET.Element) -> Iterator[_Joint]:
    """Joints in the order of MuJoCo's state, which is the order of the document."""
    q = v = 0
    for element in world.iter():
        if element.tag not in ("joint", "freejoint"):
            continue
        kind = "free" if element.tag == "freejoint" else element.get("type", "hinge")
        nq, nv = _SIZE_OF_JOINT[kind]
        yield _Joint(element.get("name", ""), slice(q, q + nq), slice(v, v + nv))
        q, v = q + nq, v + nv


def _bodies_of(element: ET.Element, top: bool = True) -> Iterator[tuple[ET.Element, bool]]:
    """Bodies and whether they hang directly in the world."""
    for body in element.findall("body"):
        yield body, top
        yield from _bodies_of(body, top=False)


def _shapes_of(world: ET.Element) -> dict[str, dict[str, str]]:
    """{name: attributes} of the geoms of objects: what is not the arm, nor a mesh, whose size is that of its file."""
    return {
        geom.get("name", ""): {key: geom.get(key, "") for key in ("size", "pos", "quat") if geom.get(key)}
        for body, _ in _bodies_of(world)
        if not _ARM_BODY.match(body.get("name", ""))
        for geom in body.findall("geom")
        if geom.get("name") and not geom.get("mesh")
    }


def _current_name(name: str, choices: Sequence[str]) -> str | None:
    """The name of today: 1.5 put the side of the arm into grippers' names and called mounts fixed mounts."""
    renamed = re.sub(r"^gripper(\d)_", r"gripper\1_right_", name)
    renamed = re.sub(r"^mount(\d)_", r"fixed_mount\1_", renamed)
    return next((candidate for candidate in (renamed, name) if candidate and candidate in choices), None)


def _numbers(element: ET.Element, key: str, default: str) -> Array:
    return np.array([float(value) for value in element.get(key, default).split()])


def _scalar(values: Array) -> Any:
    return values[0] if len(values) == 1 else values
