"""A policy's process: sways the TCP over the bridge until it is ended. ``python -m tests.ros.driver ADDRESS``.

Says "moving" once it does, then what it is refused, each reason once in a row.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress

import numpy as np

from robot_rl.errors import CommandRefusedError, RobotRlError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.types import Array, EnvSpec, Observation, ResetRequest, TargetChunk

AMPLITUDE_M, FREQUENCY_HZ = 0.06, 0.4  # 0.15 m/s at most
ROWS = 8


def sway(start: Array, t: float) -> Array:
    """Pose [7] at a time: along y, beginning gently."""
    pose = start.copy()
    pose[1] += AMPLITUDE_M * min(t, 1.0) ** 2 * math.sin(2.0 * math.pi * FREQUENCY_HZ * t)
    return pose


def plan(spec: EnvSpec, seen: Observation, start: Array, rows: int = ROWS) -> TargetChunk:
    """The next rows of the sway, from the step that is seen on."""
    period_s = 1.0 / spec.step_rate_hz
    poses = np.array([sway(start, period_s * (seen.step + 1 + i)) for i in range(rows)])
    return TargetChunk({"arm0/tcp": poses, "arm0/gripper": np.ones((rows, 1))}, seen.step, seen.stamp_ns, frame="base")


def advance(robot: BridgeRobot, spec: EnvSpec, seen: Observation) -> Observation:
    """The observation of the next step."""
    robot.clock.wait_until(seen.stamp_ns + spec.step_period_ns)
    while (now := robot.read()).step <= seen.step:
        robot.clock.wait_until(robot.clock.now_ns() + 2_000_000)
    return now


def reread(robot: BridgeRobot, spec: EnvSpec, seen: Observation) -> Observation:
    """What is seen a step later; what was seen last where a stream is silent, or nobody is there."""
    robot.clock.wait_until(robot.clock.now_ns() + spec.step_period_ns)
    with suppress(RobotRlError):
        return robot.read()
    return seen


def reset(robot: BridgeRobot) -> Observation:
    """Once who moved the arm before has lost the lease."""
    until = time.monotonic() + 5.0
    while True:
        try:
            return robot.reset(ResetRequest())
        except CommandRefusedError as error:
            if "lease" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)


def main(address: str) -> None:
    said = ""
    with BridgeRobot(address) as robot:
        spec = robot.connect()
        seen = reset(robot)
        start = seen.state["arm0/tcp_pose"].astype(np.float64)
        while True:
            try:
                robot.command(plan(spec, seen, start))
                refused = ""
                seen = advance(robot, spec, seen)
            except RobotRlError as error:
                refused = str(error)
                seen = reread(robot, spec, seen)
            now = refused or ("moving" if seen.step > 20 else "")
            if now and now != said:
                said = now
                print(now, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(0)
