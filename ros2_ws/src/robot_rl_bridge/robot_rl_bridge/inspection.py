"""Looks at a ROS graph for some seconds and prints what it finds as JSON: for `robot-rl doctor ros`.

    python -m robot_rl_bridge.inspection --ros-args -r __ns:=/arm0 -p seconds:=3.0

Nothing is published but the node itself. Findings are {"check", "level", "told", "remedy"}, level ok, warn or fail.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from robot_rl_bridge.parameters import Declared, declare
from robot_rl_bridge.spinning import Spinning, run

PARAMETERS = (
    Declared("seconds", 4.0, "how long streams are heard; discovery takes up to 3.1 s", low=1.0, high=60.0),
    Declared("topics", [], "topics to hear; empty: states, commands and images of the node's namespace"),
)
_FOUND = "finding: "  # what a line of ours begins with
_STAMP = struct.Struct("<iI")
_HEARD = ("sensor_msgs/msg/JointState", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image",
          "geometry_msgs/msg/PoseStamped", "geometry_msgs/msg/WrenchStamped")  # fmt: skip
_RAW_BYTES = 500_000  # raw images beyond it lose fragments with best effort (ros2/rmw_fastrtps #739)
_OFFSET_MS, _FUTURE_MS = 500.0, 5.0  # ages that the bridge does not believe
_BEST_EFFORT, _VOLATILE = ReliabilityPolicy.BEST_EFFORT, DurabilityPolicy.VOLATILE


@dataclass
class Stream:
    """What was heard of one topic."""

    kind: str
    arrived_s: list[float] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    bytes: int = 0

    @property
    def rate_hz(self) -> float:
        span_s = self.arrived_s[-1] - self.arrived_s[0] if len(self.arrived_s) > 1 else 0.0
        return (len(self.arrived_s) - 1) / span_s if span_s > 0.0 else 0.0


@dataclass(frozen=True)
class Finding:
    """One line for the doctor's table."""

    check: str
    level: str
    told: str
    remedy: str = ""


class Inspection(Node):
    """Hears what there is, tells, and ends."""

    def __init__(self, spinning: Spinning) -> None:
        super().__init__("inspection")
        self._spinning, values = spinning, declare(self, PARAMETERS)
        self._seconds, self._topics = values["seconds"], [self.resolve_topic_name(t) for t in values["topics"]]
        self.streams: dict[str, Stream] = {}
        self._looking = True
        self.create_timer(0.2, self._look)

    def begin(self) -> None:
        """Hear for a while, then tell."""
        self._spinning.wait(self._seconds)
        self._looking = False
        for finding in self.findings():
            print(_FOUND + json.dumps(finding.__dict__), flush=True)
        self._spinning.end()

    def end(self, fault: str) -> None:
        """Nothing is held."""

    def findings(self) -> Iterator[Finding]:
        """Of nodes, QoS and streams."""
        nodes = [f"{where.rstrip('/')}/{name}" for name, where in self.get_node_names_and_namespaces()]
        others = sorted(name for name in set(nodes) if not name.endswith(f"/{self.get_name()}"))
        yield _nodes(others)
        for name in sorted({name for name in nodes if nodes.count(name) > 1}):
            yield Finding("nodes", "warn", f"two nodes are called {name}", "Start one of them with another name")
        yield from self._mismatches()
        for topic, stream in sorted(self.streams.items()):
            yield from told_of(topic, stream)

    def _look(self) -> None:
        if not self._looking:
            return
        for topic, kinds in self.get_topic_names_and_types():
            ours = topic in self._topics if self._topics else self._is_heard(topic, kinds)
            if ours and topic not in self.streams and self.count_publishers(topic):
                self.streams[topic] = Stream(kinds[0])
                self._hear(topic, kinds[0])

    def _is_heard(self, topic: str, kinds: list[str]) -> bool:
        return topic.startswith(self.get_namespace().rstrip("/") + "/") and kinds[0] in _HEARD

    def _hear(self, topic: str, kind: str) -> None:
        package, _, name = kind.partition("/msg/")
        message = getattr(importlib.import_module(f"{package}.msg"), name)
        stamped = next(iter(message.get_fields_and_field_types()), "") == "header"
        quality = QoSProfile(depth=50, reliability=_BEST_EFFORT)  # hears every publisher
        self.create_subscription(message, topic, self._on_message(self.streams[topic], stamped), quality, raw=True)

    def _on_message(self, stream: Stream, stamped: bool) -> Callable[[bytes], None]:
        def keep(data: bytes) -> None:
            stream.arrived_s.append(time.monotonic())
            stream.bytes = max(stream.bytes, len(data))
            if stamped:
                seconds, nanoseconds = _STAMP.unpack_from(data, 4)
                age_ns = self.get_clock().now().nanoseconds - seconds * 1_000_000_000 - nanoseconds
                stream.ages_ms.append(age_ns * 1e-6)

        return keep

    def _mismatches(self) -> Iterator[Finding]:
        for topic, _ in self.get_topic_names_and_types():
            publishers, subscriptions = (
                self.get_publishers_info_by_topic(topic), self.get_subscriptions_info_by_topic(topic)
            )  # fmt: skip
            kinds = {each.topic_type for each in [*publishers, *subscriptions]}
            if len(kinds) > 1:
                yield Finding(
                    f"topic {topic}", "fail", f"has the types {', '.join(sorted(kinds))}", "Rename one of them"
                )
            for giver in publishers:
                for taker in subscriptions:
                    if (why := misfit(giver.qos_profile, taker.qos_profile)) and taker.node_name != self.get_name():
                        told = f"{giver.node_name} -> {taker.node_name}: {why}; nothing arrives"
                        yield Finding(f"QoS {topic}", "fail", told, "Give both the same reliability and durability")


def misfit(offered: QoSProfile, wanted: QoSProfile) -> str:
    """Why a subscription that wants this hears nothing of a publisher that offers that; '' where it does."""
    if offered.reliability == _BEST_EFFORT and wanted.reliability == ReliabilityPolicy.RELIABLE:
        return "best effort is offered, reliable wanted"
    if offered.durability == _VOLATILE and wanted.durability == DurabilityPolicy.TRANSIENT_LOCAL:
        return "volatile is offered, transient local wanted"
    return ""


def told_of(topic: str, stream: Stream) -> Iterator[Finding]:
    """Rate, jitter, age of headers, and how images are sent."""
    check = f"topic {topic}"
    if not stream.arrived_s:
        yield Finding(
            check, "warn", "has a publisher and is silent", "Is its source running? Is the QoS one that fits?"
        )
        return
    told = f"{stream.rate_hz:.1f} Hz, {stream.bytes / 1000:.1f} kB"
    if len(stream.arrived_s) > 3:
        gaps = np.diff(stream.arrived_s)
        told += f", jitter p99 {1e3 * np.percentile(np.abs(gaps - np.median(gaps)), 99):.1f} ms"
    yield Finding(check, "ok", told)
    if stream.ages_ms:
        yield _clock(topic, np.array(stream.ages_ms))
    if stream.kind == "sensor_msgs/msg/Image" and stream.bytes > _RAW_BYTES:
        told = f"raw images of {stream.bytes / 1e6:.1f} MB: more than half may be lost with best effort"
        yield Finding(
            f"images {topic}", "warn", told, "Publish and use compressed images (image_transport), or reliable"
        )


def _clock(topic: str, ages_ms: Any) -> Finding:
    """How old headers are when their messages arrive: transport, latency of the driver, and clocks that differ."""
    low, median = float(ages_ms.min()), float(np.median(ages_ms))
    told = f"headers are {median:.1f} ms old at receipt ({low:.1f} to {ages_ms.max():.1f})"
    if low < -_FUTURE_MS or median > _OFFSET_MS:
        remedy = (
            "The clocks of two hosts differ: run chrony on both; or the driver leaves the stamp empty or uses its own"
        )
        return Finding(f"clock {topic}", "fail", told, remedy)
    return Finding(f"clock {topic}", "ok", told)


def _nodes(names: Iterable[str]) -> Finding:
    names = list(names)
    if names:
        return Finding("discovery", "ok", f"{len(names)} nodes: {', '.join(names)}")
    reach = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    told = f"no other node in domain {os.environ.get('ROS_DOMAIN_ID', '0')}, range {reach}"
    return Finding("discovery", "warn", told, "Start the arm; domain and range must be those of its nodes, and lo up")


def main() -> int:
    return run(Inspection)


if __name__ == "__main__":
    sys.exit(main())
