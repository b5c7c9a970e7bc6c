"""The simulated arm as a ROS graph sees it: a real process, real DDS, real physics in real time."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

import cv2
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, JointState
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

from tests.ros.graph import Graph, Process, node_command, own_domain, told

HOME = np.array([0.48, 0.0, 0.2])


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    """A Panda over the cube, and the test's node."""
    with own_domain() as domain:
        process = Process(node_command("sim_robot", "-r", "__ns:=/arm0", "-p", "image_px:=64"), domain)
        try:
            process.wait_for("ready")
            graph = Graph(domain)
            for kind, topic in (
                (JointState, "joint_states"), (JointState, "gripper/state"), (PoseStamped, "tcp_pose"),
                (String, "sim/extremes"), (String, "sim/reset_result"), (String, "fault"),
                (PoseStamped, "object/cube/pose"), (CompressedImage, "front/image_raw/compressed"),
                (CameraInfo, "front/camera_info"),
            ):  # fmt: skip
                qos = None if "image" not in topic and "camera" not in topic else _images()
                graph.hear(kind, topic, *([qos] if qos else []))
            yield graph
            graph.close()
            assert process.end() == 0, process.output
        finally:
            process.kill()


def _images() -> Any:
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    return QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)


def position(message: PoseStamped) -> np.ndarray:
    p = message.pose.position
    return np.array([p.x, p.y, p.z])


def stamp_s(message: Any) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def target(x: float, y: float, z: float) -> PoseStamped:
    message = PoseStamped()
    message.header.frame_id = "base"
    p = message.pose.position
    p.x, p.y, p.z = float(x), float(y), float(z)
    message.pose.orientation.x, message.pose.orientation.w = 1.0, 0.0  # tool down
    return message


def stream(publisher: Any, path: Callable[[float], Any], seconds: float, period_s: float = 0.01) -> None:
    """Publish ``path`` of the time since the start, at 100 Hz; where this process stalls, later, but without a jump."""
    ticker = threading.Event()
    for step in range(round(seconds / period_s)):
        publisher.publish(path(step * period_s))
        ticker.wait(period_s)


def ease(t: float) -> float:
    """From 0 to 1 in one second, from rest to rest (minimum jerk)."""
    s = min(t, 1.0)
    return 10 * s**3 - 15 * s**4 + 6 * s**5


def extremes_from_now(graph: Graph) -> Callable[[], dict[str, Any]]:
    """Later: what the plant did meanwhile, over all messages."""
    graph.next("sim/extremes")
    graph.heard["sim/extremes"].clear()

    def collect() -> dict[str, Any]:
        graph.wait(lambda: len(graph.heard["sim/extremes"]) > 1, "extremes")
        all_of_them = [told(message) for message in graph.heard["sim/extremes"]]
        names = [name for name, value in all_of_them[0].items() if isinstance(value, float)]
        return {name: max(extremes[name] for extremes in all_of_them) for name in names}

    return collect


def test_states_come_at_their_rate_with_stamps_of_the_moment_they_show(graph: Graph) -> None:
    graph.heard["joint_states"].clear()
    graph.wait(lambda: len(graph.heard["joint_states"]) >= 100, "100 joint states")
    messages = list(graph.heard["joint_states"])
    assert messages[0].name == [f"joint{i}" for i in range(1, 8)]
    stamps = np.array([stamp_s(message) for message in messages])
    np.testing.assert_allclose(np.median(np.diff(stamps)), 0.008, atol=0.001)  # 125 Hz
    assert (np.diff(stamps) > 0).all()

    def age_s() -> float:
        stamp = stamp_s(graph.next("joint_states"))
        return graph.node.get_clock().now().nanoseconds * 1e-9 - stamp

    graph.poll(lambda: -0.005 < age_s() < 0.25, "a state that is heard at once")


def test_a_camera_shows_the_cube_and_tells_its_geometry(graph: Graph) -> None:
    message = graph.next("front/image_raw/compressed")
    image = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.shape == (64, 64, 3)
    assert message.header.frame_id == "front_optical"
    red = (image[..., 2].astype(int) - image[..., 1] > 60) & (image[..., 2].astype(int) - image[..., 0] > 60)
    assert red.any()
    info = graph.next("front/camera_info")
    # 40 degrees over 64 px: f = 32 / tan(20 deg)
    np.testing.assert_allclose([info.k[0], info.k[4]], 87.92, atol=0.01)
    np.testing.assert_allclose([info.k[2], info.k[5]], 31.5)


def test_a_streamed_pose_is_followed_within_what_was_streamed(graph: Graph) -> None:
    publisher = graph.publisher(PoseStamped, "target_pose")
    start = position(graph.next("tcp_pose"))
    collect = extremes_from_now(graph)
    stream(publisher, lambda t: target(start[0], start[1] + 0.1 * ease(t), start[2]), 1.2)
    reached = graph.next("tcp_pose", lambda m: abs(position(m)[1] - start[1] - 0.1) < 2e-3)
    np.testing.assert_allclose(position(reached) - start, [0.0, 0.1, 0.0], atol=3e-3)
    # minimum jerk over 0.1 m in 1 s: 0.1875 m/s, 0.58 m/s^2; a busy machine streams more slowly, and not as evenly
    seen = collect()
    assert 0.02 < seen["speed_m_s"] < 0.35
    assert seen["acceleration_m_s2"] < 8.0


def test_silence_brings_the_arm_to_rest_and_a_stream_that_begins_elsewhere_is_refused(graph: Graph) -> None:
    publisher = graph.publisher(PoseStamped, "target_pose")
    start = position(graph.next("tcp_pose"))
    collect = extremes_from_now(graph)
    stream(publisher, lambda t: target(start[0], start[1] - 0.2 * t * min(t / 0.3, 1.0), start[2]), 0.6)
    graph.next("sim/extremes", lambda m: told(m)["speed_m_s"] < 0.005)
    seen = collect()
    assert 0.01 < seen["speed_m_s"] < 0.5
    assert seen["acceleration_m_s2"] < 8.0
    rest = position(graph.next("tcp_pose"))
    assert rest[1] > start[1] - 0.2 * 0.6  # it never went beyond where the stream would be at constant speed
    refused = told(graph.next("sim/extremes"))["counts"].get("refused", 0)
    stream(publisher, lambda t: target(rest[0], rest[1] + 0.3, rest[2]), 0.3)
    after = told(graph.next("sim/extremes"))
    assert after["counts"]["refused"] > refused
    np.testing.assert_allclose(position(graph.next("tcp_pose")), rest, atol=2e-3)


@pytest.mark.parametrize("what", ["nan", "frame", "quaternion"])
def test_what_is_no_pose_moves_nothing(graph: Graph, what: str) -> None:
    publisher = graph.publisher(PoseStamped, "target_pose")
    rest = position(graph.next("tcp_pose"))
    message = target(rest[0] + 0.02, rest[1], rest[2])
    if what == "nan":
        message.pose.position.x = float("nan")
    elif what == "frame":
        message.header.frame_id = "world"
    else:
        message.pose.orientation.x = 0.5
    before = told(graph.next("sim/extremes"))["counts"].get("malformed", 0)
    stream(publisher, lambda t: message, 0.1)
    graph.next("sim/extremes", lambda m: told(m)["counts"].get("malformed", 0) > before)
    np.testing.assert_allclose(position(graph.next("tcp_pose")), rest, atol=1e-3)


def test_the_gripper_closes(graph: Graph) -> None:
    publisher = graph.publisher(Float64, "gripper/command")
    publisher.publish(Float64(data=0.0))
    graph.next("gripper/state", lambda m: m.position[0] < 0.05)
    publisher.publish(Float64(data=1.0))
    graph.next("gripper/state", lambda m: m.position[0] > 0.95)


def reset(graph: Graph, **request: Any) -> dict[str, Any]:
    publisher = graph.publisher(String, "sim/reset")
    graph.heard["sim/reset_result"].clear()
    publisher.publish(String(data=json.dumps(request)))
    graph.wait(lambda: len(graph.heard["sim/reset_result"]) > 0, "the result of the reset")
    return told(graph.heard["sim/reset_result"][-1])


def test_a_reset_places_objects_and_leaves_the_arm(graph: Graph) -> None:
    rest = position(graph.next("tcp_pose"))
    pose = [0.55, -0.08, 0.02, 0.0, 0.0, 0.0, 1.0]
    done = reset(graph, number=7, joint_position=None, simulator_state={"object/cube_pose": pose}, gripper_opening=1.0)
    assert done == {"number": 7, "ok": True, "error": ""}
    np.testing.assert_allclose(position(graph.next("object/cube/pose")), pose[:3], atol=2e-3)
    np.testing.assert_allclose(position(graph.next("tcp_pose")), rest, atol=2e-3)


def test_a_reset_with_joints_puts_the_arm_there(graph: Graph) -> None:
    home = [0.0, 0.00762964, 0.0, -2.44792045, 0.0, 2.45555009, 0.7853981633974483]
    done = reset(graph, number=8, joint_position=home, simulator_state={}, gripper_opening=0.5)
    assert done["ok"]
    np.testing.assert_allclose(position(graph.next("tcp_pose")), HOME, atol=2e-3)


@pytest.mark.parametrize("state", [{"object/ball_pose": [0.5, 0, 0.02, 0, 0, 0, 1]}, {"object/cube_pose": [0.5]}])
def test_a_reset_that_does_not_exist_is_told(graph: Graph, state: dict[str, Any]) -> None:
    done = reset(graph, number=9, joint_position=None, simulator_state=state, gripper_opening=1.0)
    assert not done["ok"]
    assert done["error"]


def test_garbage_is_no_reset(graph: Graph) -> None:
    publisher = graph.publisher(String, "sim/reset")
    for text in ("", "[]", "{", '{"number": 3}', '{"number": 3, "simulator_state": 4}'):
        graph.heard["sim/reset_result"].clear()
        publisher.publish(String(data=text))
        graph.wait(lambda: len(graph.heard["sim/reset_result"]) > 0, "the result of the reset")
        assert not told(graph.heard["sim/reset_result"][-1])["ok"]


def test_an_arm_at_fault_holds_until_it_is_recovered(graph: Graph) -> None:
    publisher = graph.publisher(PoseStamped, "target_pose")
    rest = position(graph.next("tcp_pose"))
    assert graph.set_parameter("sim_robot", "inject", "arm_fault")
    graph.next("fault", lambda m: m.data.startswith("reflex"))
    stream(publisher, lambda t: target(rest[0] + 0.02 * ease(2 * t), rest[1], rest[2]), 0.5)
    np.testing.assert_allclose(position(graph.next("tcp_pose")), rest, atol=1e-3)
    assert graph.set_parameter("sim_robot", "inject", "")
    assert graph.call(Trigger, "sim_robot/recover").success
    graph.next("fault", lambda m: not m.data)
    stream(publisher, lambda t: target(rest[0] + 0.02 * ease(2 * t), rest[1], rest[2]), 0.7)
    graph.next("tcp_pose", lambda m: abs(position(m)[0] - rest[0] - 0.02) < 2e-3)


def test_injected_silence_and_frozen_images(graph: Graph) -> None:
    assert graph.set_parameter("sim_robot", "inject", "camera_frozen")
    first = graph.next("front/image_raw/compressed")
    second = graph.next("front/image_raw/compressed")
    assert bytes(first.data) == bytes(second.data)
    assert stamp_s(first) < stamp_s(second)
    assert graph.set_parameter("sim_robot", "inject", "joint_states_silent")

    def silent() -> bool:
        """Whether none came with ten other messages; those of before may still be on their way."""
        graph.heard["joint_states"].clear()
        for _ in range(10):
            graph.next("tcp_pose")
        return not graph.heard["joint_states"]

    graph.poll(silent, "no joint states")
    assert graph.set_parameter("sim_robot", "inject", "")
    graph.next("joint_states")
    assert not graph.set_parameter("sim_robot", "inject", "nonsense")


def test_joints_are_followed_by_an_arm_that_takes_joints() -> None:
    arguments = ["-r", "__ns:=/arm0", "-p", "arm:=sim_ur5e", "-p", "camera:=none"]
    with own_domain() as domain:
        process = Process(node_command("sim_robot", *arguments), domain)
        graph = Graph(domain)
        try:
            process.wait_for("ready")
            graph.hear(JointState, "joint_states")
            graph.hear(String, "sim/extremes")
            publisher = graph.publisher(Float64MultiArray, "forward_position_controller/commands")
            start = list(graph.next("joint_states").position)
            collect = extremes_from_now(graph)
            stream(publisher, lambda t: Float64MultiArray(data=[start[0] + 0.15 * ease(t), *start[1:]]), 1.2)
            graph.next("joint_states", lambda m: abs(m.position[0] - start[0] - 0.15) < 2e-3)
            assert collect()["joint_acceleration_rad_s2"] < 7.5
            assert process.end(signal.SIGTERM) == 0, process.output
        finally:
            graph.close()
            process.kill()


def test_a_parameter_out_of_range_is_refused_with_its_name() -> None:
    with own_domain() as domain:
        process = Process(node_command("sim_robot", "-p", "state_rate_hz:=1000"), domain)
        assert process.child.wait(timeout=60) == 2
        process.kill()
        assert "state_rate_hz" in process.output
        assert "Traceback" not in process.output
