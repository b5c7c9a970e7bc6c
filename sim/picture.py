"""Pictures of the tasks for the README: ``python -m sim.picture lift sim/docs/lift.jpg``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from robot_rl.errors import ConfigError, valid_choices
from robot_rl.types import ResetRequest
from sim.cameras import CameraRig, Profile, SceneCamera, encode_jpeg
from sim.mujoco_robot import MujocoRobot
from sim.scene import Scene, SceneObject, Shape

_VIEW = SceneCamera("view", (1.35, -0.75, 0.75), (0.35, 0.0, 0.22), fovy_deg=42.0, height=360, width=480)
_SCENES = {
    "lift": (
        Scene([SceneObject("cube", Shape.BOX, (0.02, 0.02, 0.02), position_m=(0.52, -0.06, 0.02))]),
        {"object/cube_pose": np.array([0.52, -0.06, 0.02, 0.0, 0.0, 0.3, 0.954])},
    ),
    "reach": (
        Scene([SceneObject("target", Shape.SPHERE, (0.015,), rgba=(0.15, 0.65, 0.3, 1.0), marker=True)]),
        {"object/target_position": np.array([0.55, -0.15, 0.25])},
    ),
}


def draw(task: str) -> bytes:
    """JPEG of a start of ``task``, 480 x 360 pixels. Raises ConfigError for a task without a scene here."""
    if task not in _SCENES:
        raise ConfigError(f"no picture of task '{task}'", remedy=valid_choices(task, _SCENES))
    scene, start = _SCENES[task]
    rig = CameraRig([_VIEW], profile=Profile.FULL)
    with MujocoRobot(scene, cameras=rig) as robot:
        robot.reset(ResetRequest(simulator_state=start))
        assert robot.renderer is not None
        return encode_jpeg(robot.renderer.pixels(robot.physics.data)["view"], quality=88)


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(draw(sys.argv[1]))
