"""robot-rl doctor ros, on graphs with known faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from robot_rl.apps import doctor
from robot_rl.apps.main import main
from robot_rl_bridge.inspection import Stream, misfit, told_of
from tests.ros.graph import Graph, own_domain

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with own_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        graph = Graph(domain)
        yield graph
        graph.close()


def publish(node: Node, topic: str, ahead_s: float) -> None:
    """Joint states at 50 Hz, their clock ``ahead_s``."""
    publisher = node.create_publisher(JointState, topic, 1)

    def send() -> None:
        message = JointState(name=["a"], position=[0.0])
        now = node.get_clock().now().nanoseconds + round(ahead_s * 1e9)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
        publisher.publish(message)

    node.create_timer(0.02, send)


def test_rates_offsets_and_what_does_not_fit(graph: Graph) -> None:
    publish(graph.node, "joint_states", 0.0)
    publish(graph.node, "from_another_clock", 1.5)
    graph.node.create_publisher(String, "words", BEST_EFFORT)
    graph.node.create_subscription(String, "words", lambda message: None, 1)
    graph.node.create_publisher(JointState, "silent", 1)
    found = {each.check: each for each in doctor.check_ros(root=None)}  # type: ignore[arg-type]
    assert found["ROS domain"].level == "ok"
    assert f"test_{graph.domain}" in found["discovery"].told
    assert "Hz" in found["topic /arm0/joint_states"].told
    assert found["clock /arm0/joint_states"].level == "ok"
    assert found["clock /arm0/from_another_clock"].level == "fail"
    assert "chrony" in found["clock /arm0/from_another_clock"].remedy
    assert found["QoS /arm0/words"].level == "fail"
    assert "reliable wanted" in found["QoS /arm0/words"].told
    assert "silent" in found["topic /arm0/silent"].told


def test_the_command_fails_on_what_must_be_fixed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"check": "QoS /x", "level": "fail", "told": "nothing arrives", "remedy": "the same"}
    monkeypatch.setattr(doctor, "_graph", lambda: [doctor.Finding(**told)])
    assert main(["doctor", "ros"]) == 2
    assert "nothing arrives" in capsys.readouterr().out


def test_domains_and_ranges_that_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value, level in (
        ("ROS_DOMAIN_ID", "233", "fail"), ("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF", "warn"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET", "warn"), ("ROS_LOCALHOST_ONLY", "1", "warn"),
    ):  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setenv("ROS_DOMAIN_ID", "1")
            patched.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
            patched.setenv(name, value)
            finding = doctor._reach()
        assert finding.level == level
        assert finding.remedy


def test_qualities_of_service_that_do_not_fit() -> None:
    reliable, latched = QoSProfile(depth=1), QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    assert misfit(BEST_EFFORT, reliable)
    assert misfit(reliable, latched)
    for offered, wanted in ((reliable, BEST_EFFORT), (latched, reliable), (reliable, reliable)):
        assert misfit(offered, wanted) == ""


def test_big_raw_images_are_warned_of() -> None:
    stream = Stream("sensor_msgs/msg/Image", [0.0, 0.1, 0.2], [3.0, 3.0, 3.0], 921_600)
    told = {each.check: each for each in told_of("/front/image_raw", stream)}
    assert told["topic /front/image_raw"].told.startswith("10.0 Hz")
    assert "compressed" in told["images /front/image_raw"].remedy
