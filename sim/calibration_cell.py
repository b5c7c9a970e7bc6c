"""Cameras that look at a ChArUco board on the simulated arm or its table: images whose true transforms are known."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import mujoco
import numpy as np

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.geometry import matrix_from_rotvec, quat_xyzw_from_matrix
from robot_rl.types import Array
from sim.arms.arm import Arm
from sim.arms.panda import panda
from sim.cameras import Profile
from sim.lens import Lens
from sim.offscreen import Offscreen
from sim.scene import TCP_SITE, Scene, arm_chain, build_scene

_NEAR_M, _FAR_M = 0.01, 10.0
_SQUARE_PX = 64
_BACKING_M, _BORDER_M = 0.003, 0.01
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # optical axes to MuJoCo's camera, and board axes to those of a plane


@dataclass(frozen=True)
class MountedCamera:
    """A camera whose optical frame is at ``position_m``, turned by ``rotvec_rad``, in the frame of the TCP when
    ``on_hand``, else of the base."""

    position_m: Sequence[float]
    rotvec_rad: Sequence[float]
    on_hand: bool = True
    lens: Lens = field(default_factory=Lens)

    @property
    def transform(self) -> Array:
        """T_tcp_camera or T_base_camera [4, 4]."""
        return _transform(self.position_m, self.rotvec_rad)


@dataclass(frozen=True)
class MountedBoard:
    """A ChArUco board; its frame has its origin at the outer corner of the first square, x along the columns, y down
    the rows, z into the print."""

    position_m: Sequence[float]
    rotvec_rad: Sequence[float]
    on_hand: bool = False
    columns: int = 8
    rows: int = 6
    square_m: float = 0.03
    marker_m: float = 0.022
    dictionary: str = "DICT_5X5_100"
    legacy: bool = False

    @property
    def transform(self) -> Array:
        """T_base_board or T_tcp_board [4, 4]."""
        return _transform(self.position_m, self.rotvec_rad)

    def picture(self) -> Array:
        """What is printed, RGB uint8. Raises ConfigError for an unknown dictionary."""
        import cv2

        names = [name for name in dir(cv2.aruco) if name.startswith("DICT_")]
        if self.dictionary not in names:
            raise ConfigError(f"dictionary '{self.dictionary}'", remedy=valid_choices(self.dictionary, names))
        dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, self.dictionary))
        board = cv2.aruco.CharucoBoard((self.columns, self.rows), self.square_m, self.marker_m, dictionary)
        board.setLegacyPattern(self.legacy)
        grey = board.generateImage((_SQUARE_PX * self.columns, _SQUARE_PX * self.rows))
        return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


class CalibrationCell:
    """An arm (a Panda unless given) with ``cameras`` by name and ``boards`` by name; draws what a camera sees at joint
    positions that are given to it. Raises RobotError where nothing can be drawn."""

    def __init__(
        self,
        cameras: Mapping[str, MountedCamera],
        boards: Mapping[str, MountedBoard],
        arm: Arm | None = None,
        seed: int = 0,
    ) -> None:
        self.arm, self.cameras, self.boards = arm or panda(), dict(cameras), dict(boards)
        fixtures = [_Camera(name, camera) for name, camera in cameras.items()]
        fixtures += [BoardFixture(name, board) for name, board in boards.items()]
        built = build_scene(Scene(), self.arm, fixtures, look=Profile.FAST)
        self.chain = arm_chain(built)
        self._model, self._data = built.model, mujoco.MjData(built.model)
        self._fingers = [int(built.model.joint(name).qposadr[0]) for name in self.arm.fingers]
        self._rng = np.random.default_rng(seed)
        built.model.vis.map.znear = _NEAR_M / built.model.stat.extent
        built.model.vis.map.zfar = _FAR_M / built.model.stat.extent
        sizes = [camera.lens.ideal_size for camera in cameras.values()]
        height, width = np.max(sizes, axis=0, initial=1)
        self._canvas = Offscreen(built.model, int(height), int(width), shadows=False, reflections=False, sites=False)

    def draw(self, camera: str, joint_position: Array) -> Array:
        """RGB uint8 [h, w, 3] of the arm at its true joint positions [n] rad, with fresh noise. Raises ConfigError for
        an unknown camera."""
        if camera not in self.cameras:
            raise ConfigError(f"no camera '{camera}'", remedy=valid_choices(camera, self.cameras))
        self._place(joint_position)
        mujoco.mj_camlight(self._model, self._data)
        lens = self.cameras[camera].lens
        ideal = self._canvas.colour(self._data, self._model.camera(camera).id, *lens.ideal_size)
        return lens.apply(np.ascontiguousarray(ideal), self._rng)

    def T_base_tcp(self, joint_position: Array) -> Array:
        """True pose [4, 4] of the TCP at joint positions [n] rad."""
        self._place(joint_position)
        site = self._model.site(TCP_SITE).id
        transform = np.eye(4)
        transform[:3, :3] = self._data.site_xmat[site].reshape(3, 3)
        transform[:3, 3] = self._data.site_xpos[site]
        return transform

    def T_camera_board(self, camera: str, board: str, joint_position: Array) -> Array:
        """True pose [4, 4] of a board in the optical frame of a camera."""
        T_base_tcp = self.T_base_tcp(joint_position)
        seer, seen = self.cameras[camera], self.boards[board]
        in_base = [T_base_tcp @ thing.transform if thing.on_hand else thing.transform for thing in (seer, seen)]
        return np.linalg.inv(in_base[0]) @ in_base[1]

    def close(self) -> None:
        """Release the graphics memory."""
        self._canvas.close()

    def _place(self, joint_position: Array) -> None:
        self._data.qpos[: len(self.arm.joints)] = joint_position
        self._data.qpos[self._fingers] = self.arm.finger_closed
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)


def _transform(position_m: Sequence[float], rotvec_rad: Sequence[float]) -> Array:
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = matrix_from_rotvec(list(rotvec_rad)), position_m
    return transform


def _pos_quat(transform: Array) -> dict[str, list[float]]:
    x, y, z, w = quat_xyzw_from_matrix(transform[:3, :3]).tolist()
    return {"pos": transform[:3, 3].tolist(), "quat": [w, x, y, z]}


def _parent(spec: mujoco.MjSpec, arm: Arm, on_hand: bool) -> tuple[mujoco.MjsBody, Array]:
    """The body that carries a fixture, and the frame in it that the fixture's transform refers to."""
    if not on_hand:
        return spec.worldbody, np.eye(4)
    w, x, y, z = arm.tcp_quat_wxyz
    tcp = np.eye(4)
    mujoco.mju_quat2Mat(flat := np.empty(9), np.array([w, x, y, z]))
    tcp[:3, :3] = flat.reshape(3, 3)
    return spec.body(arm.tcp_body), tcp


@dataclass(frozen=True)
class _Camera:
    name: str
    camera: MountedCamera

    def add_to(self, spec: mujoco.MjSpec, arm: Arm) -> None:
        body, frame = _parent(spec, arm, self.camera.on_hand)
        where = _pos_quat(frame @ self.camera.transform @ _FLIP)
        body.add_camera(name=self.name, fovy=self.camera.lens.fovy_deg, **where)


@dataclass(frozen=True)
class BoardFixture:
    """A board in a scene, of that name; only seen."""

    name: str
    board: MountedBoard

    def add_to(self, spec: mujoco.MjSpec, arm: Arm) -> None:
        body, frame = _parent(spec, arm, self.board.on_hand)
        picture = self.board.picture()
        half = 0.5 * np.array([self.board.columns, self.board.rows]) * self.board.square_m
        centre = np.eye(4)
        centre[:2, 3] = half
        here = frame @ self.board.transform @ centre @ _FLIP
        texture = spec.add_texture(
            name=self.name, type=mujoco.mjtTexture.mjTEXTURE_2D, nchannel=3, height=len(picture), width=len(picture[0])
        )
        texture.data = picture.tobytes()
        material = spec.add_material(name=self.name, specular=0.0, emission=0.4)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = self.name
        plain = {"contype": 0, "conaffinity": 0, "mass": 0.0}
        # a mesh of two triangles: a plane may not move, and a box shows its texture on every side
        x, y = half
        mesh = spec.add_mesh(name=self.name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL)
        mesh.uservert = [-x, -y, 0.0, x, -y, 0.0, x, y, 0.0, -x, y, 0.0]
        mesh.userface = [0, 1, 2, 0, 2, 3]
        mesh.usertexcoord = [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]
        body.add_geom(
            name=self.name, type=mujoco.mjtGeom.mjGEOM_MESH, meshname=self.name, material=self.name,
            **_pos_quat(here), **plain,
        )  # fmt: skip
        behind = np.eye(4)
        behind[2, 3] = -_BACKING_M
        body.add_geom(
            name=f"{self.name}_backing", type=mujoco.mjtGeom.mjGEOM_BOX, rgba=[0.95, 0.95, 0.95, 1.0],
            size=[*(half + _BORDER_M), 0.5 * _BACKING_M], **_pos_quat(here @ behind), **plain,
        )  # fmt: skip
