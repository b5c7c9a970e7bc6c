"""What can go wrong between a policy and an arm, each with real processes over DDS and ZMQ on the simulated Panda.

In every case the speed, acceleration and workspace that the plant itself measures stay within the arm's limits, and
the arm can be used again afterwards. Of the fault table, the learner that is killed is in test_launched, the
signals to the other nodes are in test_teleop and test_recorder.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")

import yaml
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

from robot_rl.errors import CommandRefusedError, StaleObservationError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.types import EnvSpec, Observation, ResetRequest, TargetChunk
from tests.ros.driver import advance, plan
from tests.ros.graph import Graph, Process, node_command, own_domain, shared_memory_of, told
from tests.ros.limits import LIMITS, check_within_limits

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
CONFIG = Path(__file__).parents[2] / "ros2_ws" / "src" / "robot_rl_bringup" / "config"
STANDS = 0.005  # m/s


class Pair:
    """A simulated arm and its bridge, each a process that may be ended and started again."""

    def __init__(self, domain: int, folder: Path) -> None:
        described = yaml.safe_load((CONFIG / "sim_panda.yaml").read_text())
        for camera in described["cameras"].values():
            camera["frozen_s"] = 0.4  # images of the simulated cameras have noise here, as real ones
        self._arm = folder / "arm.yaml"
        self._arm.write_text(yaml.safe_dump(described))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.domain = domain
        self.sim, self.bridge = self.start_sim(), self.start_bridge()
        self.graph = Graph(domain)
        self.extremes: deque[Any] = self.graph.hear(String, "sim/extremes")
        self.modes: deque[Any] = self.graph.hear(DiagnosticStatus, "mode", LATCHED)

    def start_sim(self) -> Process:
        arguments = ("-r", "__ns:=/arm0", "-p", "image_px:=96", "-p", "camera_rate_hz:=30.0", "-p", "image_noise:=2.0")
        return Process(node_command("sim_robot", *arguments), self.domain, "sim_robot")

    def start_bridge(self, module: str = "robot_rl_bridge.bridge") -> Process:
        given = {"arm": str(self._arm), "auto_activate": "true", "address": self.address}
        words = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        command = [sys.executable, "-m", module, "--ros-args", "-r", "__ns:=/arm0", *words]
        return Process(command, self.domain, "bridge")

    def ready(self) -> None:
        """Both run, nothing is injected, nobody moves the arm, and its bridge takes resets."""
        for name in ("sim", "bridge"):
            if getattr(self, name).child.poll() is not None:
                getattr(self, name).kill()
                setattr(self, name, getattr(self, f"start_{name}")())
        self.sim.wait_for("ready")
        self.inject("")
        assert self.graph.set_parameter("sim_robot", "clock_offset_s", 0.0)
        assert self.graph.call(Trigger, "sim_robot/recover").success
        self.bridge.wait_for("ready", 30.0)
        self.graph.poll(self._heard, "the bridge hears the arm")
        self.extremes.clear()
        self.graph.wait(lambda: len(self.modes) > 0, "the mode")

    def _heard(self) -> bool:
        """Whether the bridge hears the arm: one that was started anew is discovered after 0.2 s, or after 3 s."""
        with BridgeRobot(self.address, timeout_s=5.0) as robot:
            try:
                robot.read()
            except StaleObservationError:
                return False
        return True

    def inject(self, fault: str) -> None:
        assert self.graph.set_parameter("sim_robot", "inject", fault)

    def wait_mode(self, mode: str, cause: str = "") -> None:
        def there() -> bool:
            if not self.modes:
                return False
            causes = [value.value for value in self.modes[-1].values if value.key == "cause"]
            return self.modes[-1].message == mode and cause in " ".join(causes)

        try:
            self.graph.wait(there, f"mode {mode}: {cause}")
        except AssertionError as error:
            shown = [(m.message, [v.value for v in m.values]) for m in list(self.modes)[-5:]]
            raise AssertionError(f"{error}; the last were {shown}; {self.bridge.output[-2000:]}") from error

    def rest(self) -> None:
        """Wait until the arm stands."""
        self.graph.next("sim/extremes", lambda message: told(message)["speed_m_s"] < STANDS, keep=True)

    def moving(self) -> None:
        """Wait until it moves."""
        self.graph.next("sim/extremes", lambda message: told(message)["speed_m_s"] > 0.05, keep=True)

    def check(self) -> None:
        """Everything that the plant measured since ``ready`` is within the limits of the arm."""
        check_within_limits(self.extremes)

    def close(self) -> None:
        self.graph.close()
        for process in (self.bridge, self.sim):
            process.kill()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with own_domain() as domain:
        pair = Pair(domain, tmp_path_factory.mktemp("arm"))
        try:
            yield pair
        finally:
            pair.close()


@pytest.fixture
def pair(running: Pair) -> Iterator[Pair]:
    """The pair, ready before the test; within limits and usable after it."""
    running.ready()
    yield running
    if running.sim.child.poll() is None:
        running.check()


@contextmanager
def driver(pair: Pair) -> Iterator[Process]:
    """A policy in a process of its own that moves the arm."""
    process = Process([sys.executable, "-m", "tests.ros.driver", pair.address], pair.domain, "driver")
    try:
        process.wait_for("moving")
        pair.moving()
        yield process
    finally:
        process.kill()


@contextmanager
def client(pair: Pair) -> Iterator[tuple[BridgeRobot, EnvSpec, Observation]]:
    """A policy in this process, at the start of an episode."""
    with BridgeRobot(pair.address, timeout_s=5.0) as robot:
        spec = robot.connect()
        first: list[Observation] = []

        def free() -> bool:
            """Whether who moved the arm before has lost the lease."""
            try:
                first.append(robot.reset(ResetRequest()))
            except StaleObservationError:  # a node that was started anew has not been discovered yet
                return False
            except CommandRefusedError as error:
                if "lease" not in str(error):
                    raise
            return bool(first)

        pair.graph.poll(free, "the lease is free")
        yield robot, spec, first[0]


def drive(robot: BridgeRobot, spec: EnvSpec, seen: Observation, steps: int) -> Observation:
    """Sway for some steps from where the arm is."""
    start = seen.state["arm0/tcp_pose"].astype(np.float64)
    for _ in range(steps):
        robot.command(replace(plan(spec, seen, start)))
        seen = advance(robot, spec, seen)
    return seen


def usable(pair: Pair) -> None:
    """A new client resets the arm and moves it."""
    with client(pair) as (robot, spec, seen):
        drive(robot, spec, seen, 3)


# --- processes that die or stall --------------------------------------------------------------------------------------


def test_policy_killed(pair: Pair) -> None:
    with driver(pair) as policy:
        policy.send(signal.SIGKILL)
        pair.wait_mode("holding", "silent")
        pair.rest()
    usable(pair)


def test_policy_stalled_for_a_second(pair: Pair) -> None:
    with driver(pair) as policy:
        policy.send(signal.SIGSTOP)
        pair.wait_mode("holding", "silent")
        pair.rest()
        for _ in range(10):  # 1 s of the arm's own messages
            pair.graph.next("sim/extremes", keep=True)
        policy.lines.clear()
        policy.send(signal.SIGCONT)
        pair.moving()  # it goes on by itself where its plan passes the arm
    usable(pair)


def test_bridge_killed(pair: Pair) -> None:
    with driver(pair):
        pair.bridge.send(signal.SIGKILL)
        pair.bridge.child.wait()
        pair.rest()  # the arm's own time limit
    pair.check()
    pair.modes.clear()
    pair.ready()
    usable(pair)


def test_bridge_frozen_for_two_seconds(pair: Pair) -> None:
    with driver(pair):
        pair.bridge.send(signal.SIGSTOP)
        try:
            pair.rest()
            for _ in range(20):  # 2 s of the arm's own messages
                pair.graph.next("sim/extremes", keep=True)
        finally:
            pair.bridge.send(signal.SIGCONT)
        pair.wait_mode("holding")
    usable(pair)


# --- plans that make no sense -----------------------------------------------------------------------------------------


def spoiled(what: str, good: TargetChunk) -> TargetChunk:
    tcp = good.targets["arm0/tcp"].copy()
    if what == "nan":
        tcp[2, 1] = np.nan
        return replace(good, targets={**good.targets, "arm0/tcp": tcp})
    if what == "names":
        return replace(good, targets={"arm1/tcp": tcp, "arm0/gripper": good.targets["arm0/gripper"]})
    if what == "frame":
        return replace(good, frame="world")
    return replace(good, stamp_ns=good.stamp_ns - 2 * 10**9)


@pytest.mark.parametrize("what", ["nan", "frame", "names", "stamp"])
def test_a_plan_that_cannot_be_meant_is_refused_and_the_last_one_runs_out(pair: Pair, what: str) -> None:
    with client(pair) as (robot, spec, seen):
        start = seen.state["arm0/tcp_pose"].astype(np.float64)
        seen = drive(robot, spec, seen, 20)
        for _ in range(12):  # longer than the eight rows of the last plan
            with pytest.raises(CommandRefusedError):
                robot.command(spoiled(what, plan(spec, seen, start)))
            seen = advance(robot, spec, seen)
        pair.rest()
        assert robot.read().mode.split(":")[0] in ("tracking", "holding")


def test_a_jump_of_30_cm_becomes_a_motion_within_limits(pair: Pair) -> None:
    with client(pair) as (robot, spec, seen):
        seen = drive(robot, spec, seen, 10)
        there = seen.state["arm0/tcp_pose"].astype(np.float64)
        there[1] = 0.3
        interventions: set[str] = set()
        for _ in range(30):
            rows = {"arm0/tcp": np.tile(there, (8, 1)), "arm0/gripper": np.ones((8, 1))}
            robot.command(TargetChunk(rows, seen.step, seen.stamp_ns, frame="base"))
            seen = advance(robot, spec, seen)
            interventions |= set(seen.report.interventions) if seen.report is not None else set()
        assert abs(float(seen.state["arm0/tcp_pose"][1]) - 0.3) < 0.01
    assert interventions & {"jump", "motion"}


def test_a_plan_beyond_the_walls_ends_at_the_wall(pair: Pair) -> None:
    with client(pair) as (robot, spec, seen):
        start = seen.state["arm0/tcp_pose"].astype(np.float64)
        for step in range(1, 50):
            rows = np.array([start + np.eye(7)[1] * 0.02 * (step + i) for i in range(8)])
            robot.command(
                TargetChunk({"arm0/tcp": rows, "arm0/gripper": np.ones((8, 1))}, seen.step, seen.stamp_ns, frame="base")
            )
            seen = advance(robot, spec, seen)
        assert abs(float(seen.state["arm0/tcp_pose"][1]) - LIMITS.box_upper_m[1]) < 0.01


def test_a_second_client_reads_and_stops_and_does_not_move(pair: Pair) -> None:
    with driver(pair), BridgeRobot(pair.address, timeout_s=5.0) as second:
        spec = second.connect()
        seen = second.read()
        start = seen.state["arm0/tcp_pose"].astype(np.float64)
        for _ in range(5):
            with pytest.raises(CommandRefusedError, match="lease"):
                second.command(plan(spec, second.read(), start))
        with pytest.raises(CommandRefusedError, match="lease"):
            second.reset(ResetRequest())
        pair.moving()
        second.stop()
        pair.wait_mode("stopped")
        pair.rest()
    usable(pair)


# --- the arm's side ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["joint_states_silent", "camera_silent", "camera_frozen"])
def test_a_stream_that_fails_holds_the_arm(pair: Pair, fault: str) -> None:
    with driver(pair):
        pair.inject(fault)
        pair.wait_mode("holding", "silent" if "silent" in fault else "")
        pair.rest()
        pair.inject("")
    usable(pair)


@pytest.mark.parametrize("offset_s", [3600.0, -3600.0])
def test_a_clock_stepped_by_an_hour_moves_nothing(pair: Pair, offset_s: float) -> None:
    """The arm's stamps are of another hour: they are not believed, and the arm holds until the clocks agree."""
    with driver(pair):
        assert pair.graph.set_parameter("sim_robot", "clock_offset_s", offset_s)
        pair.wait_mode("holding", "silent")
        pair.rest()
        assert pair.graph.set_parameter("sim_robot", "clock_offset_s", 0.0)
    usable(pair)


def test_a_fault_of_the_arm_is_one_of_the_bridge_until_it_is_cleared(pair: Pair) -> None:
    with driver(pair):
        pair.inject("arm_fault")
        pair.wait_mode("fault", "reflex")
        pair.rest()
    with pytest.raises(CommandRefusedError, match="fault"), client(pair):
        pass
    refused = pair.graph.call(Trigger, "bridge/clear_fault")
    assert not refused.success
    assert "reflex" in refused.message
    pair.inject("")
    assert pair.graph.call(Trigger, "sim_robot/recover").success

    def cleared() -> bool:
        return pair.graph.call(Trigger, "bridge/clear_fault").success

    pair.graph.poll(cleared, "the fault is cleared")  # at most one attempt per second is let through
    pair.wait_mode("stopped")
    usable(pair)


def test_a_contact_that_stopped_the_arm_does_not_stop_it_again(pair: Pair) -> None:
    """Pressed on the cube from above; what was streamed then is over once the fault is cleared."""
    with client(pair) as (robot, spec, seen):
        rows = {"arm0/tcp": np.array([[0.5, 0.0, 0.2, 1.0, 0.0, 0.0, 0.0]]), "arm0/gripper": np.zeros((1, 1))}
        while not seen.mode.startswith("fault"):
            rows["arm0/tcp"][0, 2] -= 0.006
            assert rows["arm0/tcp"][0, 2] > -0.1, "it never touched anything"
            with suppress(CommandRefusedError):  # of a mode that was entered meanwhile
                robot.command(TargetChunk(rows, seen.step, seen.stamp_ns, frame="base"))
            seen = advance(robot, spec, seen)
    assert "contact" in seen.mode
    pair.rest()

    assert pair.graph.call(Trigger, "sim_robot/recover").success  # once
    pair.graph.poll(lambda: pair.graph.call(Trigger, "bridge/clear_fault").success, "the fault is cleared")
    pair.wait_mode("stopped")
    usable(pair)


def test_garbage_on_the_topics_of_the_arm_does_not_end_the_bridge(pair: Pair) -> None:
    joints = pair.graph.publisher(JointState, "joint_states")
    gripper = pair.graph.publisher(JointState, "gripper/state")
    with driver(pair):
        for message in (
            JointState(),
            JointState(name=["joint1"]),
            JointState(name=["joint1", "joint1"], position=[0.0, 1.0]),
            JointState(name=[f"joint{i}" for i in range(1, 8)], position=[float("nan")] * 7),
        ):
            message.header.stamp = pair.graph.node.get_clock().now().to_msg()
            joints.publish(message)
            gripper.publish(message)
        pair.moving()
    assert pair.bridge.child.poll() is None


# --- ROS --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_CONFIGURE, 99])
def test_an_invalid_lifecycle_transition_is_refused_and_ends_nothing(pair: Pair, number: int) -> None:
    with driver(pair):
        request = ChangeState.Request(transition=Transition(id=number))
        assert not pair.graph.call(ChangeState, "bridge/change_state", request).success
        pair.moving()
    assert pair.bridge.child.poll() is None


def test_a_callback_that_raises_is_a_fault_that_stops_the_arm(pair: Pair) -> None:
    assert pair.bridge.end() == 0, pair.bridge.output
    pair.bridge = pair.start_bridge("tests.ros.raising_bridge")
    pair.bridge.wait_for("ready")
    trigger = pair.graph.publisher(Float64, "teleop/gripper")
    with driver(pair):
        trigger.publish(Float64(data=0.5))
        assert pair.bridge.child.wait(timeout=30) == 1
        pair.rest()
    assert "as injected" in pair.bridge.output
    pair.check()
    pair.modes.clear()
    pair.ready()
    usable(pair)


def test_a_callback_of_the_arm_that_raises_ends_it_and_holds_the_bridge(pair: Pair) -> None:
    with driver(pair):
        pair.inject("callback_raises")
        assert pair.sim.child.wait(timeout=30) == 1
        pair.wait_mode("holding", "silent")
    pair.ready()
    usable(pair)


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["bridge", "sim"])
def test_a_signal_ends_a_node_cleanly_while_the_arm_moves(pair: Pair, name: str, number: signal.Signals) -> None:
    process: Process = getattr(pair, name)
    with driver(pair):
        assert shared_memory_of(process.child.pid)  # which must be gone afterwards, as any process that it started
        assert process.end(number) == 0, process.output
        if name == "bridge":
            pair.rest()
    assert "Traceback" not in process.output
    if name == "bridge":
        pair.check()
        pair.modes.clear()
