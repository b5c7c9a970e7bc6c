"""A process that serves the fake robot over ZMQ: prints its address, ends when its standard input closes."""

from __future__ import annotations

import sys

from robot_rl.robots.fake import FakeRobot
from robot_rl.robots.server import RobotServer


def main(clock: str) -> None:
    with RobotServer(FakeRobot(clock=clock, objects=("cube",)), lease_s=3.0) as server:
        print(server.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
