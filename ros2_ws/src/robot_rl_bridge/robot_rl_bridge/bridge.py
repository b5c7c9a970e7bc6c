"""Node ``bridge``: the one place where ROS and the stack meet.

    python -m robot_rl_bridge.bridge --ros-args -r __ns:=/arm0 -p arm:=sim_panda -p auto_activate:=true

On its ROS side it reads the arm's state and cameras and writes set points at control rate; on its ZMQ side it serves
the Robot contract. Everything that decides is in BridgedArm and below; this file connects topics, services, lifecycle.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Float64, String

from robot_rl.data.streams import Arrivals
from robot_rl.errors import CommandRefusedError, ConfigError, RobotRlError, valid_choices
from robot_rl.robots.server import RobotServer
from robot_rl_bridge.arm_control import HUMAN_S
from robot_rl_bridge.arm_description import JOINTS, TCP, load_arm
from robot_rl_bridge.arm_topics import ArmTopics
from robot_rl_bridge.bridge_services import BridgeServices
from robot_rl_bridge.bridge_status import bridge_status
from robot_rl_bridge.bridged_arm import BridgedArm
from robot_rl_bridge.modes import Mode
from robot_rl_bridge.parameters import Declared, declare
from robot_rl_bridge.ros_commands import RosCommands
from robot_rl_bridge.ros_port import RosPort
from robot_rl_bridge.sensors import Sensors
from robot_rl_bridge.spinning import (
    LATCHED,
    Diagnostics,
    Spinning,
    guard_transitions,
    run,
    stamp_ns,
    status,
)

MODES = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # none is lost in a quick succession
TELEOP = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)  # the newest counts, nothing waits
DEFAULT_ADDRESS = "tcp://127.0.0.1:5600"
PARAMETERS = (
    Declared("arm", "sim_panda", "description of the arm: a name in $ROBOT_RL_SITE or robot_rl_bringup, or a file"),
    Declared("part", "tcp", "what clients command: poses of the TCP or joint positions", choices=("tcp", "joints")),
    Declared("cameras", "all", "of the description that are observed: all, none, or names with commas"),
    Declared("image_px", 0, "height and width of images; 0: as described", low=0, high=4096),
    Declared("objects", "", "that a simulator tells of, with commas: cube_pose, target_position"),
    Declared("address", DEFAULT_ADDRESS, "where clients find the arm; beyond loopback it needs keys"),
    Declared("keys", "", "name of this machine's key pair"),
    Declared("lease_s", 0.25, "a silent client loses the lease to move after it", low=0.05, high=0.25),
    Declared("accept_ros_commands", False, "whether command/* topics and services move the arm"),
    Declared("accept_teleop", True, "whether teleop/target takes over from clients"),
    Declared("reset_confirm", True, "resets of hardware wait for an operator; false waives it"),
    Declared("auto_activate", False, "configure and activate as soon as nothing is missing"),
)


class Bridge(LifecycleNode):
    """Topics, services and lifecycle around a BridgedArm."""

    def __init__(self, spinning: Spinning) -> None:
        super().__init__("bridge")
        guard_transitions(self)
        self._spinning, values = spinning, declare(self, PARAMETERS)
        self._values, self._state, self._told_missing = values, "unconfigured", ""
        self._by_itself: bool = values["auto_activate"]  # until it was active once: what an operator does then stands
        self.description = load_arm(values["arm"]).with_images(values["image_px"])
        cameras = _chosen(values["cameras"], list(self.description.cameras))
        objects = [name.strip() for name in values["objects"].split(",") if name.strip()]
        spec = self.description.env_spec(TCP if values["part"] == "tcp" else JOINTS, cameras, objects)
        self.sensors = Sensors(self.description, cameras, objects)
        self.port = RosPort(self, self.description)
        self._mode = self.create_publisher(DiagnosticStatus, "mode", MODES)
        self._safety = self.create_publisher(DiagnosticStatus, "safety/state", LATCHED)
        self._spec = self.create_publisher(String, "~/spec", LATCHED)
        self.arm = BridgedArm(
            self.description, spec, self.sensors, self.port, listener=self._tell_mode, on_death=spinning.fail,
            confirm=self.description.reset.confirm and values["reset_confirm"],
        )  # fmt: skip
        self.server = RobotServer(self.arm, values["address"], lease_s=values["lease_s"], keys=values["keys"])
        if values["accept_ros_commands"]:
            RosCommands(self, self.arm, self.server)
        self._topics = ArmTopics(self, self.description, self.sensors)
        self._teleop = Arrivals()
        BridgeServices(self, self.arm, self.server, values["accept_ros_commands"], spinning.fail)
        Diagnostics(self, self._diagnose)
        self.create_timer(0.2, self._activate_by_itself)
        spinning.on_fault(lambda cause: self.arm.fail(f"bridge: {cause}"))

    # --- life ---------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Compile the kernels, then tick and serve."""
        reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
        if reach not in ("LOCALHOST", "OFF"):
            self.get_logger().warning(f"discovery reaches beyond this machine (ROS_AUTOMATIC_DISCOVERY_RANGE={reach})")
        self.arm.warm_up()
        self.arm.start()
        self.server.start()
        self.get_logger().info(f"serving {self.description.robot} at {self.server.address}")

    def end(self, fault: str) -> None:
        """Brake, then let go of everything."""
        self.server.close()  # closes the arm as well
        self.arm.close()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open topics and adapters."""
        try:
            self.port.open()
        except RobotRlError as error:
            self.get_logger().error(str(error))
            self._by_itself = False
            return TransitionCallbackReturn.FAILURE
        self._topics.subscribe()
        if self._values["accept_teleop"]:
            self.create_subscription(TwistStamped, "teleop/target", self._on_teleop, TELEOP)
            self.create_subscription(Float64, "teleop/gripper", self._on_teleop_gripper, TELEOP)
        arm = json.loads(json.dumps(asdict(self.description)))
        self._spec.publish(String(data=json.dumps({"spec": self.arm.spec.to_json(), "arm": arm})))
        self._state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Hold the arm where it is measured; refused with a list of what is missing."""
        try:
            self.arm.activate()
        except RobotRlError as error:
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        self._state, self._by_itself = "active", False
        self.get_logger().info(f"ready: {self.description.robot} is active")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Brake, then send nothing."""
        self.arm.deactivate()
        self._state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Topics stay open: a bridge is configured once. Start another process for another arm."""
        self.get_logger().warning("a bridge cannot be unconfigured; end it instead")
        return TransitionCallbackReturn.FAILURE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Brake, and end the process."""
        self.arm.deactivate()
        self._state = "finalized"
        self._spinning.end()
        return TransitionCallbackReturn.SUCCESS

    def _activate_by_itself(self) -> None:
        if not self._by_itself or self._spinning.ending:
            return
        if self._state == "unconfigured":
            self.trigger_configure()
        elif self._state == "inactive" and self.arm.control.modes.mode is Mode.IDLE:
            missing = "; ".join(self.arm.unready())
            if missing and missing != self._told_missing:
                self.get_logger().info(f"waiting: {missing}")
            self._told_missing = missing
            if not missing:
                self.trigger_activate()

    # --- people -------------------------------------------------------------------------------------------------------

    def _on_teleop(self, message: TwistStamped) -> None:
        v, w = message.twist.linear, message.twist.angular
        twist, frame = np.array([v.x, v.y, v.z, w.x, w.y, w.z]), message.header.frame_id
        frame = "base" if frame == self.description.command.frame else frame
        now_ns, wall_ns = time.monotonic_ns(), self.get_clock().now().nanoseconds
        stamp = self._teleop.stamp(stamp_ns(message), wall_ns, now_ns)
        if stamp is None or now_ns - stamp > HUMAN_S * 1e9:
            self.sensors.counts["teleop: a velocity without a stamp, or one too old"] += 1
            return
        self._hear(lambda: self.arm.control.human.hear(twist, frame, now_ns))

    def _on_teleop_gripper(self, message: Float64) -> None:
        self._hear(lambda: self.arm.control.human.hear_opening(message.data, time.monotonic_ns()))

    def _hear(self, take: Callable[[], None]) -> None:
        try:
            take()
        except CommandRefusedError as error:
            self.sensors.counts[f"teleop: {error.what}"[:80]] += 1

    # --- what is told -------------------------------------------------------------------------------------------------

    def _tell_mode(self, mode: Mode, cause: str) -> None:
        level = DiagnosticStatus.ERROR if mode is Mode.FAULT else DiagnosticStatus.OK
        self._mode.publish(status("mode", level, str(mode), [("cause", cause)]))
        if mode in (Mode.FAULT, Mode.HOLDING) and cause:
            self.get_logger().warning(f"{mode}: {cause}")

    def _diagnose(self) -> list[DiagnosticStatus]:
        name, told = self.get_fully_qualified_name(), self._topics.mismatches
        *parts, safety = bridge_status(name, self._state, self.arm, self.server, told)
        self._safety.publish(safety)
        return [*parts, safety]


def _chosen(names: str, known: list[str]) -> list[str]:
    if names in ("all", "none", ""):
        return known if names == "all" else []
    chosen = [name.strip() for name in names.split(",")]
    for name in chosen:
        if name not in known:
            raise ConfigError(f"no camera '{name}'", remedy=valid_choices(name, ["all", "none", *known]))
    return chosen


def main() -> int:
    return run(Bridge)


if __name__ == "__main__":
    sys.exit(main())
