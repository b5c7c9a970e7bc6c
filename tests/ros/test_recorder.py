"""The node recorder as a real process: what is published ends up in a file that other people's readers open."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

from diagnostic_msgs.msg import DiagnosticArray
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String

from robot_rl.errors import ConfigError
from robot_rl_bridge.mcap_file import McapFile, definition
from robot_rl_bridge.mcap_messages import ABOUT, END
from tests.ros.graph import Graph, Process, node_command, own_domain

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
IMAGES = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
COUNT = 50


def decoded(path: Path) -> list[tuple[str, Any, Any]]:
    """(topic, message record, decoded message) in order, by mcap-ros2-support."""
    with path.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        return [(channel.topic, record, message) for _, channel, record, message in reader.iter_decoded_messages()]


def publish_all(graph: Graph) -> None:
    """A latched description, 50 joint states, an image, an event, and something of another namespace."""
    latched = graph.node.create_publisher(String, "bridge/spec", LATCHED)
    latched.publish(String(data="{}"))
    joints = graph.publisher(JointState, "joint_states", QoSProfile(depth=100))
    image = graph.publisher(CompressedImage, "front/image_raw/compressed", IMAGES)
    event = graph.publisher(String, "episode/event")
    other = graph.node.create_publisher(String, "/elsewhere/words", 1)
    other.publish(String(data="not ours"))
    for number in range(COUNT):
        state = JointState(name=["a", "b"], position=[float(number), 0.5])
        now = graph.node.get_clock().now().nanoseconds - 3_000_000  # measured 3 ms ago
        state.header.stamp.sec, state.header.stamp.nanosec = divmod(now, 10**9)
        joints.publish(state)
    image.publish(CompressedImage(format="jpeg", data=b"\xff\xd8" + bytes(40_000)))
    event.publish(String(data='{"event": "success"}'))
    diagnostics = graph.hear(DiagnosticArray, "/diagnostics")

    def recorded(array: DiagnosticArray) -> bool:
        values = {entry.key: entry.value for each in array.status for entry in each.values}
        return int(values.get("messages", 0)) >= COUNT + 3

    graph.wait(lambda: any(map(recorded, diagnostics)), "everything was recorded")


@pytest.fixture(scope="module", params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def recording(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    with own_domain() as domain:
        words = ["-r", "__ns:=/arm0", "-p", f"folder:={folder}", "-p", "operator:=ada"]
        process = Process(node_command("recorder", *words), domain)
        try:
            process.wait_for("ready")
            graph = Graph(domain)
            publish_all(graph)
            graph.close()
            assert process.end(request.param) == 0, process.output
            assert "0 dropped" in process.output
        finally:
            process.kill()
    (path,) = folder.iterdir()
    return path


def test_mcap_ros2_support_reads_all_of_it(recording: Path) -> None:
    messages = decoded(recording)
    topics = [topic for topic, _, _ in messages]
    assert topics.count("/arm0/joint_states") == COUNT
    assert {topic: topics.count(topic) for topic in set(topics) if "joint" not in topic} == {
        "/arm0/bridge/spec": 1, "/arm0/front/image_raw/compressed": 1, "/arm0/episode/event": 1,
    }  # fmt: skip
    joints = [message for topic, _, message in messages if topic == "/arm0/joint_states"]
    assert [message.position[0] for message in joints] == list(range(COUNT))
    assert joints[0].name == ["a", "b"]
    (image,) = (message for topic, _, message in messages if "image" in topic)
    assert bytes(image.data) == b"\xff\xd8" + bytes(40_000)


def test_both_stamps_are_there_and_rise_with_the_monotonic_clock(recording: Path) -> None:
    records = [record for topic, record, _ in decoded(recording) if topic == "/arm0/joint_states"]
    ages_ms = np.array([record.log_time - record.publish_time for record in records]) / 1e6
    assert (ages_ms >= 3.0).all()
    assert (np.diff([record.log_time for record in records]) > 0).all()
    others = [record for topic, record, _ in decoded(recording) if topic == "/arm0/episode/event"]
    assert others[0].log_time == others[0].publish_time  # String has no header


def test_rosbags_reads_the_same(recording: Path) -> None:
    with AnyReader([recording]) as reader:
        kinds = {connection.topic: connection.msgtype for connection in reader.connections}
        assert kinds["/arm0/joint_states"] == "sensor_msgs/msg/JointState"
        connections = [each for each in reader.connections if each.topic == "/arm0/joint_states"]
        states: Any = [reader.deserialize(data, each.msgtype) for each, _, data in reader.messages(connections)]
    assert [state.position[0] for state in states] == list(range(COUNT))


def test_the_file_says_what_wrote_it(recording: Path) -> None:
    with recording.open("rb") as stream:
        found = {entry.name: entry.metadata for entry in make_reader(stream).iter_metadata()}
    about = found[ABOUT]
    assert (about["operator"], about["namespace"]) == ("ada", "/arm0")
    assert len(about["git_revision"].removesuffix("-dirty")) == 40 or about["git_revision"] == "unknown"
    assert json.loads(about["parameters"])["queue_mb"] == "64"
    assert found[END] == {"messages": str(COUNT + 3)}


def test_a_folder_that_takes_no_files_is_said_and_ends_it() -> None:
    with own_domain() as domain:
        process = Process(node_command("recorder", "-p", "folder:=/proc/nothing"), domain)
        assert process.child.wait(60) == 2
        process.kill()
        assert "cannot record to /proc/nothing" in process.output


def test_what_does_not_fit_the_queue_is_dropped_and_counted(tmp_path: Path) -> None:
    file = McapFile(tmp_path / "a.mcap", {}, queue_bytes=1000, failed=lambda cause: None)
    file.add_topic("/big", "std_msgs/msg/String", "")
    for number in range(3):
        file.put("/big", bytes(2000 if number == 1 else 400), number)
    file.close()
    assert (file.dropped["/big"], file.written["/big"]) == (1, 2)
    with file.path.open("rb") as stream:
        found = {entry.name: entry.metadata for entry in make_reader(stream).iter_metadata()}
    assert found[END] == {"messages": "2", "dropped /big": "1"}


def test_a_disk_that_takes_no_more_is_told_at_once(tmp_path: Path) -> None:
    """The file's stream is closed under it, which fails as a full disk does: in the writing thread."""
    told: list[str] = []
    file = McapFile(tmp_path / "a.mcap", {}, queue_bytes=1 << 20, failed=told.append)
    file.add_topic("/big", "std_msgs/msg/String", "")
    file._stream.close()
    for number in range(20):
        file.put("/big", np.random.default_rng(number).bytes(50_000), number)
    file._queue.put(None)
    file._thread.join()
    assert len(told) == 1
    assert "cannot be written" in told[0]
    assert file.dropped["/big"] > 0


def test_definitions_hold_all_that_a_message_is_made_of() -> None:
    text = definition("trajectory_msgs/msg/MultiDOFJointTrajectory")
    parts = [line.removeprefix("MSG: ") for line in text.splitlines() if line.startswith("MSG: ")]
    assert {"std_msgs/Header", "builtin_interfaces/Time", "builtin_interfaces/Duration", "geometry_msgs/Twist",
            "geometry_msgs/Quaternion", "trajectory_msgs/MultiDOFJointTrajectoryPoint"} <= set(parts)  # fmt: skip
    with pytest.raises(ConfigError, match="nowhere_msgs/msg/Nothing is not installed"):
        definition("nowhere_msgs/msg/Nothing")
