"""The ROS 2 bridge between a client and the simulated arm: latencies, how soon it brakes, what it costs.

Run: python -m tests.benchmarks.bridge [seconds=20] [trials=5]
Real processes over DDS (LOCALHOST) and ZMQ: sim_robot, the bridge at 100 Hz control, this process as client and as two
cameras of 128 px at 30 Hz (JPEG), and a policy's process that is killed. On a robot's computer the bridge comes before
other work; here it is started with a niceness of -10 where that is allowed.

The last line is one JSON object:
  observation_age_p50_ms, observation_age_p99_ms  from the stamp of an observation to the client's having it, at 20 Hz
  command_p50_ms, command_p99_ms  from the client's command() until the plan is in force and it knows
  set_point_p50_ms, set_point_p99_ms  from command() to the first changed set point on the arm's topic: a tick more
  control_jitter_p99_ms     lateness of the cycles of the control loop
  halt_after_limit_ms       from a time limit reached to the tick in which braking begins; the largest of the trials
  halt_after_actor_kill_ms  from SIGKILL of the policy to the first slower set point on the arm's topic; the largest
  stop_service_ms           from the call of ~/stop to its answer; the largest
  image_drop_rate           of the images published, those that the bridge did not get
  skew_p99_ms               largest distance of a part of an observation from its stamp
  cpu_percent               of one core, the bridge's process
  load                      of the machine while measuring, per core
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import Trigger

from robot_rl.errors import RobotRlError, StaleObservationError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.types import Array, Observation, ResetRequest, TargetChunk
from robot_rl_bridge.arm_description import find_arm
from robot_rl_bridge.spinning import stamped
from tests.ros.graph import Graph, Process, node_command, own_domain

PIXELS, CAMERA_HZ, SPEED_M_S = 128, 30.0, 0.06
IMAGES = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
# A policy that moves at a constant speed along y, to and fro, until it is killed.
POLICY = f"""
import sys, numpy as np
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.types import ResetRequest, TargetChunk
with BridgeRobot(sys.argv[1], timeout_s=5.0) as robot:
    spec = robot.connect()
    seen = robot.reset(ResetRequest())
    start, grid = seen.state["arm0/tcp_pose"].astype(float), seen.stamp_ns
    while True:
        rows = np.tile(start, (10, 1))
        t = (seen.step + 1 + np.arange(10)) / spec.step_rate_hz
        rows[:, 1] += {SPEED_M_S} * (2.0 - np.abs((t + 2.0) % 8.0 - 4.0))
        robot.command(TargetChunk({{"arm0/tcp": rows, "arm0/gripper": np.ones((10, 1))}}, seen.step, seen.stamp_ns))
        if seen.step == 30:
            print("moving", flush=True)
        grid += spec.step_period_ns
        robot.clock.wait_until(grid)
        seen = robot.read()
"""


class Cameras:
    """Publishes two JPEG streams and counts."""

    def __init__(self, graph: Graph) -> None:
        noise = np.random.default_rng(0).integers(0, 255, (PIXELS // 8, PIXELS // 8, 3), dtype=np.uint8)
        image = cv2.resize(noise, (PIXELS, PIXELS), interpolation=cv2.INTER_CUBIC)
        self._data = cv2.imencode(".jpg", image)[1].tobytes()
        self._publishers = {name: graph.node.create_publisher(CompressedImage, f"{name}/image_raw/compressed", IMAGES)
                            for name in ("front", "wrist")}  # fmt: skip
        self._clock, self.sent, self._ended = graph.node.get_clock(), 0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            due += 1.0 / CAMERA_HZ
            for name, publisher in self._publishers.items():
                message = CompressedImage(format="jpeg", data=self._data)
                publisher.publish(stamped(message, self._clock.now().nanoseconds, f"{name}_optical"))
            self.sent += 1

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


class Bench:
    """The processes, and what is heard of them."""

    def __init__(self, domain: int, folder: Path) -> None:
        described = yaml.safe_load(find_arm("sim_panda").read_text())
        for camera in described["cameras"].values():
            camera["height"] = camera["width"] = PIXELS
        arm = folder / "arm.yaml"
        arm.write_text(yaml.safe_dump(described))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.domain, namespace = domain, ("-r", "__ns:=/arm0")
        self.sim = Process(node_command("sim_robot", *namespace, "-p", "camera:=none"), domain, "sim_robot")
        given = {"arm": arm, "auto_activate": "true", "address": self.address}
        words = [word for key, value in given.items() for word in ("-p", f"{key}:={value}")]
        self.bridge = Process(node_command("bridge", *namespace, *words), domain, "bridge")
        self.graph = Graph(domain)
        self.cameras = Cameras(self.graph)
        self.set_points = self.graph.hear(PoseStamped, "target_pose", QoSProfile(depth=100), keep=400)
        self.arrived: list[tuple[float, Array]] = []
        self.diagnostics = self.graph.hear(DiagnosticArray, "/diagnostics")
        self.graph.node.create_subscription(PoseStamped, "target_pose", self._hear, 100)
        self.bridge.wait_for("ready")

    def _hear(self, message: PoseStamped) -> None:
        p = message.pose.position
        self.arrived.append((time.monotonic(), np.array([p.x, p.y, p.z])))

    def told(self, stream: str) -> dict[str, float]:
        """The newest diagnostics of a part of the bridge."""
        name = f"/arm0/bridge: {stream}"
        for array in reversed(self.diagnostics):
            for entry in array.status:
                if entry.name == name:
                    return {value.key: float(value.value) for value in entry.values if _is_number(value.value)}
        return {}

    def close(self) -> None:
        self.cameras.close()
        self.graph.close()
        for process in (self.bridge, self.sim):
            process.end()


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 2).replace("e+", "", 1).replace("e", "", 1).isdigit()


def tracking(bench: Bench, robot: BridgeRobot, seconds: float) -> dict[str, list[float]]:
    """Loop at step rate as an actor does: ages of observations, times of commands, skew."""
    ages, commands, skews = [], [], []
    seen = robot.reset(ResetRequest())
    start, grid = seen.state["arm0/tcp_pose"].astype(np.float64), seen.stamp_ns
    for step in range(int(seconds * 20)):
        rows = np.tile(start, (8, 1))
        rows[:, 1] += 0.03 * np.sin(0.1 * (step + np.arange(8)))
        plan = TargetChunk({"arm0/tcp": rows, "arm0/gripper": np.ones((8, 1))}, seen.step, seen.stamp_ns)
        before = time.perf_counter()
        with suppress(RobotRlError):  # held: a machine under load
            robot.command(plan)
        commands.append(1e3 * (time.perf_counter() - before))
        grid = max(grid + 50_000_000, robot.clock.now_ns() - 40_000_000)
        robot.clock.wait_until(grid)
        seen = observe(robot)
        ages.append(1e-6 * (robot.clock.now_ns() - seen.stamp_ns))
        skews.append(max(abs(1e-6 * (frame.stamp_ns - seen.stamp_ns)) for frame in seen.frames.values()))
    return {"ages": ages, "commands": commands, "skews": skews}


def first_motion(bench: Bench, robot: BridgeRobot, trials: int) -> list[float]:
    """From command() to the first changed set point, from rest."""
    took, sign = [], 1.0
    for _ in range(trials):
        seen = at_rest(bench, robot)
        here = bench.arrived[-1][1]
        rows = np.tile(seen.state["arm0/tcp_pose"].astype(np.float64), (8, 1))
        rows[:, :3] = here
        rows[:, 1] += 0.003 * sign
        sign = -sign
        bench.arrived.clear()
        began = time.monotonic()
        robot.command(TargetChunk({"arm0/tcp": rows, "arm0/gripper": np.ones((8, 1))}, seen.step, seen.stamp_ns))
        bench.graph.poll(
            lambda here=here: any(_moved(p, here) for _, p in bench.arrived), "a set point that moves", 5.0
        )
        took.append(1e3 * (next(at for at, p in bench.arrived if _moved(p, here)) - began))
    return took


def _moved(point: Array, here: Array) -> bool:
    return bool(np.abs(point - here).max() > 1e-7)


def at_rest(bench: Bench, robot: BridgeRobot) -> Observation:
    """Wait until set points stand; the observation then."""
    bench.arrived.clear()
    bench.graph.poll(
        lambda: len(bench.arrived) > 30 and not _moved(bench.arrived[-1][1], bench.arrived[-20][1]), "rest", 20.0
    )
    return observe(robot)


def observe(robot: BridgeRobot) -> Observation:
    """The next observation, once no stream is silent: on a loaded machine one may be."""
    while True:
        with suppress(StaleObservationError):
            return robot.read()
        time.sleep(0.01)


def slows_down(bench: Bench, since: float) -> float:
    """Time from ``since`` to the first set point that is slower than nine tenths of before [ms]."""

    def found() -> float | None:
        arrived = list(bench.arrived)
        times = np.array([at for at, _ in arrived])
        if len(times) < 12:
            return None
        speed = np.linalg.norm(np.diff([p for _, p in arrived], axis=0), axis=1)  # per tick
        late = np.flatnonzero((speed < 0.9 * SPEED_M_S * 0.01) & (times[1:] > since))
        return None if not len(late) else 1e3 * float(times[1:][late[0]] - since)

    bench.graph.poll(lambda: found() is not None, "braking", 10.0)
    return float(found() or 0.0)


def kills(bench: Bench, trials: int) -> tuple[list[float], list[float]]:
    """Braking after SIGKILL of the policy, and after the limit that it led to."""
    after_kill, after_limit = [], []
    for _ in range(trials):
        policy = Process([sys.executable, "-c", POLICY, bench.address], bench.domain, "policy")
        try:
            policy.wait_for("moving")
            bench.arrived.clear()
            bench.graph.poll(lambda: len(bench.arrived) > 10, "set points")
            since = time.monotonic()
            policy.send(signal.SIGKILL)
            after_kill.append(slows_down(bench, since))
            bench.diagnostics.clear()
            bench.graph.poll(lambda: bool(bench.told("control").get("halt_after_limit_ms")), "diagnostics")
            after_limit.append(bench.told("control")["halt_after_limit_ms"])
        finally:
            policy.kill()
    return after_kill, after_limit


def stops(bench: Bench, robot: BridgeRobot, trials: int) -> list[float]:
    """Answers of ~/stop while the arm is tracking."""
    took, client = [], bench.graph.node.create_client(Trigger, "bridge/stop")
    assert client.wait_for_service(timeout_sec=10.0)
    for _ in range(trials):
        seen = robot.reset(ResetRequest())
        rows = np.tile(seen.state["arm0/tcp_pose"].astype(np.float64), (8, 1))
        robot.command(TargetChunk({"arm0/tcp": rows, "arm0/gripper": np.ones((8, 1))}, seen.step, seen.stamp_ns))
        done, began = threading.Event(), time.perf_counter()
        client.call_async(Trigger.Request()).add_done_callback(lambda _, done=done: done.set())
        assert done.wait(10.0)
        took.append(1e3 * (time.perf_counter() - began))
    return took


def cpu_seconds(pid: int) -> float:
    """Of a process and its threads."""
    words = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def measure(bench: Bench, seconds: float, trials: int) -> dict[str, float]:
    """All of the JSON's values."""
    with BridgeRobot(bench.address, timeout_s=5.0) as robot:
        sent, received, cpu, began = (
            bench.cameras.sent,
            bench.told("front"),
            cpu_seconds(bench.bridge.child.pid),
            time.time(),
        )
        bench.diagnostics.clear()
        bench.graph.poll(lambda: "received" in bench.told("front"), "diagnostics")
        sent, received = bench.cameras.sent, bench.told("front")["received"]
        loop = tracking(bench, robot, seconds)
        cpu_percent = 100.0 * (cpu_seconds(bench.bridge.child.pid) - cpu) / (time.time() - began)
        bench.diagnostics.clear()
        bench.graph.poll(lambda: "received" in bench.told("front"), "diagnostics")
        dropped = 1.0 - (bench.told("front")["received"] - received) / (bench.cameras.sent - sent)
        jitter = bench.told("control")["late_p99_ms"]
        motion = first_motion(bench, robot, 10 * trials)
        stopped = stops(bench, robot, trials)
    after_kill, after_limit = kills(bench, trials)
    quantiles = {
        f"{name}_p{p}_ms": float(np.percentile(values, p))
        for name, values in (("observation_age", loop["ages"]), ("command", loop["commands"]), ("set_point", motion))
        for p in (50, 99)
    }
    return {
        **quantiles, "control_jitter_p99_ms": jitter, "halt_after_limit_ms": max(after_limit),
        "halt_after_actor_kill_ms": max(after_kill), "stop_service_ms": max(stopped),
        "image_drop_rate": max(dropped, 0.0) if abs(dropped) > 0.5 / CAMERA_HZ / seconds else 0.0,
        "skew_p99_ms": float(np.percentile(loop["skews"], 99)), "cpu_percent": cpu_percent,
        "load": os.getloadavg()[0] / (os.cpu_count() or 1),
    }  # fmt: skip


def main() -> None:
    options = {"seconds": 20.0, "trials": 5.0} | {k: float(v) for k, v in (word.split("=") for word in sys.argv[1:])}
    with own_domain() as domain, tempfile.TemporaryDirectory() as folder:
        bench = Bench(domain, Path(folder))
        try:
            values = measure(bench, options["seconds"], int(options["trials"]))
        finally:
            bench.close()
    print(json.dumps({name: round(value, 3) for name, value in values.items()}))


if __name__ == "__main__":
    main()
