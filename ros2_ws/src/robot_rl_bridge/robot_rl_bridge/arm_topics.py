"""The arm's topics: every message goes, stamped at receipt, into its Sensors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, JointState

from robot_rl_bridge.arm_description import ArmDescription
from robot_rl_bridge.sensors import ARM, GRIPPER_STATE, Sensors
from robot_rl_bridge.spinning import IMAGES, stamp_ns

STATE = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)  # fits every publisher


class ArmTopics:
    """Subscriptions of ``node`` that feed ``sensors``; ``mismatches`` counts publishers whose QoS does not fit."""

    def __init__(self, node: Node, arm: ArmDescription, sensors: Sensors) -> None:
        self._node, self._arm, self._sensors = node, arm, sensors
        self.mismatches: dict[str, int] = {}

    def subscribe(self) -> None:
        """Begin to listen."""
        arm = self._arm
        self._listen(JointState, arm.joint_states_topic, self._on_joints, STATE)
        if arm.gripper.state_topic != arm.joint_states_topic:
            self._listen(JointState, arm.gripper.state_topic, self._on_gripper, STATE)
        if arm.external_torque_topic:
            self._listen(JointState, arm.external_torque_topic, self._on_external, STATE)
        for name in self._sensors.frames:
            self._listen(CompressedImage, arm.cameras[name].topic, self._on_picture(name), IMAGES)
        for name in self._sensors.samples:
            if name not in (ARM, GRIPPER_STATE):
                self._listen(PoseStamped, f"object/{name.rsplit('_', 1)[0]}/pose", self._on_object(name), STATE)

    def _listen(self, kind: Any, topic: str, callback: Callable[[Any], None], qos: QoSProfile) -> None:
        def mismatch(event: Any) -> None:
            self.mismatches[topic] = event.total_count
            self._node.get_logger().error(f"a publisher of '{topic}' has a QoS that does not fit")

        self._node.create_subscription(
            kind, topic, callback, qos, event_callbacks=SubscriptionEventCallbacks(incompatible_qos=mismatch)
        )

    def _stamps(self, message: Any) -> tuple[int, int, int]:
        """Header, this clock and the monotonic one at receipt [ns]."""
        return stamp_ns(message), self._node.get_clock().now().nanoseconds, time.monotonic_ns()

    def _on_joints(self, message: JointState) -> None:
        stamps, n = self._stamps(message), len(message.name)
        if len(message.position) == n:
            speeds = message.velocity if len(message.velocity) == n else [float("nan")] * n
            values = zip(message.position, speeds, strict=True)
            self._sensors.joints(dict(zip(message.name, values, strict=True)), *stamps)
        if self._arm.gripper.state_topic == self._arm.joint_states_topic:
            self._on_gripper(message)

    def _on_gripper(self, message: JointState) -> None:
        value = dict(zip(message.name, message.position, strict=False)).get(self._arm.gripper.joint)
        if value is not None:
            self._sensors.gripper(value, *self._stamps(message))

    def _on_external(self, message: JointState) -> None:
        self._sensors.external(dict(zip(message.name, message.effort, strict=False)), *self._stamps(message))

    def _on_picture(self, name: str) -> Callable[[CompressedImage], None]:
        return lambda message: self._sensors.picture(name, bytes(message.data), *self._stamps(message))

    def _on_object(self, name: str) -> Callable[[PoseStamped], None]:
        return lambda message: self._sensors.thing(name, pose_values(message), *self._stamps(message))


def pose_values(message: PoseStamped) -> list[float]:
    """Position and quaternion [7] of a stamped pose."""
    p, q = message.pose.position, message.pose.orientation
    return [p.x, p.y, p.z, q.x, q.y, q.z, q.w]
