"""A recording of raw ROS messages: MCAP of profile ros2, as rosbags, Foxglove and robot-rl dataset import read it.

Messages are the bytes that came over DDS. ``log_time`` is when a message was received, on a clock that runs with the
monotonic one from the wall time of the start, so that no step of the wall clock is in it; ``publish_time`` is that less
the age which the header told at receipt. The header itself is in the message.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mcap.writer import CompressionType, Writer

from robot_rl.errors import ConfigError, DiskFullError
from robot_rl_bridge.mcap_messages import ABOUT, END

CHUNK_BYTES = 1 << 18  # what a crash costs at most
PRIMITIVES = ("bool", "byte", "char", "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32",
              "int64", "uint64", "string", "wstring")  # fmt: skip
_SEPARATOR = "=" * 80


@dataclass(frozen=True)
class _Message:
    topic: str
    received_ns: int
    age_ns: int
    data: bytes


class McapFile:
    """Takes messages from one thread and writes them in another; what does not fit the queue is dropped and counted.

    Args:
        path: of the file, which must not be there.
        about: metadata for the beginning.
        queue_bytes: that may wait to be written.
        failed: told when the disk takes no more, once.
    """

    def __init__(
        self, path: Path, about: Mapping[str, str], *, queue_bytes: int, failed: Callable[[str], None]
    ) -> None:
        self.path = path
        self.written: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._failed, self._most, self._waiting, self._broken = failed, queue_bytes, 0, False
        self._queue: queue.SimpleQueue[_Message | None] = queue.SimpleQueue()
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._lock = threading.Lock()
        self._wall_ns, self._monotonic_ns = time.time_ns(), time.monotonic_ns()
        self._stream = path.open("xb")
        self._writer = Writer(self._stream, CHUNK_BYTES, CompressionType.ZSTD)
        self._writer.start(profile="ros2", library="robot-rl")
        self._writer.add_metadata(ABOUT, {**about, **_origin(), "started_ns": str(self._wall_ns)})
        self._thread = threading.Thread(target=self._write, name="mcap", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        """That are in the queue."""
        return self._waiting

    def add_topic(self, topic: str, kind: str, qos: str) -> None:
        """Messages of ``topic`` are of ``kind`` (sensor_msgs/msg/Image) and were offered with ``qos``. Raises
        ConfigError when the definition of the kind is not installed."""
        with self._lock:
            if kind not in self._schemas:
                self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", definition(kind).encode())
            about = {"offered_qos_profiles": qos}
            self._channels[topic] = self._writer.register_channel(topic, "cdr", self._schemas[kind], about)

    def put(self, topic: str, data: bytes, received_ns: int, age_ns: int = 0) -> None:
        """Take a message, received at ``received_ns`` of the monotonic clock with a header of that age."""
        if self._waiting + len(data) > self._most:
            self.dropped[topic] += 1
            return
        with self._lock:
            self._waiting += len(data)
        self._queue.put(_Message(topic, received_ns, age_ns, data))

    def close(self) -> None:
        """Write what waits, and the index; idempotent."""
        if self._stream.closed:
            return
        self._queue.put(None)
        self._thread.join()
        try:
            counts = {f"dropped {topic}": str(count) for topic, count in self.dropped.items()}
            self._writer.add_metadata(END, {"messages": str(self.written.total()), **counts})
            self._writer.finish()
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise DiskFullError(f"{self.path} cannot be finished: {error.strerror}") from error
        finally:
            self._stream.close()

    def _write(self) -> None:
        numbers: Counter[str] = Counter()
        while (message := self._queue.get()) is not None:
            with self._lock:
                self._waiting -= len(message.data)
            if self._broken:
                self.dropped[message.topic] += 1
                continue
            numbers[message.topic] += 1
            try:
                self._add(message, numbers[message.topic])
                self.written[message.topic] += 1
            except Exception as error:  # the disk is full, or a fault of ours: recording nothing must not go unnoticed
                self._broken = True
                self.dropped[message.topic] += 1
                self._failed(f"{self.path} cannot be written: {error}")

    def _add(self, message: _Message, number: int) -> None:
        log_ns = self._wall_ns + message.received_ns - self._monotonic_ns
        published_ns = max(0, log_ns - message.age_ns)  # a header without a stamp is older than time
        with self._lock:
            self._writer.add_message(
                self._channels[message.topic], log_ns, message.data, published_ns, number & 0xFFFFFFFF
            )


def definition(kind: str) -> str:
    """The definition of a message kind (std_msgs/msg/Header) and, behind it, of all that it is made of."""
    texts, pending = {}, [kind]
    while pending:
        name = pending.pop(0)
        if name not in texts:
            texts[name] = text = _message_file(name).read_text()
            pending += _parts(text, name.partition("/")[0])
    head = texts.pop(kind)
    parts = [f"{_SEPARATOR}\nMSG: {name.replace('/msg/', '/')}\n{text}" for name, text in texts.items()]
    return "\n".join([head, *parts])


def _parts(text: str, package: str) -> list[str]:
    """Kinds of the fields in ``text`` that are messages themselves."""
    found = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        kind = words[0].partition("[")[0].partition("<")[0] if len(words) > 1 else ""
        if not kind or kind in PRIMITIVES or words[1].startswith("="):
            continue
        where, _, name = kind.rpartition("/")
        found.append(f"{where.removesuffix('/msg') or package}/msg/{name}")
    return found


def _message_file(kind: str) -> Path:
    package, _, name = kind.partition("/msg/")
    for prefix in [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]:
        path = Path(prefix) / "share" / package / "msg" / f"{name}.msg"
        if prefix and path.is_file():
            return path
    raise ConfigError(f"the definition of {kind} is not installed", remedy="Source the workspace that it comes from")


def _origin() -> dict[str, str]:
    """What wrote the file."""
    try:
        installed = version("robot-rl")
    except PackageNotFoundError:
        installed = "unknown"
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        revision = asked.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        revision = ""
    return {"software": f"robot-rl {installed}", "git_revision": revision or "unknown"}
