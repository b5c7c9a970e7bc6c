"""What can be measured of an arm and the objects around it: one compiled call writes one row, names are parts of it."""

# pyright: reportAttributeAccessIssue=false
# (mujoco ships no type information)
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controllers.bound import Bound, bind
from controllers.compiled import kernel
from controllers.kinematics import ChainArrays, solve_chain
from robot_rl.types import Array, Arrays, ArraySpec
from sim.arms.arm import Arm
from sim.physics import Physics
from sim.scene import Scene

_FREE, _PLACED, _MARKER = range(3)


class Sources(NamedTuple):
    """Where the numbers come from; the arrays of MjData are the simulator's own."""

    chain: ChainArrays
    q: Array  # [n] rad
    dq: Array  # [n] rad/s
    qpos: Array
    mocap_pos: Array  # [m, 3]
    mocap_quat: Array  # [m, 4] wxyz
    upright: Array  # [4] rotation of the TCP that its quaternion stays near
    fingers: Array  # [f] addresses in qpos
    fingers_closed: Array  # [f] m or rad
    fingers_travel: Array  # [f] from closed to open
    objects: Array  # [k, 2] how it is placed, and its address in qpos or number among the mocap bodies
    pose: Array  # [7], scratch
    jacobian: Array  # [6, n], scratch


class Measurement:
    """Reads the true state of ``physics`` by observation name."""

    def __init__(self, physics: Physics, chain: ChainArrays) -> None:
        built, data, model = physics.built, physics.data, physics.model
        arm, scene = built.arm, built.scene
        fingers = [int(model.joint(name).qposadr[0]) for name in arm.fingers]
        places = [
            (_FREE, built.object_qpos[thing.name])
            if thing.free
            else (_MARKER if thing.marker else _PLACED, built.object_mocap[thing.name])
            for thing in scene.objects
        ]
        closed = np.array(arm.finger_closed, dtype=np.float64)
        self._sources = bind(
            Sources(
                chain, physics.arm.q, physics.arm.dq, data.qpos, data.mocap_pos, data.mocap_quat,
                np.array(arm.upright_quat_xyzw, dtype=np.float64), np.array(fingers, dtype=np.int64), closed,
                np.array(arm.finger_open, dtype=np.float64) - closed,
                np.array(places, dtype=np.int64).reshape(-1, 2), np.empty(7), np.empty((6, built.dof)),
            )
        )  # fmt: skip
        specs = observation_specs(scene, arm)
        ends = np.cumsum([spec.shape[0] for spec in specs.values()]).tolist()
        self._parts = {
            name: slice(end - spec.shape[0], end) for (name, spec), end in zip(specs.items(), ends, strict=True)
        }
        self._size = ends[-1]
        self._described = {
            thing.observation: np.array(thing.quat_xyzw, dtype=np.float32)
            for thing in scene.objects
            if not thing.marker
        }

    def read(self, before: Arrays | None = None) -> dict[str, Array]:
        """The state by observation name, float32.

        The TCP's quaternion is the one near the upright tool, that of an object the one near its last in ``before``, or
        near that of the scene's description: streams of them have no jumps.
        """
        row = np.empty(self._size, dtype=np.float32)
        _measure(self._sources, row)
        state = {name: row[part] for name, part in self._parts.items()}
        for name, described in self._described.items():
            quat = state[name][3:]
            if quat @ (described if before is None else before[name][3:]) < 0.0:
                np.negative(quat, out=quat)
        return state


def observation_specs(scene: Scene, arm: Arm) -> dict[str, ArraySpec]:
    """What a ``Measurement`` reads, in its order."""
    joints = arm.joints
    specs = {
        "arm0/joint_position": ArraySpec((len(joints),), unit="rad", names=joints),
        "arm0/joint_velocity": ArraySpec((len(joints),), unit="rad/s", names=joints),
        "arm0/tcp_pose": ArraySpec((7,), unit="m, quat_xyzw", frame="base"),
        "arm0/tcp_velocity": ArraySpec((6,), unit="m/s, rad/s", frame="base"),
        "arm0/gripper_opening": ArraySpec((1,), unit="opening"),
    }
    for thing in scene.objects:
        shape, unit = ((3,), "m") if thing.marker else ((7,), "m, quat_xyzw")
        specs[thing.observation] = ArraySpec(shape, unit=unit, frame="base", privileged=True)
    return specs


@kernel
def _measure(bound: Bound, row: Array) -> None:
    """Write all of ``observation_specs`` into ``row``."""
    sources = bound.parts
    n = sources.q.shape[0]
    row[:n] = sources.q
    row[n : 2 * n] = sources.dq
    _measure_tcp(sources, row[2 * n :])
    row[2 * n + 13] = _opening(sources)
    place = 2 * n + 14
    for kind, address in sources.objects:
        place += _measure_object(sources, kind, address, row[place:])


@kernel
def _measure_tcp(sources: Sources, out: Array) -> None:
    """Pose [7] and velocity [6] of the TCP."""
    pose, jacobian = sources.pose, sources.jacobian
    solve_chain(sources.chain, sources.q, pose, jacobian)
    along = 0.0
    for i in range(4):
        along += pose[3 + i] * sources.upright[i]
    sign = -1.0 if along < 0.0 else 1.0
    for i in range(3):
        out[i] = pose[i]
    for i in range(3, 7):
        out[i] = sign * pose[i]
    for i in range(6):
        speed = 0.0
        for joint in range(sources.dq.shape[0]):
            speed += jacobian[i, joint] * sources.dq[joint]
        out[7 + i] = speed


@kernel
def _opening(sources: Sources) -> float:
    """Mean of the fingers, 0 closed to 1 open."""
    total = 0.0
    for finger in range(len(sources.fingers)):
        travelled = sources.qpos[sources.fingers[finger]] - sources.fingers_closed[finger]
        total += travelled / sources.fingers_travel[finger]
    return min(max(total / len(sources.fingers), 0.0), 1.0)


@kernel
def _measure_object(sources: Sources, kind: int, address: int, out: Array) -> int:
    """Pose [7] of an object or position [3] of a marker; returns the count of numbers."""
    if kind == _MARKER:
        for i in range(3):
            out[i] = sources.mocap_pos[address, i]
        return 3
    if kind == _PLACED:
        position, quat_wxyz = sources.mocap_pos[address], sources.mocap_quat[address]
    else:
        position, quat_wxyz = sources.qpos[address : address + 3], sources.qpos[address + 3 : address + 7]
    for i in range(3):
        out[i] = position[i]
        out[3 + i] = quat_wxyz[1 + i]
    out[6] = quat_wxyz[0]
    return 7
