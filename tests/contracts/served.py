"""Fake robots that live in other processes, for tests: started, waited for and ended cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from robot_rl.robots.bridge import BridgeRobot

if TYPE_CHECKING:
    from tests.processes.ros_robot import RosRobot


@contextmanager
def zmq_robot(clock: str) -> Iterator[BridgeRobot]:
    """The fake robot behind ZMQ in another process."""
    command = [sys.executable, "-m", "tests.processes.zmq_robot", clock]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        with BridgeRobot(server.stdout.readline().strip()) as robot:
            yield robot
        server.communicate(timeout=20)
    assert server.returncode == 0


@contextmanager
def ros_robot(domain: int) -> Iterator[RosRobot]:
    """The fake robot behind ROS 2 topics in another process, on its own domain and this machine only."""
    os.environ |= {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    from tests.processes.ros_robot import RosRobot

    server = subprocess.Popen([sys.executable, "-m", "tests.processes.ros_robot"])
    try:
        with RosRobot() as robot:
            yield robot
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0
