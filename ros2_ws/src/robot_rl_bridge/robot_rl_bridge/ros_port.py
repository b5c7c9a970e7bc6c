"""The way to the arm over ROS: what is sent at control rate, what it says of itself, a simulator's resets."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from std_msgs.msg import Float64, Float64MultiArray, String

from robot_rl.errors import ResetError
from robot_rl.types import ResetRequest
from robot_rl_bridge.adapters import make_adapter
from robot_rl_bridge.arm_description import ArmDescription
from robot_rl_bridge.arm_state import SetPoint
from robot_rl_bridge.spinning import EVENTS, NEWEST, stamped

_GRIPPER_S = 0.1  # at least so often
_GRIPPER_CHANGE = 1e-3


class RosPort:
    """Publishers, adapters and the simulator's reset of one arm; opened by ``open``."""

    def __init__(self, node: Node, arm: ArmDescription) -> None:
        self._node, self._arm = node, arm
        self._adapters: dict[str, Any] = {}
        self._command: Any = None
        self._gripper: Any = None
        self._reset: Any = None
        self._last_opening, self._opened_s = -1.0, 0.0
        self._answered = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = time.time_ns()  # of resets; another bridge's answers are none of ours

    def open(self) -> None:
        """Create adapters and publishers, each once however often that fails. Raises ConfigError."""
        arm, node = self._arm, self._node
        for role, options in arm.adapters.items():
            if role not in self._adapters:
                more = {"value": arm.gripper.value} if role == "gripper" else {}
                self._adapters[role] = make_adapter(node, role, options, **more)
        if self._command is not None:
            return
        kind = PoseStamped if arm.command.interface == "tcp_pose" else Float64MultiArray
        self._command = node.create_publisher(kind, arm.command.topic, NEWEST)
        if arm.gripper.command_topic:
            self._gripper = node.create_publisher(Float64, arm.gripper.command_topic, NEWEST)
        if arm.reset.by == "simulator":
            self._reset = node.create_publisher(String, "sim/reset", EVENTS)
            node.create_subscription(String, "sim/reset_result", self._on_reset_result, EVENTS)

    def send(self, point: SetPoint) -> None:
        """Publish a set point; the gripper's when it changed, and now and then."""
        if self._arm.command.interface == "tcp_pose":
            message = stamped(PoseStamped(), self._node.get_clock().now().nanoseconds, self._arm.command.frame)
            p, q = message.pose.position, message.pose.orientation
            p.x, p.y, p.z, q.x, q.y, q.z, q.w = point.pose.tolist()
        else:
            message = Float64MultiArray(data=point.joints.tolist())
        self._command.publish(message)
        if "gripper" in self._adapters:
            self._adapters["gripper"].command(point.opening)
        now_s = time.monotonic()
        moved = abs(point.opening - self._last_opening) > _GRIPPER_CHANGE
        if self._gripper is not None and (moved or now_s - self._opened_s > _GRIPPER_S):
            self._gripper.publish(Float64(data=self._arm.gripper.value(point.opening)))
            self._last_opening, self._opened_s = point.opening, now_s

    def fault(self) -> str:
        """What the arm, or its controller manager, says is wrong."""
        told = (self._adapters[role].fault() for role in ("fault", "controller_switch") if role in self._adapters)
        return "; ".join(filter(None, told))

    def missing(self) -> list[str]:
        """Nobody listens, an adapter is not there, the arm has a fault."""
        if self._command is None:
            return ["the bridge is not configured"]
        found = []
        for publisher in (self._command, self._gripper, self._reset):
            if publisher is not None and publisher.get_subscription_count() == 0:
                found.append(f"nobody listens on '{publisher.topic_name}'")
        adapters = {role: adapter.missing() for role, adapter in self._adapters.items()}
        found += [f"{role}: {missing}" for role, missing in adapters.items() if missing]
        if not self._arm.simulated and "fault" not in self._arm.adapters:
            found.append("the description names no adapters.fault")
        if fault := self.fault():
            found.append(f"the arm says '{fault}'")
        return found

    def recover(self) -> None:
        """Start what clears the arm's own fault, and what brings its controller back; the arm's state is the answer."""
        for role in ("recovery", "controller_switch"):
            if role in self._adapters and self.fault() and not (role == "recovery" and self._adapters[role].missing()):
                self._adapters[role].recover()

    def reset_simulator(self, request: ResetRequest, timeout_s: float) -> None:
        """Ask the simulated arm, and wait for its word. Raises ResetError."""
        self._number += 1
        joints = self._arm.home if request.tcp_pose is None else None
        joints = joints if request.joint_position is None else request.joint_position
        wanted = {
            "number": self._number,
            "joint_position": None if joints is None else [float(v) for v in joints],
            "tcp_pose": None if request.tcp_pose is None else [float(v) for v in request.tcp_pose],
            "simulator_state": {
                name: [float(v) for v in value.ravel()] for name, value in request.simulator_state.items()
            },
            "gripper_opening": float(request.gripper_opening),
            "seed": int(request.seed),
        }
        self._reset.publish(String(data=json.dumps(wanted)))
        with self._answered:
            if not self._answered.wait_for(lambda: self._number in self._answers, timeout_s):
                raise ResetError("the simulated arm did not answer", limit=f"{timeout_s:.1f} s")
            answer = self._answers.pop(self._number)
        if not answer.get("ok"):
            raise ResetError(f"the simulated arm: {answer.get('error', 'no reason given')}")

    def _on_reset_result(self, message: String) -> None:
        try:
            answer = json.loads(message.data)
            number = int(answer["number"])
        except (ValueError, TypeError, KeyError):
            return  # not an answer to us
        with self._answered:
            self._answers = {number: answer}
            self._answered.notify_all()
