"""A ROS graph of a test's own: a domain nobody else has, nodes as real processes, and a client that hears and waits."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # nothing of a test leaves this machine

import rclpy
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

WAIT_S = 30.0  # for what takes some 0.1 s; discovery may take 3 s, a loaded machine more
EVERYTHING = QoSProfile(depth=1000)
# Whatever becomes of the tests, their nodes do not outlive them and disturb others in their domain.
_BEFORE = [*(["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []), "nice", "-n", "-10"]
_PORTS = 41_000  # a bound port is the mark that a domain is taken
SHARED_MEMORY = Path("/dev/shm")


@contextmanager
def own_domain() -> Iterator[int]:
    """A domain id that no other test on this machine has; up to 101 their ports lie below those of connections."""
    for domain in (1 + (os.getpid() + i) % 100 for i in range(100)):
        taken = socket.socket()
        try:
            taken.bind(("127.0.0.1", _PORTS + domain))
        except OSError:
            taken.close()
            continue
        with taken:
            yield domain
        return
    raise AssertionError("all domains are taken")


class Process:
    """A node in a process of its own, in a session of its own so that what it leaves behind is found.

    It comes before other work where that is allowed, as on a robot's computer: tests run beside it.
    """

    def __init__(self, command: Sequence[str], domain: int, name: str = "", **environment: str) -> None:
        self.name = name or command[-1]
        env = {**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1", **environment}
        self.child = subprocess.Popen(
            [*_BEFORE, *command],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        with suppress(OSError):  # where Linux shares by session, niceness is that of the session
            Path(f"/proc/{self.child.pid}/autogroup").write_text("-10")
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str, timeout_s: float = 90.0) -> None:
        """Until a line of its output holds ``text``; kernels may have to be compiled first."""
        until = time.monotonic() + timeout_s
        while not any(text in line for line in self.lines):
            assert self.child.poll() is None, f"{self.name} ended with {self.child.returncode}:\n{self.output}"
            assert time.monotonic() < until, f"{self.name} did not say '{text}':\n{self.output}"
            self._reader.join(0.02)

    def send(self, number: signal.Signals) -> None:
        self.child.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGINT, timeout_s: float = 30.0) -> int:
        """Send a signal; the exit code, once it has ended and has left nothing behind: no process, and of what it made
        in shared memory no file."""
        made = shared_memory_of(self.child.pid)
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            code = self.child.wait(timeout=timeout_s)
            orphans = [pid for pid in running() if session_of(pid) == self.child.pid]
            assert not orphans, f"{self.name} has left the processes {orphans}"
            assert not (left := made & shared_memory()), f"{self.name} has left in shared memory: {sorted(left)}"
        finally:
            self.kill()
        return code

    def kill(self) -> None:
        """SIGKILL, to all of its session."""
        with suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        self._reader.join()
        if self.child.stdout is not None:
            self.child.stdout.close()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line)


def node_command(executable: str, *arguments: str) -> list[str]:
    """A node of ours as it runs without a workspace; arguments are those after --ros-args."""
    return [sys.executable, "-m", f"robot_rl_bridge.{executable}", "--ros-args", *arguments]


class Graph:
    """The test's own node. What it hears is kept by topic; ``namespace`` is put before relative names."""

    def __init__(self, domain: int, namespace: str = "/arm0") -> None:
        self.domain = domain
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self.node = Node(f"test_{domain}", context=self._context, namespace=namespace)
        self.heard: dict[str, deque[Any]] = {}
        self._changed, self._closing = threading.Condition(), threading.Event()
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def hear(self, kind: Any, topic: str, qos: QoSProfile = EVERYTHING, keep: int = 20_000) -> deque[Any]:
        """Subscribe; the messages so far, newest last."""
        kept = self.heard[topic] = deque(maxlen=keep)

        def arrived(message: Any) -> None:
            with self._changed:
                kept.append(message)
                self._changed.notify_all()

        self.node.create_subscription(kind, topic, arrived, qos)
        return kept

    def publisher(self, kind: Any, topic: str, qos: QoSProfile | None = None) -> Any:
        """A publisher that somebody listens to."""
        publisher = self.node.create_publisher(kind, topic, qos or QoSProfile(depth=1))
        self.poll(lambda: publisher.get_subscription_count() > 0, f"somebody listens to {topic}")
        return publisher

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> Any:
        """Until ``condition`` holds of what is heard; what it returned."""
        with self._changed:
            met = self._changed.wait_for(condition, timeout_s)
        assert met, f"not within {timeout_s} s: {what}"
        return met

    def next(self, topic: str, condition: Callable[[Any], bool] = lambda message: True, *, keep: bool = False) -> Any:
        """The first message from now on that fulfils ``condition``; those before are forgotten unless ``keep``."""
        kept, found = self.heard[topic], None
        with self._changed:
            seen = 0 if not keep else len(kept)
            if not keep:
                kept.clear()

            def there() -> bool:
                nonlocal seen, found
                while found is None and seen < len(kept):
                    found = kept[seen] if condition(kept[seen]) else None
                    seen += 1
                return found is not None

        self.wait(there, f"a message on {topic}")
        return found

    def poll(self, condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
        """The same for what is not heard of but looked up."""
        until = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < until, f"not within {timeout_s} s: {what}"
            self._thread.join(0.01)

    def call(self, kind: Any, service: str, request: Any = None, timeout_s: float = WAIT_S) -> Any:
        """The answer of a service."""
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(timeout_sec=timeout_s), f"no service {service}"
        future, done = client.call_async(request or kind.Request()), threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(timeout_s), f"no answer from {service}"
        self.node.destroy_client(client)
        return future.result()

    def set_parameter(self, node: str, name: str, value: Any) -> bool:
        """Whether the node took it."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, f"{node}/set_parameters", request).results[0].successful

    def close(self) -> None:
        """Leave the graph, in the order that lets rclpy end cleanly."""
        self._closing.set()
        self._executor.wake()
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            while not self._closing.is_set():
                self._executor.spin_once(timeout_sec=0.1)


def told(message: Any) -> dict[str, Any]:
    """A String message that holds JSON."""
    return json.loads(message.data)


def running() -> list[int]:
    """Numbers of all processes."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def session_of(pid: int) -> int:
    """The session that a process belongs to, -1 once it has ended."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return -1


def shared_memory() -> set[str]:
    """What DDS has in shared memory, of all processes, and what it has left there."""
    return {path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith(("fastrtps", "fastdds"))}


def shared_memory_of(pid: int) -> set[str]:
    """The segments that a process has made there: it keeps their lock files open. Ports are shared: who sends to one
    that is gone makes it anew."""
    made = set[str]()
    with suppress(OSError):  # it has ended
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                path = descriptor.readlink()
                if path.parent == SHARED_MEMORY and path.name.endswith("_el") and "_port" not in path.name:
                    made |= {path.name, path.name.removesuffix("_el")}
    return made
