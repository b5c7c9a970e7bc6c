"""Records the raw streams of an arm at their native rates as MCAP, episode events among them.

    python -m robot_rl_bridge.recorder --ros-args -r __ns:=/arm0 -p folder:=recordings

Every topic of the arm's namespace is taken up as it appears, with the QoS of its publisher, and stored as the bytes
that came. The bridge's ~/spec among them tells what the streams are, so that `robot-rl dataset import format=mcap`
needs nothing beside the file.
"""

from __future__ import annotations

import importlib
import json
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from robot_rl.errors import ConfigError, RobotRlError
from robot_rl_bridge.mcap_file import McapFile
from robot_rl_bridge.parameters import Declared, declare
from robot_rl_bridge.spinning import Diagnostics, Spinning, run, status

PARAMETERS = (
    Declared("folder", "recordings", "where the file goes, which is named after the time"),
    Declared("topics", [], "topics to record; empty: all of the node's namespace"),
    Declared("queue_mb", 64, "messages that may wait for the disk; more are dropped and counted", low=1, high=4096),
    Declared("operator", "", "who records, for the metadata"),
    Declared("note", "", "for the metadata"),
)
_LOOK_S = 0.2  # between two looks for new topics
_DEPTH = 100
_STAMP = struct.Struct("<iI")  # behind the four bytes that introduce CDR


class Recorder(Node):
    """One file from begin to end."""

    def __init__(self, spinning: Spinning) -> None:
        super().__init__("recorder")
        self._spinning, self._values = spinning, declare(self, PARAMETERS)
        self._ready = False
        self._refused: set[str] = set()
        folder = Path(self._values["folder"]).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1_000_000:06d}.mcap"
            self.file = McapFile(
                folder / name, self._about(), queue_bytes=self._values["queue_mb"] << 20, failed=spinning.fail
            )
        except OSError as error:
            raise ConfigError(
                f"cannot record to {folder}: {error.strerror}", remedy="Choose another folder:="
            ) from error
        self.recorded: set[str] = set()
        self.create_timer(_LOOK_S, self._look)
        Diagnostics(self, self._diagnose)

    def begin(self) -> None:
        """Topics are taken up as they appear."""
        self.get_logger().info(f"ready: recording {self.get_namespace()} to {self.file.path}")

    def end(self, fault: str) -> None:
        """Write what waits and the index."""
        self._ready = True  # no new topics
        self.file.close()
        print(
            f"{self.file.written.total()} messages, {self.file.dropped.total()} dropped: {self.file.path}", flush=True
        )

    def _about(self) -> dict[str, str]:
        parameters = {name: json.dumps(value) for name, value in self._values.items()}
        return {"operator": self._values["operator"], "note": self._values["note"],
                "namespace": self.get_namespace(), "parameters": json.dumps(parameters)}  # fmt: skip

    def _look(self) -> None:
        wanted = [self.resolve_topic_name(topic) for topic in self._values["topics"]]
        for topic, kinds in self.get_topic_names_and_types():
            ours = topic in wanted if wanted else topic.startswith(self.get_namespace().rstrip("/") + "/")
            if ours and not self._ready and topic not in self.recorded | self._refused:
                self._take_up(topic, kinds[0])

    def _take_up(self, topic: str, kind: str) -> None:
        """Subscribe to the bytes of ``topic`` once somebody publishes it."""
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        if not offered:
            return
        try:
            message = _message_class(kind)
            self.file.add_topic(topic, kind, yaml.safe_dump([_qos_as_data(qos) for qos in offered]))
        except (ConfigError, ImportError, AttributeError) as error:
            self._refused.add(topic)
            self.get_logger().warning(f"'{topic}' is not recorded: {error}")
            return
        self.create_subscription(message, topic, self._on_message(topic, message), _fitting(offered), raw=True)
        self.recorded.add(topic)

    def _on_message(self, topic: str, message: Any) -> Callable[[bytes], None]:
        has_header = next(iter(message.get_fields_and_field_types().items()), None) == ("header", "std_msgs/Header")

        def keep(data: bytes) -> None:
            received_ns, age_ns = time.monotonic_ns(), 0
            if has_header:
                seconds, nanoseconds = _STAMP.unpack_from(data, 4)
                age_ns = self.get_clock().now().nanoseconds - seconds * 1_000_000_000 - nanoseconds
            self.file.put(topic, bytes(data), received_ns, age_ns)

        return keep

    def _diagnose(self) -> list[DiagnosticStatus]:
        written, dropped = self.file.written.total(), self.file.dropped
        level = DiagnosticStatus.WARN if dropped else DiagnosticStatus.OK
        told = [("messages", written), ("topics", len(self.recorded)), ("waiting_bytes", self.file.waiting_bytes)]
        told += [(f"dropped {topic}", count) for topic, count in dropped.items()]
        return [status(f"{self.get_name()}: file", level, f"{dropped.total()} dropped" if dropped else "ok", told)]


def _message_class(kind: str) -> Any:
    package, _, name = kind.partition("/msg/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def _fitting(offered: list[QoSProfile]) -> QoSProfile:
    """What hears all of the publishers: reliable and latched only where each of them is."""
    reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
    latched = all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
    return QoSProfile(
        depth=_DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _qos_as_data(qos: QoSProfile) -> dict[str, Any]:
    """As rosbag2 writes it."""
    told: dict[str, Any] = {
        name: getattr(qos, name).name.lower() for name in ("history", "reliability", "durability", "liveliness")
    }
    for name in ("deadline", "lifespan", "liveliness_lease_duration"):
        seconds, nanoseconds = divmod(getattr(qos, name).nanoseconds, 1_000_000_000)
        told[name] = {"sec": seconds, "nsec": nanoseconds}
    avoids = bool(qos.avoid_ros_namespace_conventions)
    return {**told, "depth": int(qos.depth), "avoid_ros_namespace_conventions": avoids}


def main() -> int:
    try:
        return run(Recorder)
    except RobotRlError as error:
        print(f"recorder: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
