"""The fake arm: tracking, steps by the clock, drills, a human. Base dependencies only."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError, ResetError, RobotError, StaleObservationError
from robot_rl.robots.fake import HOME_TCP_POSE, FakeRobot
from robot_rl.types import Observation, Phase, ResetRequest, TargetChunk

pytestmark = pytest.mark.robot
POSE = np.array([0.5, 0.1, 0.2, 1.0, 0.0, 0.0, 0.0])


def plan(observation: Observation, *poses: np.ndarray, first_step: int | None = None) -> TargetChunk:
    step = observation.step if first_step is None else first_step
    return TargetChunk({"arm0/tcp": np.array(poses)}, step, observation.stamp_ns)


def after_steps(robot: FakeRobot, steps: int) -> Observation:
    robot.clock.wait_until(robot.clock.now_ns() + steps * robot.connect().step_period_ns)
    return robot.read()


def test_a_set_point_is_reached_at_the_end_of_its_step() -> None:
    robot = FakeRobot()
    start = robot.reset(ResetRequest())
    np.testing.assert_allclose(start.state["arm0/tcp_pose"], HOME_TCP_POSE, atol=1e-7)
    robot.command(plan(start, POSE))
    seen = after_steps(robot, 1)
    assert seen.step == 1
    np.testing.assert_array_equal(seen.state["arm0/tcp_pose"], POSE.astype(np.float32))
    # from x 0.45 to 0.5 m in 0.05 s
    np.testing.assert_allclose(seen.state["arm0/tcp_velocity"], [1.0, 2.0, -2.0, 0, 0, 0], atol=1e-5)
    assert seen.report is not None
    assert seen.report.valid
    np.testing.assert_array_equal(seen.report.executed["arm0/tcp"], POSE)


def test_rows_are_chosen_by_step_and_a_plan_that_ran_out_is_held_and_told() -> None:
    robot = FakeRobot()
    start = robot.reset(ResetRequest())
    poses = [POSE + np.array([0.01 * i, 0, 0, 0, 0, 0, 0]) for i in range(3)]
    robot.command(plan(start, *poses, first_step=-1))  # its first row belongs to a step that is over
    seen = after_steps(robot, 2)
    assert seen.state["arm0/tcp_pose"][0] == np.float32(0.52)
    seen = after_steps(robot, 1)
    assert seen.report is not None
    assert (seen.report.valid, seen.report.source) == (False, Phase.HOLD)
    assert seen.state["arm0/tcp_pose"][0] == np.float32(0.52)


def test_lag_leaves_its_share_of_the_way() -> None:
    robot = FakeRobot(lag=0.25)
    start = robot.reset(ResetRequest(tcp_pose=np.array([0.4, 0.1, 0.2, 1, 0, 0, 0])))
    robot.command(plan(start, POSE))
    np.testing.assert_allclose(after_steps(robot, 1).state["arm0/tcp_pose"][0], 0.475, atol=1e-6)


def test_joint_control_and_reset_requests() -> None:
    robot = FakeRobot(control="joint", objects=["cube"])
    cube = np.array([0.6, 0.1, 0.02, 0, 0, 0, 1.0])
    request = ResetRequest(
        joint_position=np.full(7, 0.1), gripper_opening=0.5, simulator_state={"object/cube_pose": cube}
    )
    start = robot.reset(request)
    assert set(start.state) == set(robot.connect().observation)
    np.testing.assert_array_equal(start.state["object/cube_pose"], cube.astype(np.float32))
    assert start.state["arm0/gripper_opening"][0] == 0.5
    robot.command(TargetChunk({"arm0/joints": np.full((1, 7), 0.2)}, 0, start.stamp_ns))
    seen = after_steps(robot, 1)
    np.testing.assert_allclose(seen.state["arm0/joint_position"], 0.2, atol=1e-7)
    np.testing.assert_allclose(seen.state["arm0/joint_velocity"], 2.0, atol=1e-5)


def test_a_human_commands_until_handing_back() -> None:
    robot = FakeRobot()
    start = robot.reset(ResetRequest())
    robot.command(plan(start, POSE, POSE, POSE, POSE))
    robot.human({"arm0/tcp": POSE + np.array([0, 0, 0.1, 0, 0, 0, 0])})
    seen = after_steps(robot, 1)
    assert seen.report is not None
    assert seen.report.source is Phase.HUMAN
    assert seen.report.human is not None
    assert seen.state["arm0/tcp_pose"][2] == np.float32(0.3)
    robot.human(None)
    assert after_steps(robot, 1).state["arm0/tcp_pose"][2] == np.float32(0.2)


def test_drills() -> None:
    robot = FakeRobot()
    robot.reset(ResetRequest())
    robot.drill("silent")
    with pytest.raises(StaleObservationError, match="silent"):
        robot.read()
    before = robot.reset(ResetRequest())
    robot.drill("frozen")
    assert after_steps(robot, 2) is before
    robot.reset(ResetRequest())
    robot.drill("nan", after_steps=2)
    assert np.isfinite(after_steps(robot, 1).state["arm0/joint_position"]).all()
    assert np.isnan(after_steps(robot, 1).state["arm0/joint_position"]).all()
    start = robot.reset(ResetRequest())
    robot.drill("protective_stop")
    assert robot.read().mode.startswith("fault: ")
    with pytest.raises(CommandRefusedError, match="protective stop"):
        robot.command(plan(start, POSE))
    robot.stop()
    assert robot.mode.startswith("fault: ")  # only a reset clears it
    assert robot.reset(ResetRequest()).mode == "tracking"
    with pytest.raises(RobotError, match="Did you mean 'frozen'"):
        robot.drill("frozn")


def test_refusals_name_the_limit_and_leave_the_plan_alone() -> None:
    robot = FakeRobot()
    start = robot.reset(ResetRequest())
    robot.command(plan(start, POSE, POSE))
    with pytest.raises(CommandRefusedError, match="not finite"):
        robot.command(plan(start, np.full(7, np.nan)))
    with pytest.raises(CommandRefusedError, match="arm0/tcp"):
        robot.command(TargetChunk({"arm0/tpc": POSE[None]}, 0, 0))
    with pytest.raises(CommandRefusedError, match="no rows left"):
        robot.command(plan(start, POSE).remaining(3))
    assert after_steps(robot, 1).state["arm0/tcp_pose"][0] == np.float32(0.5)
    for request, message in (
        (ResetRequest(simulator_state={"object/cube_pose": POSE}), "object/cube_pose"),
        (ResetRequest(tcp_pose=POSE[:6]), "7 finite numbers"),
        (ResetRequest(joint_position=np.full(7, np.nan)), "7 finite numbers"),
    ):
        with pytest.raises(ResetError, match=message):
            robot.reset(request)
    with pytest.raises(CommandRefusedError, match="quaternion"):
        robot.human({"arm0/tcp": POSE * 0})
    with pytest.raises(RobotError, match="simulated, wall"):
        FakeRobot(clock="sundial")


def test_stop_holds_and_refuses_until_the_next_reset() -> None:
    with FakeRobot() as robot:
        start = robot.reset(ResetRequest())
        robot.command(plan(start, POSE))
        robot.stop()
        robot.stop()
        assert after_steps(robot, 1).state["arm0/tcp_pose"][0] == np.float32(HOME_TCP_POSE[0])
        with pytest.raises(CommandRefusedError, match="Reset it first"):
            robot.command(plan(start, POSE))


def test_steps_are_counted_once_whoever_looks() -> None:
    """A stop from another thread advances the arm as a read does."""
    robot = FakeRobot(step_rate_hz=2000.0, clock="wall")
    start = robot.reset(ResetRequest())
    end = start.stamp_ns + 300_000_000

    def look() -> None:
        while robot.clock.now_ns() < end:
            robot.stop()

    threads = [threading.Thread(target=look) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    seen = robot.read()
    assert seen.step <= (seen.stamp_ns - start.stamp_ns) / robot.connect().step_period_ns


def test_in_real_time_steps_pass_by_themselves() -> None:
    robot = FakeRobot(step_rate_hz=200.0, clock="wall")
    start = robot.reset(ResetRequest())
    robot.clock.wait_until(start.stamp_ns + 5 * robot.connect().step_period_ns)
    assert robot.read().step >= 5
