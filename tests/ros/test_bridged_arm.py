"""The bridge without ROS: its threads in real time, served over ZMQ, on an arm that is at once where it is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError, ResetError, RobotError, StaleObservationError
from robot_rl.robots.bridge import BridgeRobot
from robot_rl.robots.server import RobotServer
from robot_rl.types import Array, Observation, Phase, ResetRequest, TargetChunk
from robot_rl_bridge.arm_description import GRIPPER, TCP, ResetRoutine
from robot_rl_bridge.arm_state import SetPoint
from robot_rl_bridge.bridged_arm import BridgedArm
from robot_rl_bridge.modes import Mode
from robot_rl_bridge.reset_routine import joint_way, lifted_joint_way, tcp_way
from robot_rl_bridge.sensors import Sensors
from tests.ros.driven_arm import ExactPort, bridged, described, wait_for

pytestmark = pytest.mark.robot


@pytest.fixture
def pair() -> Iterator[tuple[BridgedArm, ExactPort]]:
    with bridged() as pair:
        yield pair


def plan(robot: Any, seen: Observation, offsets_m: list[float]) -> TargetChunk:
    rows = np.tile(seen.state["arm0/tcp_pose"].astype(np.float64), (len(offsets_m), 1))
    rows[:, 0] += offsets_m
    return TargetChunk({TCP: rows, GRIPPER: np.ones((len(offsets_m), 1))}, seen.step, seen.stamp_ns, frame="base")


def test_activation_lists_everything_that_is_missing() -> None:
    arm = described("sim_panda")
    sensors = Sensors(arm, ["front"], ["cube_pose"])
    port = ExactPort(arm, sensors)
    port.lacks = ["nobody listens on 'target_pose'"]
    with (
        BridgedArm(arm, arm.env_spec(TCP, ["front"], ["cube_pose"]), sensors, port) as robot,
        pytest.raises(CommandRefusedError) as refused,
    ):
        robot.activate()
    for missing in ("kernels are being compiled", "'joint_states'", "'gripper'", "'front'", "'cube_pose'", "listens"):
        assert missing in str(refused.value)
    assert port.sent == []


def test_the_loop_must_hold_its_rate_for_a_second_before_activation() -> None:
    arm = described("sim_panda")
    sensors = Sensors(arm, [], [])
    port = ExactPort(arm, sensors)
    robot = BridgedArm(arm, arm.env_spec(TCP, [], []), sensors, port)
    robot.warm_up()  # before the loop begins: with kernels to compile it takes longer than the second
    with robot:
        port.speak()
        assert "has not held its rate" in "; ".join(robot.unready())


def test_steps_follow_one_another_and_tell_what_became_of_commands(pair: tuple[BridgedArm, ExactPort]) -> None:
    robot, _ = pair
    seen = robot.reset(ResetRequest(gripper_opening=1.0))
    assert (seen.step, seen.mode) == (0, "tracking")
    assert seen.report is not None and seen.report.source is Phase.RESET
    start, steps = seen, []
    for _ in range(10):
        robot.command(replace(plan(robot, start, [0.002] * 8), first_step=seen.step, stamp_ns=seen.stamp_ns))
        before = seen
        robot.clock.wait_until(seen.stamp_ns + robot.spec.step_period_ns)
        while (seen := robot.read()).step == before.step:
            pass
        steps.append(seen.step - before.step)
        assert seen.stamp_ns > before.stamp_ns
    assert steps.count(1) >= 5  # a machine under load may miss some
    assert seen.report is not None
    assert seen.report.source is Phase.POLICY
    assert seen.report.executed[TCP][0] - start.state["arm0/tcp_pose"][0] == pytest.approx(0.002, abs=2e-4)


def test_a_client_over_zmq_that_falls_silent_is_held_and_goes_on(pair: tuple[BridgedArm, ExactPort]) -> None:
    robot, _ = pair
    with RobotServer(robot) as server, BridgeRobot(server.address) as client:
        seen = client.reset(ResetRequest())
        client.command(plan(client, seen, [0.001 * i for i in range(40)]))
        wait_for(lambda: robot.control.modes.text == "holding: client silent")
        wait_for(lambda: robot.control.halted_ns[1] >= robot.control.halted_ns[0] > 0)  # braking began
        seen = client.read()
        client.command(plan(client, seen, [0.0, 0.0]))
        wait_for(lambda: robot.control.modes.mode in (Mode.TRACKING, Mode.HOLDING))


def test_others_read_while_the_arm_is_reset() -> None:
    routine = ResetRoutine(by="motion", confirm=True)
    with (
        bridged(reset=routine) as (robot, _),
        RobotServer(robot) as server,
        BridgeRobot(server.address) as client,
        BridgeRobot(server.address) as watcher,
    ):
        thread = threading.Thread(target=lambda: client.reset(ResetRequest()))
        thread.start()
        wait_for(lambda: watcher.read().mode == "resetting: waiting for the operator")
        robot.confirmed()
        thread.join(timeout=20)
        assert watcher.read().mode.startswith(("tracking", "holding"))


# --- resets -----------------------------------------------------------------------------------------------------------


def test_the_reset_routine_moves_up_over_and_down_and_ends_verified() -> None:
    with bridged(reset=ResetRoutine(by="motion", confirm=False, lift_m=0.05, speed_m_s=0.3)) as (robot, port):
        start, goal = robot.arm.chain.pose(port.joints), robot.arm.chain.pose(port.joints)
        goal[:3] += [0.06, 0.05, -0.03]
        port.sent.clear()
        seen = robot.reset(ResetRequest(tcp_pose=goal, gripper_opening=0.5))
        np.testing.assert_allclose(seen.state["arm0/tcp_pose"][:3], goal[:3], atol=5e-3)
        assert seen.state["arm0/gripper_opening"][0] == pytest.approx(0.5, abs=0.02)
        heights = np.array([point.pose[2] for _, point in port.sent])
        assert heights.max() == pytest.approx(start[2] + 0.05, abs=5e-3)
        speeds = np.linalg.norm(np.diff([p.pose[:3] for _, p in port.sent], axis=0), axis=1) / 0.01
        assert speeds.max() < 0.4  # far below what plans may do


def test_without_the_operators_word_nothing_moves() -> None:
    with bridged(reset=ResetRoutine(by="motion", confirm=True, confirm_timeout_s=0.3)) as (robot, port):
        before = port.joints.copy()
        goal = robot.arm.chain.pose(before) + np.array([0.05, 0, 0, 0, 0, 0, 0])
        with pytest.raises(ResetError, match="no operator has confirmed"):
            robot.reset(ResetRequest(tcp_pose=goal))
        np.testing.assert_allclose(port.joints, before, atol=1e-6)
        assert robot.control.modes.text == "stopped: the reset failed"


def test_letting_go_of_the_dead_man_ends_the_reset() -> None:
    with bridged(reset=ResetRoutine(by="motion", confirm=True, speed_m_s=0.05)) as (robot, port):
        goal = robot.arm.chain.pose(port.joints) + np.array([0.1, 0, 0, 0, 0, 0, 0])
        human = robot.control.human
        failed: list[BaseException] = []

        def reset() -> None:
            try:
                robot.reset(ResetRequest(tcp_pose=goal))
            except ResetError as error:
                failed.append(error)

        thread = threading.Thread(target=reset)
        thread.start()
        wait_for(lambda: robot.control.modes.mode is Mode.RESETTING)  # what is pressed before counts for nothing
        until = time.monotonic() + 0.8
        while time.monotonic() < until:
            human.hear(np.zeros(6), "base", time.monotonic_ns())
            time.sleep(0.02)
        assert robot.control.modes.mode is Mode.RESETTING
        thread.join(timeout=10)
        assert "dead-man was let go" in str(failed[0])
        wait_for(lambda: robot.control.at_rest)
        assert port.sent[-1][1].pose[0] < goal[0] - 0.03


def test_stop_ends_a_reset(pair: tuple[BridgedArm, ExactPort]) -> None:
    with bridged(reset=ResetRoutine(by="motion", confirm=True)) as (robot, _):
        thread = threading.Timer(0.1, robot.stop)
        thread.start()
        with pytest.raises(ResetError, match="ended: stopped"):
            robot.reset(ResetRequest())
        thread.join()


def test_an_arm_that_does_not_arrive_is_a_failed_reset() -> None:
    with bridged(reset=ResetRoutine(by="simulator", confirm=False)) as (robot, _):
        with pytest.raises(ResetError, match=r"TCP is 50\.0 mm"):  # the port goes home, whatever it is told
            robot.reset(ResetRequest(tcp_pose=robot.arm.chain.pose(robot.arm.home) + np.eye(7)[0] * 0.05))
        assert robot.control.modes.mode is Mode.STOPPED


def test_objects_are_placed_by_simulators_only() -> None:
    with (
        bridged(reset=ResetRoutine(by="motion", confirm=False)) as (robot, _),
        pytest.raises(ResetError, match="place"),
    ):
        robot.reset(ResetRequest(simulator_state={"object/cube_pose": np.zeros(7)}))


@pytest.mark.parametrize("timeout_s", [float("nan"), float("inf"), 0.0])
def test_a_reset_without_an_end_is_refused(pair: tuple[BridgedArm, ExactPort], timeout_s: float) -> None:
    with pytest.raises(ResetError, match="a reset within"):
        pair[0].reset(ResetRequest(timeout_s=timeout_s))


def test_ways_begin_and_end_gently() -> None:
    routine = ResetRoutine(speed_m_s=0.1, lift_m=0.05)
    start, end = np.array([0.4, 0, 0.2, 1, 0, 0, 0.0]), np.array([0.5, 0, 0.1, 1, 0, 0, 0.0])
    way = tcp_way(start, end, routine, 0.05, ceiling_m=0.5)
    np.testing.assert_allclose(way[-1], end, atol=1e-12)
    assert way[:, 2].max() == pytest.approx(0.25)
    speed = np.linalg.norm(np.diff(way[:, :3], axis=0), axis=1) / 0.05
    assert speed.max() <= 0.1001 and speed[0] < 0.03 and speed[-1] < 0.03
    capped = tcp_way(start, end, routine, 0.05, ceiling_m=0.22)
    assert capped[:, 2].max() == pytest.approx(0.22)
    joints = joint_way(np.zeros(2), np.array([0.4, -0.2]), routine, 0.05)
    assert np.abs(np.diff(joints, axis=0)).max() / 0.05 <= 0.4001
    np.testing.assert_allclose(joints[-1], [0.4, -0.2])


def test_an_arm_commanded_by_joints_is_lifted_first_too() -> None:
    arm = described("sim_ur5e")
    routine, chain, start = ResetRoutine(lift_m=0.05, speed_m_s=0.1), arm.chain, arm.home
    end = start + np.array([0.4, 0.1, -0.1, 0.0, 0.0, 0.2])
    here, there = chain.pose(start), chain.pose(end)
    assert np.linalg.norm(there[:2] - here[:2]) > 0.1
    way = lifted_joint_way(chain, start, end, routine, 0.05, ceiling_m=1.0)
    poses = np.array([chain.pose(row) for row in way])
    height = max(here[2], there[2]) + 0.05
    assert poses[:, 2].max() >= height - 1e-4
    lifted = np.flatnonzero(poses[:, 2] > height - 1e-4)
    up, down = int(lifted[0]), int(lifted[-1])
    np.testing.assert_allclose(poses[: up + 1, :2], np.tile(here[:2], (up + 1, 1)), atol=1e-3)  # straight up
    np.testing.assert_allclose(poses[down:, :2], np.tile(there[:2], (len(way) - down, 1)), atol=1e-3)  # and down
    np.testing.assert_allclose(way[-1], end, atol=1e-9)
    turned = np.abs(np.diff(np.vstack((start, way)), axis=0)).max(axis=1) / 0.05
    assert turned.max() <= routine.joint_speed_rad_s + 1e-6
    near = lifted_joint_way(chain, start, start + 0.01, routine, 0.05, ceiling_m=1.0)
    np.testing.assert_array_equal(near, joint_way(start, start + 0.01, routine, 0.05))


# --- faults -----------------------------------------------------------------------------------------------------------


def test_a_silent_arm_is_held_and_cannot_be_read(pair: tuple[BridgedArm, ExactPort]) -> None:
    robot, port = pair
    robot.reset(ResetRequest())
    port.quiet = True
    wait_for(lambda: robot.control.modes.text == "holding: joint_states silent")
    with pytest.raises(StaleObservationError, match="'joint_states' is silent"):
        robot.read()


def test_a_fault_of_the_arm_is_cleared_by_name_only(pair: tuple[BridgedArm, ExactPort]) -> None:
    robot, port = pair
    robot.reset(ResetRequest())
    port.says = "reflex"
    wait_for(lambda: robot.control.modes.text == "fault: arm: reflex")
    with pytest.raises(RobotError, match="fault"):
        robot.reset(ResetRequest())
    assert robot.control.modes.mode is Mode.FAULT
    robot.clear_fault()
    assert port.recovered == 1
    assert robot.control.modes.text == "stopped: fault cleared"
    robot.reset(ResetRequest())


def test_an_arm_that_was_guided_in_a_fault_is_held_there_before_it_recovers(pair: tuple[BridgedArm, ExactPort]) -> None:
    robot, port = pair
    robot.reset(ResetRequest())
    followed, recover, targets = port.send, port.recover, list[Array]()

    def send(point: SetPoint) -> None:
        joints = port.joints
        followed(point)
        if port.says:  # its controller follows nothing
            port.joints = joints

    def recover_to_the_newest() -> None:
        targets.append(port.sent[-1][1].joints)
        recover()

    port.send, port.recover = send, recover_to_the_newest  # type: ignore[method-assign]
    port.says = "reflex"
    wait_for(lambda: robot.control.modes.text == "fault: arm: reflex")
    wait_for(lambda: robot.control.settled)
    guided = port.joints = port.joints + np.eye(7)[0] * 0.2
    wait_for(lambda: np.array_equal(robot.measured().position, guided))
    robot.clear_fault()
    np.testing.assert_allclose(targets, [guided], atol=1e-3)
    np.testing.assert_allclose(port.joints, guided, atol=1e-3)


def test_an_arm_of_which_nobody_knows_where_it_is_does_not_recover(pair: tuple[BridgedArm, ExactPort]) -> None:
    robot, port = pair
    robot.reset(ResetRequest())
    port.says, port.quiet = "reflex", True
    wait_for(lambda: robot.control.modes.mode is Mode.FAULT and robot.sensors.silent(robot.clock.now_ns()))
    with pytest.raises(StaleObservationError):
        robot.clear_fault()
    assert port.recovered == 0
    port.quiet = False
    wait_for(lambda: not robot.sensors.silent(robot.clock.now_ns()))
    robot.clear_fault()
    assert robot.control.modes.text == "stopped: fault cleared"


def test_control_that_raises_is_told_and_sends_nothing_more() -> None:
    arm = described("sim_panda")
    sensors = Sensors(arm, [], [])
    port, deaths = ExactPort(arm, sensors), list[str]()
    robot = BridgedArm(arm, arm.env_spec(TCP, [], []), sensors, port, on_death=deaths.append)
    robot.warm_up()
    port.speak()

    def broken(point: object) -> None:
        raise OSError("cable pulled")

    port.send = broken  # type: ignore[method-assign]
    with robot:
        robot.control.activate(robot.measured(), robot.clock.now_ns())
        wait_for(lambda: deaths)
    assert "cable pulled" in deaths[0]
    assert robot.control.modes.mode is Mode.FAULT


def test_a_way_to_the_arm_that_hangs_keeps_neither_stop_nor_the_end_waiting() -> None:
    arm = described("sim_panda")
    sensors = Sensors(arm, [], [])
    port, may_go_on = ExactPort(arm, sensors), threading.Event()
    deaths = list[str]()

    def hang(*told: object) -> None:
        may_go_on.wait(20.0)

    port.send = hang  # type: ignore[method-assign]
    robot = BridgedArm(arm, arm.env_spec(TCP, [], []), sensors, port, listener=hang, on_death=deaths.append)
    robot.warm_up()
    port.speak()
    with robot:
        robot.control.activate(robot.measured(), robot.clock.now_ns())
        wait_for(lambda: deaths)
        assert deaths[0] == "the control thread stands still"
        for act in (robot.stop, lambda: robot.fail("gone")):
            thread = threading.Thread(target=act, daemon=True)
            thread.start()
            thread.join(timeout=5.0)
            assert not thread.is_alive()
        assert robot.control.modes.text == "fault: gone"
        may_go_on.set()


def test_after_control_raised_once_the_arm_is_braked(monkeypatch: pytest.MonkeyPatch) -> None:
    with bridged() as (robot, port):
        seen = robot.reset(ResetRequest())
        robot.command(plan(robot, seen, [0.005 * i for i in range(20)]))
        wait_for(lambda: np.abs(robot.control.servo.speed).max() > 0.05)
        with monkeypatch.context() as patch:
            patch.setattr(robot.control.gripper, "move", lambda *given: 1 // 0)
            wait_for(lambda: robot.control.modes.mode is Mode.FAULT)
        sent = len(port.sent)
        wait_for(lambda: robot.control.at_rest and len(port.sent) > sent)
        assert robot.control.modes.text.startswith("fault: control raised")
