"""Arguments of the launch files: each name means the same in all of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

YES_NO = ("true", "false")


@dataclass(frozen=True)
class Argument:
    """What `ros2 launch --show-args` shows. Without a default it must be given; without choices it is free."""

    name: str
    default: str | None
    description: str
    choices: tuple[str, ...] = ()


ARM = Argument(
    "arm",
    "sim_panda",
    "which arm; sim_* are simulated here, the others need their driver running",
    ("sim_panda", "sim_ur5e", "fr3", "ur5e"),
)
ARM_FILE = Argument("arm_file", "", "path of a description of an arm of your own, instead of arm")
NAMESPACE = Argument("namespace", "arm0", "namespace of the arm's topics and nodes")
ADDRESS = Argument(
    "address", "tcp://127.0.0.1:5600", "where the bridge serves the Robot contract; beyond this machine it needs keys"
)
TASK = Argument("task", "lift", "option of the group task/: its scene is simulated, its rules judge")
PART = Argument("part", "tcp", "what is commanded: poses of the TCP or joint positions", ("tcp", "joints"))
CAMERAS = Argument("cameras", "all", "cameras of the arm's description that are passed on, by comma; all or none")
OBJECTS = Argument("objects", "cube_pose", "what a simulated arm tells of its scene, by comma, for rules and experts")
DISCOVERY = Argument(
    "discovery",
    "LOCALHOST",
    "who may find these nodes and command the arm; all but LOCALHOST let others in",
    ("LOCALHOST", "SUBNET", "SYSTEM_DEFAULT"),
)
ACCEPT = Argument(
    "accept_ros_commands", "false", "whether ROS command topics and motion services may move the arm", YES_NO
)
RVIZ = Argument("rviz", "false", "whether RViz shows the arm", YES_NO)
PYTHON = Argument(
    "python",
    os.environ.get("ROBOT_RL_PYTHON", sys.executable),
    "Python of robot-rl with the extra learn; may be another than that of ROS",
)
OPTIONS = Argument("options", "", "further key=value of the command, by blanks")
DEVICE = Argument(
    "device",
    "gamepad",
    "what a person steers with; joy: any sensor_msgs/Joy",
    ("keyboard", "gamepad", "spacemouse", "joy"),
)
TELEOP = Argument(
    "device", "gamepad", "who demonstrates; scripted: an expert", ("keyboard", "gamepad", "spacemouse", "scripted")
)
PATH = Argument("path", "", "terminal of the keyboard (as the command tty says in it), or joystick of the gamepad")
NAME = Argument("name", None, "of the dataset that the episodes go to")
EPISODES = Argument("episodes", "10", "how many")
CHECKPOINT = Argument("checkpoint", None, "folder of a trained policy")
MCAP = Argument("mcap", "", "folder for the raw streams as MCAP files; empty: not recorded")

SERVED = (
    ARM,
    ARM_FILE,
    NAMESPACE,
    ADDRESS,
    TASK,
    PART,
    CAMERAS,
    OBJECTS,
    DISCOVERY,
    ACCEPT,
    RVIZ,
)  # of every launch file
