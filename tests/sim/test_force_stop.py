"""A simulated arm that presses too hard, and one that is stopped within a step."""

import numpy as np
import pytest

from robot_rl.errors import CommandRefusedError
from robot_rl.types import ResetRequest, TargetChunk
from sim.mujoco_robot import MujocoRobot
from tests.sim.test_mujoco_robot import SCENE, STEP_NS

DOWN = [1.0, 0.0, 0.0, 0.0]


def press(robot: MujocoRobot, steps: int) -> list[str]:
    """Closed fingers onto whatever is below home; the modes of the steps."""
    observation, modes = robot.read(), []
    for _ in range(steps):
        pose = observation.state["arm0/tcp_pose"].astype(float)
        targets = {
            "arm0/tcp": np.array([[*pose[:2], max(pose[2] - 0.02, 0.0), *DOWN]]), "arm0/gripper": np.zeros((1, 1))
        }  # fmt: skip
        robot.command(TargetChunk(targets, observation.step, observation.stamp_ns))
        robot.clock.wait_until(observation.stamp_ns + STEP_NS)
        observation = robot.read()
        modes.append(observation.mode)
        if observation.mode != "tracking":
            break
    return modes


def test_pressing_too_hard_is_a_fault_that_lasts_until_the_reset():
    with MujocoRobot(SCENE, limits={"max_contact_force_n": 12.0}) as robot:
        cube = np.array([0.48, 0.0, 0.02, 0.0, 0.0, 0.0, 1.0])
        request = ResetRequest(simulator_state={"object/cube_pose": cube})
        robot.reset(request)
        modes = press(robot, 40)
        assert modes[0] == "tracking"
        assert modes[-1].startswith("fault: contact stopped the arm")
        fault = robot.read()
        assert fault.report is not None
        assert fault.report.interventions["force"] > 0
        assert fault.state["arm0/tcp_pose"][2] > 0.03  # on the cube, whose top is at 4 cm
        with pytest.raises(CommandRefusedError, match="fault: contact"):
            press(robot, 1)
        for _ in range(10):  # it holds, with physics going on
            robot.clock.wait_until(robot.read().stamp_ns + STEP_NS)
        held = robot.read()
        assert held.mode == fault.mode
        assert np.linalg.norm(robot.servo.arrays.arm.wrench[:3]) < 6.0  # it does not press on
        assert np.abs(held.state["arm0/tcp_velocity"]).max() < 0.05
        assert robot.reset(request).mode == "tracking"


def test_a_stop_within_a_step_brakes_at_once():
    with MujocoRobot(SCENE, step_rate_hz=5.0) as robot:
        observation = robot.reset(ResetRequest())
        pose = observation.state["arm0/tcp_pose"].astype(float)
        rows = np.repeat([[*pose[:3], *DOWN]], 4, axis=0)
        rows[:, 1] += 0.06 * np.arange(1, 5)
        robot.command(TargetChunk({"arm0/tcp": rows}, observation.step, observation.stamp_ns))
        robot.clock.wait_until(observation.stamp_ns + 260_000_000)
        servo = robot.servo.arrays
        before = abs(servo.reference_twist[1])
        assert before > 0.1
        robot.stop()
        robot.clock.wait_until(observation.stamp_ns + 280_000_000)
        assert abs(servo.reference_twist[1]) < before - 0.02
        robot.clock.wait_until(observation.stamp_ns + 400_000_000)
        report = robot.read().report
        assert report is not None
        assert not report.valid
        robot.clock.wait_until(observation.stamp_ns + 600_000_000)
        assert abs(servo.reference_twist[1]) < 1e-3
