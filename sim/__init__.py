"""Simulated robots: MuJoCo scenes and arms, tasks, experts, adapted environments."""

import os
import sys

# mujoco chooses its GL library when it is imported; a robot or a server has no display.
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")
