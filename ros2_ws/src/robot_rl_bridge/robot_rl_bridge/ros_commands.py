"""Commands of other ROS nodes: the same arbiter, the same safety chain, one lease with the clients of the server.

Header stamps are the time of the observation that a command answers to; they and the frame are mandatory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, MultiDOFJointTrajectory

from robot_rl.data.streams import Arrivals
from robot_rl.errors import CommandRefusedError, valid_choices
from robot_rl.robots.server import RobotServer
from robot_rl.types import Array, TargetChunk
from robot_rl_bridge.arm_description import TCP
from robot_rl_bridge.bridged_arm import BridgedArm
from robot_rl_bridge.spinning import NEWEST, stamp_ns

CLIENT = "ros"
_SPACING = 0.02  # of a step, by which rows of a chunk may be off it


class RosCommands:
    """Topics command/tcp_pose, command/joint_position and command/chunk of the arm's part."""

    def __init__(self, node: Node, arm: BridgedArm, server: RobotServer) -> None:
        self._node, self._arm, self._server = node, arm, server
        self.counts: Counter[str] = Counter()
        self._arrivals = {name: Arrivals() for name in ("set point", "chunk")}
        kinds = (
            [(PoseStamped, "command/tcp_pose", self._pose), (MultiDOFJointTrajectory, "command/chunk", self._tcp_chunk)]
            if arm.control.part == TCP
            else [(JointState, "command/joint_position", self._joints), (JointTrajectory, "command/chunk", self._chunk)]
        )
        for kind, topic, read in kinds:
            node.create_subscription(kind, topic, self._guarded(read), NEWEST)

    def _guarded(self, read: Callable[[Any], None]) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            try:
                read(message)
            except CommandRefusedError as error:
                self.counts["refused"] += 1
                self._arm.sensors.counts[f"command: {error.what}"[:80]] += 1
                self._node.get_logger().warning(str(error), throttle_duration_sec=1.0)

        return take

    def _pose(self, message: PoseStamped) -> None:
        self._check_frame(message)
        p, q = message.pose.position, message.pose.orientation
        self._send_set_point(message, np.array([[p.x, p.y, p.z, q.x, q.y, q.z, q.w]]))

    def _joints(self, message: JointState) -> None:
        values = dict(zip(message.name, message.position, strict=False))
        self._send_set_point(message, self._by_name([values], list(values)))

    def _send_set_point(self, message: Any, rows: Array) -> None:
        control, now_ns = self._arm.control, time.monotonic_ns()
        stamp = self._stamp("set point", message, now_ns)
        self._send(TargetChunk({control.part: rows}, control.step_at(now_ns), stamp))

    def _tcp_chunk(self, message: MultiDOFJointTrajectory) -> None:
        self._check_frame(message)
        if list(message.joint_names) != ["tcp"]:
            raise CommandRefusedError(f"a chunk for {list(message.joint_names)}", remedy="joint_names: ['tcp']")
        moves = [point.transforms[0] for point in message.points if point.transforms]
        rows = [[t.translation.x, t.translation.y, t.translation.z, t.rotation.x, t.rotation.y, t.rotation.z,
                 t.rotation.w] for t in moves]  # fmt: skip
        self._send_chunk(message, np.array(rows).reshape(-1, 7))

    def _chunk(self, message: JointTrajectory) -> None:
        names = list(message.joint_names)
        rows = [dict(zip(names, point.positions, strict=False)) for point in message.points]
        self._send_chunk(message, self._by_name(rows, names))

    def _send_chunk(self, message: Any, rows: Array) -> None:
        control, now_ns = self._arm.control, time.monotonic_ns()
        stamp, period_ns = self._stamp("chunk", message, now_ns), control.period_ns
        after = np.array([p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points])
        if not len(rows) or len(rows) != len(after):
            raise CommandRefusedError("the chunk is empty, or a point of it is")
        spacing = np.diff(after)
        if len(spacing) and np.abs(spacing - period_ns).max() > _SPACING * period_ns:
            raise CommandRefusedError("points of the chunk are not one step apart", limit=f"{period_ns * 1e-9:.3f} s")
        first = round((stamp + int(after[0]) - control.motion.start_ns) / period_ns) - 1
        self._send(TargetChunk({control.part: rows}, first, stamp))

    def _by_name(self, rows: list[dict[str, float]], names: list[str]) -> Array:
        wanted = self._arm.arm.chain.names
        for name in names:
            if name not in wanted:
                raise CommandRefusedError(f"the arm has no joint '{name}'", remedy=valid_choices(name, wanted))
        lacking = [name for name in wanted if any(name not in row for row in rows)]
        if lacking:
            raise CommandRefusedError(f"the command lacks {', '.join(lacking)}", remedy="Name every joint of the arm")
        return np.array([[row[name] for name in wanted] for row in rows], dtype=np.float64)

    def _check_frame(self, message: Any) -> None:
        frames = ("base", self._arm.arm.command.frame)
        if message.header.frame_id not in frames:
            raise CommandRefusedError(
                f"a command in frame '{message.header.frame_id}'", remedy=f"Valid: {', '.join(dict.fromkeys(frames))}"
            )

    def _stamp(self, kind: str, message: Any, now_ns: int) -> int:
        wall_ns = self._node.get_clock().now().nanoseconds
        stamp = self._arrivals[kind].stamp(stamp_ns(message), wall_ns, now_ns)
        if stamp is None:
            age_s = (wall_ns - stamp_ns(message)) * 1e-9
            raise CommandRefusedError(
                f"a {kind} with a stamp of {age_s:.3f} s ago", limit="-0.005 to 0.5 s, newer than the last"
            )
        return stamp

    def _send(self, chunk: TargetChunk) -> None:
        self._server.lease.take(CLIENT)
        self._arm.command(chunk)
