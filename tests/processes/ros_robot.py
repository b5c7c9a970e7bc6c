"""A process that serves the fake robot over ROS 2 topics and services of standard messages, and the client of it.

It proves that the Robot contract fits ROS: observation k is a bundle of messages with one stamp, a plan is a trajectory
stamped with the observation it was made from, stop and reset are services. The bridge node grows from this shape.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from geometry_msgs.msg import PoseStamped, Transform
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint

from robot_rl.errors import CommandRefusedError, RobotConnectionError, RobotRlError
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.clock import WallClock
from robot_rl.types import CommandReport, EnvSpec, Observation, Phase, ResetRequest, TargetChunk

NEWEST = QoSProfile(depth=1)  # reliable, keep last: newest wins, nothing stale is queued
_STATE = {"arm0/joint_position": "position", "arm0/joint_velocity": "velocity"}


def _stamp(message: Any, stamp_ns: int) -> Any:
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
    message.header.frame_id = "base"
    return message


def _stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def _pose(message: Any, values: Any) -> Any:
    p, q = message.pose.position, message.pose.orientation
    p.x, p.y, p.z, q.x, q.y, q.z, q.w = (float(v) for v in values)
    return message


def _pose_values(message: Any) -> np.ndarray:
    p, q = message.pose.position, message.pose.orientation
    return np.array([p.x, p.y, p.z, q.x, q.y, q.z, q.w])


class RosFakeRobot(Node):
    """The serving side."""

    def __init__(self) -> None:
        super().__init__("fake_robot")
        self.robot = FakeRobot(clock="wall")
        self.spec = self.robot.connect()
        self.step_of_stamp: dict[int, int] = {}
        self.refusal = ""
        self.lock = threading.Lock()  # services run beside the publishing timer
        self.declare_parameter("reset_tcp_pose", [0.0] * 7)
        self.joints = self.create_publisher(JointState, "joint_states", NEWEST)
        self.tcp = self.create_publisher(PoseStamped, "tcp_pose", NEWEST)
        self.executed = self.create_publisher(PoseStamped, "executed/tcp_pose", NEWEST)
        self.gripper = self.create_publisher(JointState, "gripper/state", NEWEST)
        self.mode = self.create_publisher(DiagnosticStatus, "mode", NEWEST)
        self.create_subscription(MultiDOFJointTrajectory, "command/chunk", self.on_chunk, NEWEST)
        self.create_service(Trigger, "stop", self.on_stop)
        self.create_service(Trigger, "reset_home", self.on_reset)
        self.create_timer(1e-9 * self.spec.step_period_ns / 2, self.publish)

    def publish(self) -> None:
        with self.lock:
            observation = self.robot.read()
        stamp = observation.stamp_ns
        self.step_of_stamp[stamp] = observation.step
        joints = JointState(name=[f"joint{i}" for i in range(7)])
        for name, field in _STATE.items():
            setattr(joints, field, [float(v) for v in observation.state[name]])
        self.joints.publish(_stamp(joints, stamp))
        self.tcp.publish(_stamp(_pose(PoseStamped(), observation.state["arm0/tcp_pose"]), stamp))
        opening = [float(observation.state["arm0/gripper_opening"][0])]
        report = observation.report
        if report is not None:
            self.executed.publish(_stamp(_pose(PoseStamped(), report.executed["arm0/tcp"]), stamp))
            opening.append(float(report.executed["arm0/gripper"][0]))
        gripper = JointState(name=["measured", "executed"][: len(opening)], position=opening)
        self.gripper.publish(_stamp(gripper, stamp))
        values = {"stamp_ns": stamp, "step": observation.step, "refusal": self.refusal}
        if report is not None:
            values |= {"report_step": report.step, "source": int(report.source), "valid": int(report.valid)}
        status = DiagnosticStatus(name="mode", message=observation.mode)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        self.mode.publish(status)

    def on_chunk(self, message: MultiDOFJointTrajectory) -> None:
        stamp = _stamp_ns(message)
        late = message.points[0].time_from_start
        skipped = round((late.sec * 10**9 + late.nanosec) / self.spec.step_period_ns)
        tcp, gripper = [], []
        for point in message.points:
            move, opening = point.transforms
            t, q = move.translation, move.rotation
            tcp.append([t.x, t.y, t.z, q.x, q.y, q.z, q.w])
            gripper.append([opening.translation.x])
        targets = {"arm0/tcp": np.array(tcp), "arm0/gripper": np.array(gripper)}
        try:
            with self.lock:
                first = self.step_of_stamp[stamp] + skipped
                self.robot.command(TargetChunk(targets, first, stamp, frame="base"))
            self.refusal = ""
        except (RobotRlError, KeyError) as error:  # an error that leaves a callback ends the node
            self.refusal = str(error)

    def on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self.lock:
            self.robot.stop()
        response.success = True
        return response

    def on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        pose = np.array(self.get_parameter("reset_tcp_pose").value)
        with self.lock:
            self.step_of_stamp.clear()
            self.robot.reset(ResetRequest(tcp_pose=pose if pose.any() else None))
        response.success = True
        return response


class RosRobot:
    """The Robot contract on the client's side of those topics."""

    def __init__(self, timeout_s: float = 10.0) -> None:
        self.timeout_s = timeout_s
        self.clock = WallClock()
        self._spec = FakeRobot().connect()
        self._context: rclpy.Context | None = None
        self._latest: dict[str, Any] = {}
        self._newest: Observation | None = None
        self._steps: dict[int, int] = {}
        self._changed = threading.Condition(threading.RLock())
        self._stopped = True

    def connect(self) -> EnvSpec:
        """Wait for the node's services and its first bundle."""
        if self._context is not None:
            return self._spec
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = Node("client", context=self._context)
        for name, kind in (
            ("joint_states", JointState), ("tcp_pose", PoseStamped), ("executed/tcp_pose", PoseStamped),
            ("gripper/state", JointState), ("mode", DiagnosticStatus),
        ):  # fmt: skip
            self._node.create_subscription(kind, name, lambda message, name=name: self._keep(name, message), NEWEST)
        self._chunk = self._node.create_publisher(MultiDOFJointTrajectory, "command/chunk", NEWEST)
        self._services = {name: self._node.create_client(Trigger, name) for name in ("stop", "reset_home")}
        self._parameters = self._node.create_client(SetParameters, "fake_robot/set_parameters")
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        for client in (*self._services.values(), self._parameters):
            if not client.wait_for_service(timeout_sec=self.timeout_s):
                raise RobotConnectionError(f"no service '{client.srv_name}'", limit=f"{self.timeout_s} s")
        self._wait(lambda seen: self._chunk.get_subscription_count() > 0)
        return self._spec

    def read(self) -> Observation:
        """The newest complete bundle."""
        return self._wait(lambda seen: self.clock.now_ns() - seen.stamp_ns < 2 * self._spec.step_period_ns)

    def command(self, chunk: TargetChunk) -> None:
        """Publish the plan; what ROS cannot tell is checked here: mode and finite values."""
        if self._stopped:
            raise CommandRefusedError("robot is stopped", remedy="Reset it first")
        if not all(np.isfinite(value).all() for value in chunk.targets.values()):
            raise CommandRefusedError("targets are not finite")
        message = _stamp(MultiDOFJointTrajectory(joint_names=list(chunk.targets)), chunk.stamp_ns)
        ahead = chunk.first_step - self._steps[chunk.stamp_ns]
        for i in range(chunk.length):
            move, opening = Transform(), Transform()
            values = [float(v) for v in chunk.targets["arm0/tcp"][i]]
            move.translation.x, move.translation.y, move.translation.z = values[:3]
            move.rotation.x, move.rotation.y, move.rotation.z, move.rotation.w = values[3:]
            opening.translation.x = float(chunk.targets["arm0/gripper"][i, 0])
            point = MultiDOFJointTrajectoryPoint(transforms=[move, opening])
            after_ns = (ahead + i) * self._spec.step_period_ns
            point.time_from_start.sec, point.time_from_start.nanosec = divmod(after_ns, 10**9)
            message.points.append(point)
        self._chunk.publish(message)

    def reset(self, request: ResetRequest) -> Observation:
        """Set the start as a parameter, then call the service and wait for the first bundle after it."""
        pose = [0.0] * 7 if request.tcp_pose is None else [float(v) for v in request.tcp_pose]
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE_ARRAY, double_array_value=pose)
        start = ParameterMessage(name="reset_tcp_pose", value=value)
        self._call(self._parameters, SetParameters.Request(parameters=[start]))
        self._call(self._services["reset_home"], Trigger.Request())
        self._stopped = False
        return self._after_now("tracking")

    def stop(self) -> None:
        """Call the stop service; returns when the robot says so."""
        self._stopped = True
        self._call(self._services["stop"], Trigger.Request())
        self._after_now("stopped")

    def close(self) -> None:
        """Stop and leave the graph, in the order that lets rclpy end cleanly; idempotent."""
        if self._context is None:
            return
        self.stop()
        self._executor.shutdown()
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)
        self._context = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return

    def _keep(self, name: str, message: Any) -> None:
        with self._changed:
            self._latest[name] = message
            observation = self._bundle()
            if observation is not None:
                self._newest = observation
                self._steps[observation.stamp_ns] = observation.step
                self._changed.notify_all()

    def _bundle(self) -> Observation | None:
        """The observation of the latest messages, if they carry one stamp."""
        if not {"joint_states", "tcp_pose", "gripper/state", "mode"} <= self._latest.keys():
            return None
        joints, tcp, gripper, mode = (self._latest[n] for n in ("joint_states", "tcp_pose", "gripper/state", "mode"))
        told = {entry.key: entry.value for entry in mode.values}
        stamp = int(told["stamp_ns"])
        if any(_stamp_ns(message) != stamp for message in (joints, tcp, gripper)):
            return None
        report = None
        if "report_step" in told:
            if _stamp_ns(self._latest.get("executed/tcp_pose", PoseStamped())) != stamp:
                return None
            executed = {
                "arm0/tcp": _pose_values(self._latest["executed/tcp_pose"]),
                "arm0/gripper": np.array([gripper.position[1]]),
            }
            valid = told["valid"] == "1"
            report = CommandReport(
                int(told["report_step"]), Phase(int(told["source"])), executed, executed, valid=valid
            )
        state = {name: np.array(getattr(joints, field), np.float32) for name, field in _STATE.items()}
        state["arm0/tcp_pose"] = _pose_values(tcp).astype(np.float32)
        state["arm0/tcp_velocity"] = np.zeros(6, np.float32)
        state["arm0/gripper_opening"] = np.array(gripper.position[:1], np.float32)
        return Observation(int(told["step"]), stamp, state, report=report, mode=mode.message)

    def _after_now(self, mode: str) -> Observation:
        """The first bundle stamped after this moment in which the robot is in ``mode``."""
        now = self.clock.now_ns()
        return self._wait(lambda seen: seen.stamp_ns > now and seen.mode == mode)

    def _wait(self, condition: Callable[[Observation], bool]) -> Observation:
        with self._changed:
            met = self._changed.wait_for(lambda: self._newest is not None and condition(self._newest), self.timeout_s)
            if not met or self._newest is None:
                raise RobotConnectionError("no fitting observation over ROS", limit=f"{self.timeout_s} s")
            return self._newest

    def _call(self, client: Any, request: Any) -> None:
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(self.timeout_s):
            raise RobotConnectionError(f"no answer from '{client.srv_name}'", limit=f"{self.timeout_s} s")


def main() -> None:
    rclpy.init()
    node = RosFakeRobot()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
