"""An arm that is driven and watched for its calibration, on the fake arm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.arm_drive import ArmDrive
from calibration.arm_stream import ArmStream, Stillness
from calibration.calibrator import Calibrator
from calibration.motion_procedures import ToolProcedure
from calibration.storage import load_calibration
from robot_rl.errors import (
    CalibrationError,
    CommandRefusedError,
    ConfigError,
    RobotError,
    StaleObservationError,
)
from robot_rl.geometry import matrix_from_rotvec, pose_from_matrix
from robot_rl.robots.fake import FakeRobot, Fault
from robot_rl.types import Array, Observation, ResetRequest
from sim.arm_kinematics import simulated_kinematics
from sim.arms.ur5e import ur5e
from tests.calibration.truth import pose

START = pose(0.45, 0.0, 0.3, np.pi, 0.0, 0.0)
TIP, POINT = np.array([0.01, -0.02, 0.12]), np.array([0.5, 0.05, 0.1])


def test_it_goes_there_slowly_and_stands() -> None:
    robot = FakeRobot(lag=0.3)
    stream = ArmStream(robot, robot.connect())
    drive = ArmDrive(stream, speed_m_s=0.1)
    start, goal = drive.start(), START @ pose(0.05, 0.0, 0.0, 0.0, 0.3, 0.0)
    assert start == pytest.approx(START, abs=1e-6)
    assert drive.move(goal)
    assert stream.here.T_base_tcp == pytest.approx(goal, abs=1e-4)
    places = np.array([sample.T_base_tcp[:3, 3] for sample in stream.samples])
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() * 20.0 <= 0.1 * 1.1
    assert stream.still(Stillness())
    stamps = [sample.stamp_ns for sample in stream.samples]
    assert stamps == sorted(set(stamps))


def test_a_stream_that_stands_still_ends_the_motion() -> None:
    robot = FakeRobot()
    drive = ArmDrive(ArmStream(robot, robot.connect()))
    drive.start()
    robot.drill(Fault.FROZEN, after_steps=5)
    with pytest.raises(StaleObservationError, match="told nothing new for"):
        drive.move(START @ pose(0.2, 0.0, 0.0))


def test_a_fault_a_stop_and_a_person_end_the_motion() -> None:
    for interrupt, cause in (
        (lambda robot: robot.drill(Fault.PROTECTIVE_STOP), "protective stop"),
        (lambda robot: robot.stop(), "stopped"),
        (lambda robot: robot.human({"arm0/tcp": pose_from_matrix(START)}), "a person took over"),
    ):
        robot = FakeRobot()
        stream = ArmStream(robot, robot.connect())
        drive = ArmDrive(stream)
        drive.start()

        def later(seen: Observation, robot: FakeRobot = robot, interrupt: object = interrupt) -> None:
            if seen.step == 20:
                interrupt(robot)  # type: ignore[operator]

        stream.listener = later
        with pytest.raises((RobotError, CommandRefusedError), match=cause):
            drive.move(START @ pose(0.2, 0.0, 0.0))


def test_an_arm_that_takes_joints_cannot_be_driven() -> None:
    robot = FakeRobot(control="joint")
    with pytest.raises(ConfigError, match="a pose of the TCP"):
        ArmDrive(ArmStream(robot, robot.connect()))


class Person:
    """An operator who lets go and takes hold again at certain steps; ``may`` is what it says now."""

    def __init__(self, *turns: int) -> None:
        self.turns, self.may, self.asked, self.steps = turns, True, list[str](), list[int]()

    def ask(self, what: str) -> None:
        self.asked.append(what)

    def allows(self, now_ns: int) -> bool:
        return self.may

    def hears(self, seen: Observation) -> None:
        self.steps.append(seen.step)
        if seen.step in self.turns:
            self.may = not self.may


def speeds(stream: ArmStream, since: int) -> Array:
    """m/s between the samples from ``since`` on."""
    places = np.array([sample.T_base_tcp[:3, 3] for sample in stream.samples[since:]])
    stamps = np.array([sample.stamp_ns for sample in stream.samples[since:]])
    return np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff(stamps) * 1e9


def test_letting_go_pauses_the_motion_on_its_way_and_taking_hold_goes_on() -> None:
    robot, person = FakeRobot(), Person(40, 80)
    stream = ArmStream(robot, robot.connect())
    drive = ArmDrive(stream, person, speed_m_s=0.1)
    drive.start()
    stream.listener, since = person.hears, len(stream.samples)
    goal = START @ pose(0.2, 0.0, 0.0)
    assert drive.move(goal)
    assert stream.here.T_base_tcp == pytest.approx(goal, abs=1e-6)
    speed, steps = speeds(stream, since), np.array(person.steps)[1:]
    assert speed.max() <= 0.1 * 1.01
    assert speed[steps < 38].max() > 0.05
    assert speed[(steps > 40 + 8) & (steps < 80)].max() < 1e-9  # at rest within 0.4 s of being let go
    assert np.abs(np.diff(speed)).max() < 0.03  # braked, not stopped dead: 0.1 m/s in 0.3 s is 0.017 a step
    places = np.array([sample.T_base_tcp[:3, 3] for sample in stream.samples[since:]])
    assert np.ptp(places[:, 1:], axis=0).max() < 1e-6  # nowhere beside its way


def test_what_is_let_go_before_a_motion_does_not_begin_it() -> None:
    robot, person = FakeRobot(), Person(60)
    stream = ArmStream(robot, robot.connect())
    drive = ArmDrive(stream, person)
    drive.start()
    stream.listener, since, person.may = person.hears, len(stream.samples), False
    goal = START @ pose(0.05, 0.0, 0.0)
    assert drive.move(goal)
    speed, steps = speeds(stream, since), np.array(person.steps)[1:]
    assert speed[steps <= 60].max() == 0.0
    assert stream.here.T_base_tcp == pytest.approx(goal, abs=1e-6)


def test_the_stop_key_ends_the_motion() -> None:
    class Stops(Person):
        def allows(self, now_ns: int) -> bool:
            raise KeyboardInterrupt

    robot = FakeRobot()
    drive = ArmDrive(ArmStream(robot, robot.connect()), Stops())
    with pytest.raises(KeyboardInterrupt):
        drive.move(START @ pose(0.2, 0.0, 0.0))


class LateRead(FakeRobot):
    """The read in ``late_step`` takes 1.05 steps."""

    late_step = 10**9

    def read(self) -> Observation:
        seen = super().read()
        if seen.step < self.late_step:
            return seen
        self.late_step = 10**9
        self.clock.wait_until(self.clock.now_ns() + 52_500_000)
        return super().read()


def test_after_a_late_read_no_step_is_commanded_twice() -> None:
    robot = LateRead()
    stream = ArmStream(robot, robot.connect())
    drive = ArmDrive(stream, path_m_s=0.2)
    drive.start()
    robot.late_step, start = stream.latest.step + 20, pose_from_matrix(START)

    def path(time_s: float) -> Array:
        there = start.copy()
        there[1] += 0.1 * min(time_s, 2.0)
        return there

    told = drive.follow(path, 2.0)
    stamps, places = np.array([stamp for stamp, _ in told]), np.array([row[1] for _, row in told])
    assert np.diff(stamps).min() >= stream.spec.step_period_ns
    assert (np.diff(places) / np.diff(stamps) * 1e9).max() <= 0.1 * 1.01
    assert robot.late_step == 10**9


def test_a_path_that_is_too_fast_is_followed_more_slowly() -> None:
    robot = FakeRobot()
    stream = ArmStream(robot, robot.connect())
    drive = ArmDrive(stream, path_m_s=0.2)
    since, start = (drive.start(), len(stream.samples))[1], pose_from_matrix(START)

    def path(time_s: float) -> Array:
        there = start.copy()
        there[1] += 0.5 * min(time_s, 0.4)  # 0.5 m/s
        return there

    told = drive.follow(path, 0.4)
    assert speeds(stream, since).max() <= 0.2 * 1.01
    assert told[-1][1][1] == pytest.approx(0.2)
    assert np.ptp([stamp for stamp, _ in told]) == pytest.approx(1e9, abs=0.05e9)  # not 0.4 s


def test_planning_that_takes_long_makes_no_jump() -> None:
    robot = FakeRobot()
    stream = ArmStream(robot, robot.connect())
    drive = ArmDrive(stream, speed_m_s=0.1)
    drive.start()
    robot.clock.wait_until(robot.clock.now_ns() + 5_000_000_000)
    since = len(stream.samples)
    assert drive.move(START @ pose(0.1, 0.0, 0.0))
    assert speeds(stream, since).max() <= 0.1 * 1.01


def pivoting(robot: FakeRobot, noise_m: float) -> object:
    """A person who tilts the arm about its tip, to another side every 25 steps."""
    rng = np.random.default_rng(0)
    held: list[Array] = []

    def move(seen: Observation) -> None:
        if seen.step % 25 == 0:
            T_base_tcp = pose(0.0, 0.0, 0.0, np.pi, 0.0, 0.0)
            T_base_tcp[:3, :3] = T_base_tcp[:3, :3] @ matrix_from_rotvec(rng.uniform(-0.5, 0.5, 3))
            T_base_tcp[:3, 3] = POINT - T_base_tcp[:3, :3] @ TIP + rng.normal(0.0, noise_m, 3)
            held[:] = [pose_from_matrix(T_base_tcp)]
        if held:
            robot.human({"arm0/tcp": held[0]})

    return move


class Led(FakeRobot):
    """The fake arm in the hands of that person."""

    def __init__(self, noise_m: float) -> None:
        super().__init__()
        self._person = pivoting(self, noise_m)

    def read(self) -> Observation:
        seen = super().read()
        self._person(seen)  # type: ignore[operator]
        return seen


def test_a_pivoted_tool_is_collected_solved_and_stored(tmp_path: Path) -> None:
    robot = Led(2e-4)
    robot.connect()
    robot.reset(ResetRequest())
    calibrator = Calibrator(ToolProcedure(poses=12))
    calibrator.collect(robot, tmp_path / "samples", tmp_path / "known")
    outcome = calibrator.solve(tmp_path / "samples", tmp_path)
    stored = load_calibration(calibrator.store(outcome, tmp_path / "known"))
    assert stored.transforms["T_tcp_tip"].matrix[:3, 3] == pytest.approx(TIP, abs=5e-4)
    assert stored.samples_sha256
    report = (tmp_path / "report.html").read_text()
    assert "Tool centre point" in report
    assert "data:image/png;base64," in report


def test_the_kinematics_of_another_arm_are_refused(tmp_path: Path) -> None:
    calibrator = Calibrator(ToolProcedure(), simulated_kinematics(ur5e()))
    with pytest.raises(ConfigError, match=r"shoulder_pan.* has joint1, .*kinematics=arm_file"):
        calibrator.collect(FakeRobot(), tmp_path / "samples", tmp_path)


def test_a_tip_that_is_never_held_is_refused(tmp_path: Path) -> None:
    robot = FakeRobot()
    with pytest.raises(CalibrationError, match="1 of 12 poses within 5 s"):
        Calibrator(ToolProcedure(poses=12, timeout_s=5.0)).collect(robot, tmp_path / "samples", tmp_path)
    assert robot.mode == "stopped"
    assert not (tmp_path / "samples").exists()
