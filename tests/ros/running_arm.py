"""A simulated Panda and its bridge as processes of their own, for what acts and learns over the bridge."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.ros.graph import Process, node_command, own_domain


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
