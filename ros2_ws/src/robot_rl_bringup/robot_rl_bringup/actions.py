"""What the launch files are made of: an arm behind its bridge, and commands of the stack beside it.

Whatever ends brings the rest down: an arm whose bridge or policy is gone is not left running. Launch interrupts every
process (SIGINT), which ends all of them with exit code 0.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# (launch is not on PyPI; it comes with a ROS installation)
from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from robot_rl_bringup.arguments import Argument

Values = Mapping[str, str]
GRACE_S = "15"  # from SIGINT to SIGTERM: episodes are saved, arms come to rest
# of the ROS process, and wrong in another Python: its packages, and the mark that the wheels' library paths are set
_FOREIGN = ("PYTHONPATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE")


def described(arguments: Sequence[Argument], start: Callable[[Values], Sequence[Any]]) -> LaunchDescription:
    """A launch description with these arguments; ``start`` makes the actions of their values."""

    def opened(context: LaunchContext) -> list[Any]:
        values = {entry.name: LaunchConfiguration(entry.name).perform(context) for entry in arguments}
        return [*_discovery(values), *start(values)]

    return LaunchDescription([*map(_declared, arguments), OpaqueFunction(function=opened)])


def arm(values: Values, folder: Path, scene: str = "", camera: str = "front_wrist", image_px: int = 0) -> list[Any]:
    """The bridge of an arm, and the arm itself where it is simulated; ``folder`` is that of the package's files. A
    simulated arm stands in ``scene`` (empty: that of the task), seen by ``camera`` in images of ``image_px`` (0: as
    described)."""
    simulated = not values["arm_file"] and values["arm"].startswith("sim_")
    actions = []
    if simulated:
        camera = "none" if values["cameras"] == "none" else camera
        stage = {"task": values["task"], "scene": scene, "camera": camera, "image_px": image_px}
        actions.append(node(values, "sim_robot", arm=values["arm"], **stage))
    actions.append(
        node(
            values, "bridge", arm=values["arm_file"] or values["arm"], address=values["address"], part=values["part"],
            cameras=values["cameras"], image_px=image_px if simulated else 0,
            objects=values["objects"] if simulated else "", auto_activate=simulated,
            accept_ros_commands=values["accept_ros_commands"] == "true",
        )
    )  # fmt: skip
    if values["rviz"] == "true":
        view = ["-d", str(folder / "rviz" / "arm.rviz")]
        actions.append(Node(package="rviz2", executable="rviz2", namespace=values["namespace"], arguments=view))
        if simulated:  # RViz shows nothing in a frame that nobody tells of; the driver of a real arm does
            frames = ["--frame-id", "world", "--child-frame-id", "base"]
            actions.append(Node(package="tf2_ros", executable="static_transform_publisher", arguments=frames))
    return actions


def node(values: Values, executable: str, **parameters: Any) -> Any:
    """A node of robot_rl_bridge in the arm's namespace."""
    # without its type launch would read a word as YAML: a name such as 007 or no would be none
    given = {name: ParameterValue(value, value_type=type(value)) for name, value in parameters.items()}
    return Node(
        package="robot_rl_bridge", executable=executable, name=executable, namespace=values["namespace"],
        parameters=[given], output="screen", emulate_tty=True, sigterm_timeout=GRACE_S,
        on_exit=Shutdown(reason=f"{executable} has ended"),
    )  # fmt: skip


def command(values: Values, name: str, *words: str) -> Any:
    """A command of robot-rl in the Python that has torch, which is not the one that ROS runs in."""
    unset = [word for variable in _FOREIGN for word in ("-u", variable)]
    python = [values["python"], "-m", "robot_rl_bringup.command"]
    return ExecuteProcess(
        cmd=["env", *unset, *python, name, *words, *shlex.split(values["options"])], name=f"robot-rl {name}",
        output="screen", emulate_tty=True, sigterm_timeout=GRACE_S,
        on_exit=Shutdown(reason=f"robot-rl {name} has ended"),
    )  # fmt: skip


def bridged(values: Values) -> list[str]:
    """The words that connect a command to the bridge."""
    return ["robot=bridge", f"robot.address={values['address']}"]


def _declared(entry: Argument) -> Any:
    return DeclareLaunchArgument(
        entry.name, default_value=entry.default, description=entry.description, choices=list(entry.choices) or None
    )


def _discovery(values: Values) -> list[Any]:
    found = values["discovery"]
    actions: list[Any] = [SetEnvironmentVariable("ROS_AUTOMATIC_DISCOVERY_RANGE", found)]
    if found != "LOCALHOST":
        warning = f"WARNING: discovery:={found}: other machines can find these nodes and command the arm"
        actions.append(LogInfo(msg=warning))
    return actions
