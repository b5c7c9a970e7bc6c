"""What every node of this package runs in: one executor in one thread, an orderly end, faults that are never silent.

    sys.exit(run(Recorder))         # class Recorder(Node): __init__(self, spinning), begin(), end(fault)

The executor's thread only copies what arrives; everything else has threads of its own. An exception that leaves a
callback is a fault of the process: the node is told to end (an arm is stopped there), and the exit code is 1. SIGINT
and SIGTERM end it in the same order with exit code 0: ``end`` while ROS still works, then the executor, the node, ROS.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any, Protocol

os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)  # the pip wheels set none; an installation has its own

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import try_shutdown

from robot_rl.runtime.priority import SWITCH_INTERVAL_S

NEWEST = QoSProfile(depth=1)  # reliable, keep last: newest wins, nothing stale is queued
IMAGES = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
EVENTS = QoSProfile(depth=100)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_SPIN_S = 0.1
_END_S = 20.0  # at most, for an orderly end


class Member(Protocol):
    """What a node has beside being one."""

    def begin(self) -> None:
        """Called in the main thread once callbacks are served; may take its time, looking at ``spinning.ending``."""
        ...

    def end(self, fault: str) -> None:
        """Called once in the main thread, callbacks still being served; stops whatever moves and ends threads."""
        ...


class Spinning:
    """The life of one process: ended by a signal, by ``end`` or by a fault."""

    def __init__(self) -> None:
        self.fault = ""
        self._ending, self._done = threading.Event(), threading.Event()
        self._on_fault: Callable[[str], None] | None = None

    @property
    def ending(self) -> bool:
        return self._ending.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Until the process is to end, at most so long; whether it is."""
        return self._ending.wait(timeout_s)

    def end(self) -> None:
        """End the process with exit code 0, from any thread."""
        self._ending.set()

    def on_fault(self, act: Callable[[str], None]) -> None:
        """Call ``act`` at once, in the thread of the fault, while the process begins to end."""
        self._on_fault = act

    def fail(self, cause: str) -> None:
        """End the process with exit code 1, from any thread; the first cause counts."""
        if not self.fault:
            self.fault = cause
            self._ending.set()  # whatever becomes of the act
            if self._on_fault is not None:
                self._on_fault(cause)
        self._ending.set()

    def guarded(self, act: Callable[[], None], what: str) -> Callable[[], None]:
        """``act`` for a thread of its own: what it raises is a fault of the process."""

        def run() -> None:
            try:
                act()
            except Exception as error:
                traceback.print_exc()
                self.fail(f"{what} raised {error!r}")

        return run

    def _spin(self, executor: SingleThreadedExecutor) -> None:
        while not self._done.is_set():
            try:
                executor.spin_once(timeout_sec=_SPIN_S)
            except ExternalShutdownException:
                return
            except Exception as error:  # of a callback; the others are served on until the node has ended
                traceback.print_exc()
                self.fail(f"a callback raised {error!r}")


def run(make: Callable[[Spinning], Any], args: Sequence[str] | None = None) -> int:
    """Run the node that ``make`` makes until the process is told to end; returns the exit code."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    spinning = Spinning()

    def ended(number: int, frame: FrameType | None) -> None:
        spinning.end()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ended)
    rclpy.init(args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make(spinning)
        try:
            _serve(node, spinning)
        finally:
            node.destroy_node()
    finally:
        try_shutdown()
    if spinning.fault:
        print(f"ended by a fault: {spinning.fault}", file=sys.stderr, flush=True)
    return 1 if spinning.fault else 0


def _serve(node: Any, spinning: Spinning) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=spinning._spin, args=(executor,), name="executor", daemon=True)
    thread.start()
    try:
        spinning.guarded(node.begin, "the beginning")()
        spinning.wait()
        last = threading.Timer(_END_S, os._exit, (1,))  # a driver that hangs must not keep the process alive
        last.daemon = True
        last.start()
        spinning.guarded(lambda: node.end(spinning.fault), "the end")()
    finally:
        spinning._done.set()
        executor.wake()
        thread.join()
        executor.shutdown()


def guard_transitions(node: Any) -> None:
    """Refuse lifecycle transitions that are impossible: in Jazzy they raise out of the executor (ros2/rclpy #1209)."""
    service = node._service_change_state
    change = service.callback

    def guarded(request: Any, response: Any) -> Any:
        try:
            return change(request, response)
        except Exception as error:
            wanted = request.transition.label or request.transition.id
            node.get_logger().warning(f"transition '{wanted}' is refused: {error}")
            response.success = False
            return response

    service.callback = guarded


# --- stamps ---------------------------------------------------------------------------------------------------------


def stamp_ns(message: Any) -> int:
    """The header's stamp [ns]."""
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def stamped(message: Any, time_ns: int, frame: str = "") -> Any:
    """``message`` with that stamp and frame in its header."""
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(int(time_ns), 1_000_000_000)
    message.header.frame_id = frame
    return message


# --- diagnostics ----------------------------------------------------------------------------------------------------


def status(name: str, level: int | bytes, message: str, values: Iterable[tuple[str, object]] = ()) -> DiagnosticStatus:
    """A DiagnosticStatus; ``level`` is DiagnosticStatus.OK, WARN, ERROR or STALE."""
    byte = level if isinstance(level, bytes) else bytes([level])
    told = [KeyValue(key=key, value=_number(value)) for key, value in values]
    return DiagnosticStatus(name=name, level=byte, message=message, values=told)


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


class Diagnostics:
    """Publishes what ``collect`` tells on /diagnostics, once a second."""

    def __init__(self, node: Node, collect: Callable[[], Iterable[DiagnosticStatus]]) -> None:
        self._node, self._collect = node, collect
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        node.create_timer(1.0, self.publish)

    def publish(self) -> None:
        """Tell now."""
        now_ns = self._node.get_clock().now().nanoseconds
        self._publisher.publish(stamped(DiagnosticArray(status=list(self._collect())), now_ns))
