"""Node ``bridge`` over DDS on the simulated Panda: what it tells, what ROS may command, when its services refuse."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from robot_rl.errors import CommandRefusedError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.types import EnvSpec, ResetRequest
from tests.ros.graph import Graph, Process, node_command, own_domain, told

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Running:
    """A simulated arm, its bridge that takes commands of ROS, and a node that hears both."""

    def __init__(self, domain: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        names = ("-r", "__ns:=/arm0", "-p")
        self.sim = Process(node_command("sim_robot", *names, "camera:=none"), domain, "sim_robot")
        given = {"cameras": "none", "objects": "cube_pose", "auto_activate": "true", "accept_ros_commands": "true",
                 "address": self.address}  # fmt: skip
        words = [word for key, value in given.items() for word in ("-p", f"{key}:={value}")]
        self.bridge = Process(node_command("bridge", "-r", "__ns:=/arm0", *words), domain, "bridge")
        self.graph = Graph(domain)
        self.modes = self.graph.hear(DiagnosticStatus, "mode", LATCHED)
        self.graph.hear(PoseStamped, "tcp_pose")
        self.graph.hear(DiagnosticArray, "/diagnostics")
        self.bridge.wait_for("ready")

    def wait_mode(self, mode: str, cause: str = "") -> None:
        def there() -> bool:
            return bool(self.modes) and self.modes[-1].message == mode and cause in self.modes[-1].values[0].value

        self.graph.wait(there, f"mode {mode} {cause}; was {[m.message for m in list(self.modes)[-4:]]}")

    def switch(self, service: str, on: bool) -> Any:
        return self.graph.call(SetBool, service, SetBool.Request(data=on))

    def stamp(self) -> Any:
        return self.graph.node.get_clock().now().to_msg()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with own_domain() as domain:
        pair = Running(domain)
        yield pair
        pair.graph.close()
        codes = pair.bridge.end(), pair.sim.end()
        assert codes == (0, 0), pair.bridge.output


def test_it_tells_its_spec_and_description_to_whoever_joins(running: Running) -> None:
    specs = running.graph.hear(String, "bridge/spec", LATCHED)
    running.graph.wait(lambda: len(specs) > 0, "the spec")
    message = told(specs[-1])
    spec = EnvSpec.from_json(message["spec"])
    assert spec.robot == "sim_panda" and "object/cube_pose" in spec.observation
    assert message["arm"]["command"]["topic"] == "target_pose"


def test_diagnostics_tell_rate_streams_and_mode_once_a_second(running: Running) -> None:
    array = running.graph.next("/diagnostics", lambda m: any(s.name == "/arm0/bridge: control" for s in m.status))
    parts = {entry.name.rpartition(": ")[2]: entry for entry in array.status}
    assert {"control", "joint_states", "gripper", "cube_pose", "safety"} <= set(parts)
    values = {value.key: value.value for value in parts["joint_states"].values}
    assert float(values["rate_hz"]) > 50.0


def test_stop_is_always_served_and_enabling_holds_where_the_arm_is(running: Running) -> None:
    for _ in range(2):
        assert running.graph.call(Trigger, "bridge/stop").success
    assert running.switch("bridge/set_enabled", True).success
    running.wait_mode("holding", "enabled")
    assert running.switch("bridge/pause", True).success
    running.wait_mode("stopped", "paused")
    assert running.switch("bridge/pause", False).success
    running.wait_mode("holding", "resumed")
    assert running.switch("bridge/set_enabled", False).success
    running.wait_mode("stopped", "disabled")


def test_a_pause_ends_no_stop_of_others(running: Running) -> None:
    for paused_before in (False, True):
        assert running.switch("bridge/set_enabled", True).success
        if paused_before:
            assert running.switch("bridge/pause", True).success
        assert running.graph.call(Trigger, "bridge/stop").success
        assert running.switch("bridge/pause", True).success
        running.wait_mode("stopped", "stopped over ROS")
        refused = running.switch("bridge/pause", False)
        assert not refused.success and "stopped over ROS" in refused.message


def test_poses_on_a_topic_move_the_arm_within_its_lease(running: Running) -> None:
    assert running.switch("bridge/set_enabled", True).success
    publisher = running.graph.publisher(PoseStamped, "command/tcp_pose")
    start = running.graph.next("tcp_pose")
    target = PoseStamped(pose=start.pose)
    target.header.frame_id = "base"
    target.pose.position.y += 0.02

    def there() -> bool:
        target.header.stamp = running.stamp()
        publisher.publish(target)
        seen = running.graph.heard["tcp_pose"][-1]
        return abs(seen.pose.position.y - target.pose.position.y) < 0.003

    running.graph.poll(there, "the arm is there")
    with BridgeRobot(running.address, timeout_s=5.0) as client, pytest.raises(CommandRefusedError, match="lease"):
        client.connect()
        target.header.stamp = running.stamp()
        publisher.publish(target)
        client.reset(ResetRequest())
    running.wait_mode("holding")


@pytest.mark.parametrize("what", ["frame", "stamp", "nan"])
def test_a_pose_that_cannot_be_meant_is_refused_and_counted(running: Running, what: str) -> None:
    assert running.switch("bridge/set_enabled", True).success
    publisher = running.graph.publisher(PoseStamped, "command/tcp_pose")
    target = PoseStamped(pose=running.graph.next("tcp_pose").pose)
    target.header.frame_id = "camera" if what == "frame" else "base"
    if what == "nan":
        target.pose.position.x = float("nan")

    def counted(message: DiagnosticArray) -> bool:
        target.header.stamp = running.stamp()
        target.header.stamp.sec -= 5 if what == "stamp" else 0
        publisher.publish(target)
        keys = [v.key for s in message.status if s.name.endswith(": safety") for v in s.values]
        word = {"frame": "in frame 'camera'", "stamp": "with a stamp", "nan": "not finite"}[what]
        return any(key.startswith("command:") and word in key for key in keys)

    running.graph.next("/diagnostics", counted)


def test_a_velocity_of_a_person_takes_over_and_ends_with_its_stream(running: Running) -> None:
    assert running.switch("bridge/set_enabled", True).success
    publisher = running.graph.publisher(TwistStamped, "teleop/target")
    twist = TwistStamped()
    twist.header.frame_id = "base"
    twist.twist.linear.y = -0.05
    start = running.graph.next("tcp_pose").pose.position.y

    def moved() -> bool:
        twist.header.stamp = running.stamp()
        publisher.publish(twist)
        return running.graph.heard["tcp_pose"][-1].pose.position.y < start - 0.02

    running.graph.poll(moved, "the arm moves")
    running.wait_mode("holding", "has not handed back")
    assert running.switch("bridge/pause", True).success
    running.wait_mode("stopped", "paused")
    running.graph.poll(lambda: running.switch("bridge/pause", False).success, "the arm stands and is resumed")
    running.wait_mode("holding", "has not handed back")  # a pause hands nothing back
    assert running.graph.call(Trigger, "episode/hand_back").success
    running.wait_mode("holding", "handed back")


@pytest.mark.parametrize("age_s", [None, 0.4])
def test_a_velocity_without_a_stamp_or_an_old_one_moves_nothing(running: Running, age_s: float | None) -> None:
    assert running.switch("bridge/set_enabled", True).success
    publisher = running.graph.publisher(TwistStamped, "teleop/target")
    twist = TwistStamped()
    twist.header.frame_id = "base"
    twist.twist.linear.y = 0.05
    running.modes.clear()

    def counted(message: DiagnosticArray) -> bool:
        if age_s is not None:
            twist.header.stamp = (running.graph.node.get_clock().now() - Duration(seconds=age_s)).to_msg()
        publisher.publish(twist)
        keys = [v.key for s in message.status if s.name.endswith(": safety") for v in s.values]
        return any(key.startswith("teleop: a velocity without a stamp") for key in keys)

    running.graph.next("/diagnostics", counted)
    assert "teleop" not in [message.message for message in running.modes]


def test_a_deactivated_bridge_stays_so(running: Running) -> None:
    def change(number: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=number))
        return running.graph.call(ChangeState, "bridge/change_state", request).success

    assert change(Transition.TRANSITION_DEACTIVATE)
    running.wait_mode("idle")
    for _ in range(3):  # seconds, in each of which it could have activated itself five times
        running.graph.next("/diagnostics", lambda m: any(s.name == "/arm0/bridge: control" for s in m.status))
    running.wait_mode("idle")
    assert change(Transition.TRANSITION_ACTIVATE)
    running.wait_mode("stopped", "activated")


def test_home_is_reached_by_a_service_and_episode_keys_are_events(running: Running) -> None:
    running.graph.hear(String, "episode/event")
    running.modes.clear()

    def free() -> bool:
        return running.graph.call(Trigger, "bridge/reset_home").success

    running.graph.poll(free, "the lease is free")
    running.graph.wait(lambda: any(m.message == "tracking" for m in running.modes), "the reset has ended")
    assert running.graph.call(Trigger, "episode/success").success
    events = running.graph.heard["episode/event"]
    running.graph.wait(lambda: len(events) > 0, "the event")
    assert told(events[-1])["event"] == "success"
