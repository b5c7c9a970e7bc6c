"""What an environment of the installed robosuite looks like under our names: replayed demonstrations and the adapted
simulator see the same, so that a policy trained on one runs in the other.

Poses are those of the grip site between the fingers and of objects, in the frame of the arm's base (objects: of the
first arm's), quaternions xyzw.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from robot_rl.geometry import (
    pose_inverse,
    pose_multiply,
    quat_xyzw_conjugate,
    quat_xyzw_from_matrix,
    quat_xyzw_rotate,
)
from robot_rl.types import Array, ArraySpec

_UNITS = {
    "joint_position": "rad",
    "joint_velocity": "rad/s",
    "tcp_velocity": "m/s, rad/s",
    "gripper_opening": "opening",
    "angle": "rad",
    "position": "m",
}


class RobosuiteView:
    """Reads ``env``, an environment of robosuite, which may compile its model anew at every reset."""

    def __init__(self, env: Any) -> None:
        self._env, self.arms = env, len(env.robots)

    @property
    def objects(self) -> list[str]:
        """Objects whose pose is known."""
        names = self._env.observation_names
        return [name for name in self._placed() if f"{name}_quat" in names]

    def observe(self, seen: Mapping[str, Any]) -> dict[str, Array]:
        """Our state observations from robosuite's ``seen`` of the present, float64."""
        found: dict[str, Any] = {}
        for i in range(self.arms):
            found[f"arm{i}/joint_position"] = seen[f"robot{i}_joint_pos"]
            found[f"arm{i}/joint_velocity"] = seen[f"robot{i}_joint_vel"]
            found[f"arm{i}/tcp_pose"] = pose_multiply(pose_inverse(self.base_pose(i)), self.tcp_pose(i, seen))
            found[f"arm{i}/tcp_velocity"] = self.tcp_velocity(i)
            found[f"arm{i}/gripper_opening"] = [self.opening(i, seen)]
        base = pose_inverse(self.base_pose(0))
        for name in self._placed():
            if f"{name}_pos" not in seen:
                continue  # switched off, as the objects are that a single-object task leaves out
            known = f"{name}_quat" in seen
            pose = np.concatenate((seen[f"{name}_pos"], seen[f"{name}_quat"] if known else (0.0, 0.0, 0.0, 1.0)))
            pose = pose_multiply(base, pose)
            found[f"object/{name}_{'pose' if known else 'position'}"] = pose if known else pose[:3]
        for key in sorted(seen):
            if key.endswith("_qpos") and not key.startswith("robot"):
                found[f"object/{key.removesuffix('_qpos')}_angle"] = seen[key]
        return {name: np.asarray(value, dtype=np.float64).reshape(-1) for name, value in found.items()}

    def base_pose(self, arm: int) -> Array:
        """T_world_base of an arm, [7]."""
        data, name = self._env.sim.data, f"robot{arm}_base"
        return np.concatenate((data.get_body_xpos(name), quat_xyzw_from_matrix(data.get_body_xmat(name))))

    def tcp_pose(self, arm: int, seen: Mapping[str, Any]) -> Array:
        """T_world_tcp, [7]: the grip site between the fingers."""
        return np.concatenate((seen[f"robot{arm}_eef_pos"], seen[f"robot{arm}_eef_quat_site"]))

    def tcp_velocity(self, arm: int) -> Array:
        """Twist of the grip site, linear m/s and angular rad/s, [6], in the frame of the arm's base."""
        import mujoco

        env, robot = self._env, self._env.robots[arm]
        spatial = np.zeros(6)  # angular first, in world axes
        kind: Any = mujoco.mjtObj.mjOBJ_SITE  # type: ignore[attr-defined]
        site, model, data = robot.eef_site_id[robot.arms[0]], env.sim.model._model, env.sim.data._data
        mujoco.mj_objectVelocity(model, data, kind, site, spatial, 0)  # type: ignore[attr-defined]
        to_base = quat_xyzw_conjugate(self.base_pose(arm)[3:])
        return np.concatenate((quat_xyzw_rotate(to_base, spatial[3:]), quat_xyzw_rotate(to_base, spatial[:3])))

    def opening(self, arm: int, seen: Mapping[str, Any]) -> float:
        """0 closed to 1 open: mean share of the fingers' travel."""
        travel = np.abs(list(self.finger_travel(arm).values()))
        return float(np.clip(np.mean(np.abs(seen[f"robot{arm}_gripper_qpos"]) / travel), 0.0, 1.0))

    def finger_travel(self, arm: int) -> dict[str, float]:
        """Position of each finger joint when the gripper is open [m or rad]; closed is 0."""
        model = self._env.sim.model
        gripper = next(iter(self._env.robots[arm].gripper.values()))
        ranges = {name: model.jnt_range[model.joint_name2id(name)] for name in gripper.joints}
        return {name: float(limits[np.abs(limits).argmax()]) for name, limits in ranges.items()}

    def _placed(self) -> list[str]:
        names = [name.removesuffix("_pos") for name in self._env.observation_names if name.endswith("_pos")]
        return sorted(name for name in names if "_to_" not in name and not name.startswith("robot"))


def view_spec(name: str, value: Array, arms: int) -> ArraySpec:
    """The spec of an observation of a RobosuiteView with that many arms."""
    kind = name.rpartition("_")[2] if name.startswith("object/") else name.rpartition("/")[2]
    placed = kind in ("pose", "position", "tcp_pose", "tcp_velocity")
    unit = "m, quat_xyzw" if kind.endswith("pose") else _UNITS[kind]
    frame = ("base" if name.startswith("arm") or arms == 1 else "arm0/base") if placed else ""
    return ArraySpec(value.shape, unit=unit, frame=frame, privileged=name.startswith("object/"))


@contextmanager
def quiet_robosuite() -> Iterator[None]:
    """Without robosuite's advice on optional parts that are not needed here, nor its choice of the GL library."""
    previous, library = logging.root.manager.disable, os.environ.get("MUJOCO_GL")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
        if library is not None:
            os.environ["MUJOCO_GL"] = library
