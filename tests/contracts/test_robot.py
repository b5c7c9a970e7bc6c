"""The Robot contract: every option of the group robot/, and the fake behind ZMQ and behind ROS in other processes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError, RobotRlError
from robot_rl.interfaces import Robot
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.robots.fake import FakeRobot
from robot_rl.robots.server import RobotServer
from robot_rl.types import Array, EnvSpec, Observation, Phase, ResetRequest, TargetChunk
from robot_rl_bridge.arm_description import ResetRoutine
from tests.contracts.options import build_robot, options
from tests.contracts.served import ros_robot, zmq_robot
from tests.ros.driven_arm import bridged

DOWN = (1.0, 0.0, 0.0, 0.0)


def make_ros() -> object:
    pytest.importorskip("rclpy", reason="the extra 'ros' is not installed")
    return ros_robot(domain=71)


@contextmanager
def served(robot: Robot) -> Iterator[Robot]:
    """A robot behind ZMQ, in this process."""
    with RobotServer(robot) as server, BridgeRobot(server.address) as bridge:
        yield bridge


@contextmanager
def bridge_option() -> Iterator[Robot]:
    """The client of a bridge whose arm is at once where it is sent; ROS is left out."""
    routine = ResetRoutine(by="motion", confirm=False, speed_m_s=0.5, speed_rad_s=2.0, lift_m=0.0)
    with bridged(reset=routine) as (arm, _), RobotServer(arm) as server:
        yield build_robot("bridge", f"robot.address={server.address}")


ROBOTS = {
    **{name: lambda name=name: nullcontext(build_robot(name)) for name in options("robot") if name != "bridge"},
    "bridge": lambda: bridge_option(),
    "fake in real time": lambda: nullcontext(FakeRobot(clock="wall")),
    "fake over ZMQ": lambda: zmq_robot("simulated"),
    "fake over ZMQ in real time": lambda: zmq_robot("wall"),
    "fake over ROS": make_ros,
    "sim_panda over ZMQ": lambda: served(build_robot("sim_panda")),
}


@pytest.fixture(params=ROBOTS, scope="module")
def robot(request: pytest.FixtureRequest) -> Iterator[Robot]:
    with ROBOTS[request.param]() as robot:
        yield robot
        robot.close()


@pytest.fixture
def spec(robot: Robot) -> EnvSpec:
    return robot.connect()


def step(robot: Robot, spec: EnvSpec) -> Observation:
    """One control period later; a robot behind a stream may need a moment more to show it."""
    before = robot.read()
    robot.clock.wait_until(before.stamp_ns + spec.step_period_ns)
    for _ in range(200):
        if (seen := robot.read()).step > before.step:
            return seen
        robot.clock.wait_until(robot.clock.now_ns() + 5_000_000)
    raise AssertionError("the robot's steps do not go on")


def pose_at(spec: EnvSpec, *position_m: float) -> Array:
    """TCP pose [7], tool down, at the point of the robot's workspace that is nearest to a position."""
    tcp = spec.action.part("arm0/tcp")
    return np.array([*np.clip(position_m, tcp.low[:3], tcp.high[:3]), *DOWN])


def chunk(spec: EnvSpec, seen: Observation, x_m: list[float], first_step: int | None = None) -> TargetChunk:
    poses = np.array([pose_at(spec, x, 0.1, 0.3) for x in x_m])
    targets = {"arm0/tcp": poses, "arm0/gripper": np.zeros((len(x_m), 1))}
    return TargetChunk(targets, seen.step if first_step is None else first_step, seen.stamp_ns, frame="base")


def test_satisfies_the_protocol(robot: Robot) -> None:
    assert isinstance(robot, Robot)


def test_observations_are_as_the_spec_says(robot: Robot, spec: EnvSpec) -> None:
    seen = robot.reset(ResetRequest())
    for name, array in spec.observation.items():
        if not array.privileged:
            array.check(name, seen.state[name])
    assert seen.mode == "tracking"


def test_reset_reaches_the_requested_pose(robot: Robot, spec: EnvSpec) -> None:
    pose = pose_at(spec, 0.5, 0.2, 0.25)
    seen = robot.reset(ResetRequest(tcp_pose=pose))
    np.testing.assert_allclose(seen.state["arm0/tcp_pose"][:3], pose[:3], atol=5e-3)


def test_time_and_steps_go_on(robot: Robot, spec: EnvSpec) -> None:
    first = robot.reset(ResetRequest())
    second = step(robot, spec)
    third = step(robot, spec)
    assert first.step < second.step < third.step
    assert first.stamp_ns < second.stamp_ns < third.stamp_ns
    assert second.stamp_ns - first.stamp_ns >= spec.step_period_ns // 2


def test_a_plan_moves_the_arm_and_is_reported_in_absolute_targets(robot: Robot, spec: EnvSpec) -> None:
    seen = robot.reset(ResetRequest(tcp_pose=pose_at(spec, 0.5, 0.1, 0.3)))
    x = float(seen.state["arm0/tcp_pose"][0])
    # rest to rest over 1 cm takes an arm's acceleration more than one step: the stream may run a row late
    for i in (1, 2, 3, 4, 4, 4):
        robot.command(chunk(spec, seen, [x + 0.01 * i] * 4))
        seen = step(robot, spec)
    assert abs(float(seen.state["arm0/tcp_pose"][0]) - (x + 0.04)) < 3e-3
    assert seen.report is not None
    assert seen.report.source is Phase.POLICY
    assert seen.report.valid
    assert seen.report.step < seen.step
    assert abs(float(seen.report.executed["arm0/tcp"][0]) - (x + 0.04)) < 3e-3


def test_when_the_plan_has_run_out_the_arm_holds_and_says_so(robot: Robot, spec: EnvSpec) -> None:
    seen = robot.reset(ResetRequest())
    robot.command(chunk(spec, seen, [float(seen.state["arm0/tcp_pose"][0]) + 0.01] * 2))
    for _ in range(6):
        seen = step(robot, spec)
    held = seen.state["arm0/tcp_pose"]
    seen = step(robot, spec)
    np.testing.assert_allclose(seen.state["arm0/tcp_pose"], held, atol=2e-3)
    assert seen.report is not None
    assert not seen.report.valid


def test_stop_holds_and_refuses_commands_until_the_next_reset(robot: Robot, spec: EnvSpec) -> None:
    seen = robot.reset(ResetRequest())
    robot.stop()
    robot.stop()
    with pytest.raises(CommandRefusedError, match="stopped"):
        robot.command(chunk(spec, seen, [0.6, 0.7]))
    assert robot.read().mode.startswith("stopped")
    seen = robot.reset(ResetRequest())
    robot.command(chunk(spec, seen, [float(seen.state["arm0/tcp_pose"][0])]))


def test_stop_works_from_another_thread(robot: Robot, spec: EnvSpec) -> None:
    robot.reset(ResetRequest())
    thread = threading.Thread(target=robot.stop)
    thread.start()
    for _ in range(3):
        step(robot, spec)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert step(robot, spec).mode.startswith("stopped")


def test_targets_that_are_not_finite_never_reach_the_arm(robot: Robot, spec: EnvSpec) -> None:
    seen = robot.reset(ResetRequest())
    before = seen.state["arm0/tcp_pose"]
    with pytest.raises(RobotRlError, match="finite"):
        robot.command(chunk(spec, seen, [float("nan"), 0.5]))
    np.testing.assert_allclose(step(robot, spec).state["arm0/tcp_pose"], before, atol=2e-3)
