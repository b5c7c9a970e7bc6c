"""A simulated Panda and its bridge as processes of their own, for what acts and learns over the bridge."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus
from std_srvs.srv import Trigger

from robot_rl.errors import RobotError
from robot_rl_bridge.spinning import LATCHED
from tests.ros.graph import Graph, Process, node_command, own_domain

_MOST_INTERRUPTIONS = 20


@dataclass(frozen=True)
class RunningArm:
    """``words`` connect a command of robot-rl to it."""

    domain: int
    address: str
    sim: Process
    bridge: Process

    @property
    def words(self) -> list[str]:
        return ["robot=bridge", f"robot.address={self.address}"]


@contextmanager
def running_arm(task: str = "lift", objects: str = "cube_pose") -> Iterator[RunningArm]:
    """Without cameras; ready at the start, both have ended with exit code 0 at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    given = {"cameras": "none", "objects": objects, "auto_activate": "true", "address": address}
    with own_domain() as domain:
        sim = Process(_command("sim_robot", {"task": task, "camera": "none"}), domain, "sim_robot")
        bridge = Process(_command("bridge", given), domain, "bridge")
        try:
            sim.wait_for("ready")
            bridge.wait_for("ready")
            yield RunningArm(domain, address, sim, bridge)
            codes = bridge.end(), sim.end()
            assert codes == (0, 0), bridge.output + sim.output
        finally:
            bridge.kill()
            sim.kill()


def _command(executable: str, parameters: dict[str, str]) -> list[str]:
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    return node_command(executable, "-r", "__ns:=/arm0", *words)


class Operator:
    """Clears faults of the arm as a person would, such as contacts that stop it, and counts them."""

    def __init__(self, arm: RunningArm) -> None:
        self.faults = self.interrupted = 0
        self._failure: BaseException | None = None
        self._graph, self._closing = Graph(arm.domain), threading.Event()
        self._modes = self._graph.hear(DiagnosticStatus, "mode", LATCHED)
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)
        self._thread.start()

    def beside(self, work: Callable[[], object]) -> None:
        """Do what a fault of the arm may interrupt, and go on with it when there is none any more. Raises RobotError
        after many of them."""
        for _ in range(_MOST_INTERRUPTIONS):
            try:
                work()
                return
            except RobotError as error:
                print(f"interrupted: {error}", flush=True)
                self.interrupted += 1
                self._graph.wait(lambda: self._modes and self._modes[-1].message != "fault", "the fault is cleared")
        work()

    def _run(self) -> None:
        try:
            self._clear_faults()
        except BaseException as failure:  # told by ``close``
            self._failure = failure

    def _clear_faults(self) -> None:
        while not self._closing.wait(0.1):
            if self._modes and self._modes[-1].message == "fault":
                self.faults += 1
                self._graph.poll(self._cleared, "the fault is cleared")  # at most one attempt a second is let through

    def _cleared(self) -> bool:
        self._graph.call(Trigger, "sim_robot/recover")
        return self._graph.call(Trigger, "bridge/clear_fault").success

    def close(self) -> None:
        """Raises what ended the thread before."""
        self._closing.set()
        self._thread.join()
        self._graph.close()
        if self._failure is not None:
            raise self._failure


@contextmanager
def operated(arm: RunningArm) -> Iterator[Operator]:
    """With somebody beside the arm."""
    operator = Operator(arm)
    try:
        yield operator
    finally:
        operator.close()
