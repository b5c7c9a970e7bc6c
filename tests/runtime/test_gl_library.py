"""A machine without EGL, as containers are: physics runs, a camera ends in one line. EGL is hidden from the process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
HIDDEN = """
import ctypes
load = ctypes.CDLL.__init__
def without_gl(self, name, *args, **kwargs):
    if name and ("EGL" in str(name) or "OSMesa" in str(name)):
        raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *args, **kwargs)
ctypes.CDLL.__init__ = without_gl
from robot_rl.errors import RobotError
from robot_rl.types import ResetRequest
from sim.cameras import CameraRig, SceneCamera
from sim.mujoco_robot import MujocoRobot
from sim.scene import Scene
with MujocoRobot(Scene()) as robot:
    print(robot.reset(ResetRequest()).mode)
try:
    MujocoRobot(Scene(), cameras=CameraRig([SceneCamera("front", (1, 0, 1), (0, 0, 0))])).connect()
except RobotError as error:
    print(error)
"""


def test_without_a_gl_library_physics_runs_and_cameras_say_what_to_install():
    environment = {name: value for name, value in os.environ.items() if name != "MUJOCO_GL"}
    command = [sys.executable, "-c", HIDDEN]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    lines = result.stdout.splitlines()
    assert lines[0] == "tracking", result.stderr
    assert "MUJOCO_GL=disable" in lines[1]
    assert "libegl1" in lines[1]
