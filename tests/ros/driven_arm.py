"""An arm that follows set points exactly, for tests of what commands it: ticked by hand, or by its own threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from robot_rl.types import Array, ResetRequest, TargetChunk
from robot_rl_bridge.arm_control import ArmControl
from robot_rl_bridge.arm_description import GRIPPER, TCP, ArmDescription, load_arm
from robot_rl_bridge.arm_state import Measured, SetPoint
from robot_rl_bridge.bridged_arm import BridgedArm
from robot_rl_bridge.sensors import Sensors

MS = 1_000_000
TICK = 10 * MS


class Loop:
    """ArmControl with an arm that is at once where it is sent; 100 ticks and 20 steps a second."""

    def __init__(self, part: str = TCP, robot: str = "sim_panda", **changes: Any) -> None:
        self.arm = described(robot, **changes)
        self.heard: list[str] = []
        spec = self.arm.env_spec(part, [], [])
        self.control = ArmControl(self.arm, spec, lambda mode, cause: self.heard.append(f"{mode}: {cause}"))
        self.now = 10_000 * MS
        self.joints, self.opening = self.arm.home.copy(), 1.0
        self.alive, self.silent = True, ""
        self.sent: list[SetPoint] = []

    @property
    def measured(self) -> Measured:
        n = len(self.joints)
        return Measured(self.joints.copy(), np.zeros(n), self.opening, self.now)

    def begin(self) -> None:
        """An episode whose step 0 begins now."""
        self.control.activate(self.measured, self.now)
        self.control.end_reset(self.measured, self.now, self.now)

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.tick_at(self.measured, self.silent)

    def tick_at(self, measured: Measured, silent: str = "") -> None:
        """A tick in which this is what the arm measures."""
        if self.alive:
            self.control.heartbeat(self.now)
        point = self.control.tick(self.now, measured, silent)
        if point is not None:
            self.joints, self.opening = point.joints, point.opening
            self.sent.append(point)
        self.now += TICK

    def step(self) -> int:
        return self.control.step_at(self.now)

    def plan(self, offsets_m: list[float], first_step: int | None = None, stamp: int | None = None) -> TargetChunk:
        """Rows along x from where the set point is."""
        pose = self.control.servo.pose
        rows = np.tile(pose, (len(offsets_m), 1))
        rows[:, 0] += offsets_m
        targets = {TCP: rows, GRIPPER: np.full((len(rows), 1), 1.0)}
        return TargetChunk(targets, self.step() if first_step is None else first_step, stamp or self.now)

    def submit(self, chunk: TargetChunk) -> None:
        self.control.submit(chunk, self.now)


def described(robot: str, **changes: Any) -> ArmDescription:
    """A description with some things changed."""
    return replace(load_arm(robot), **changes)


class ExactPort:
    """A port whose arm is at once where it is sent; its streams go on until told otherwise."""

    def __init__(self, arm: ArmDescription, sensors: Sensors) -> None:
        self.arm, self.sensors = arm, sensors
        self.joints, self.opening = arm.home.copy(), 1.0
        self.sent: list[tuple[int, SetPoint]] = []
        self.says, self.lacks, self.resets, self.recovered = "", list[str](), list[ResetRequest](), 0
        self.quiet = False

    def send(self, point: SetPoint) -> None:
        self.sent.append((time.monotonic_ns(), point))
        self.joints, self.opening = point.joints, point.opening

    def speak(self) -> None:
        """One message of each stream."""
        if self.quiet:
            return
        now = time.monotonic_ns()
        values = {name: (float(q), 0.0) for name, q in zip(self.arm.chain.names, self.joints, strict=True)}
        self.sensors.joints(values, now, now, now)
        self.sensors.gripper(self.opening, now, now, now)

    def fault(self) -> str:
        return self.says

    def missing(self) -> list[str]:
        return self.lacks

    def recover(self) -> None:
        self.recovered += 1
        self.says = ""

    def reset_simulator(self, request: ResetRequest, timeout_s: float) -> None:
        self.resets.append(request)
        self.joints, self.opening = self.arm.home.copy(), request.gripper_opening


@contextmanager
def bridged(**changes: Any) -> Iterator[tuple[BridgedArm, ExactPort]]:
    """An active arm whose streams come 200 times a second."""
    arm = described("sim_panda", **changes)
    sensors = Sensors(arm, [], [])
    port = ExactPort(arm, sensors)
    ended = threading.Event()

    def speak() -> None:
        while not ended.wait(0.005):
            port.speak()

    with BridgedArm(arm, arm.env_spec(TCP, [], []), sensors, port) as robot:
        thread = threading.Thread(target=speak)
        thread.start()
        try:
            robot.warm_up()
            wait_for(lambda: not robot.unready())
            robot.activate()
            yield robot, port
        finally:
            robot.close()
            ended.set()
            thread.join()


def wait_for(condition: Callable[[], Any], limit_s: float = 20.0) -> None:
    until = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until, "condition not met in time"
        time.sleep(0.002)


def speeds(points: list[SetPoint], dt: float = 0.01) -> Array:
    """Of the TCP [m/s], tick by tick."""
    return np.linalg.norm(np.diff([point.pose[:3] for point in points], axis=0), axis=1) / dt
