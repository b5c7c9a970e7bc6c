"""An arm on its way to its start, and a person who lets go or presses the stop key."""

from __future__ import annotations

import threading

import pytest

from calibration.arm_drive import ArmDrive
from calibration.arm_stream import ArmStream
from robot_rl.errors import ResetError, RobotError
from robot_rl.robots.fake import FakeRobot
from robot_rl.types import Observation, ResetRequest


class LetsGo:
    """An operator who lets the arm move ``times``, then lets go, or presses the stop key."""

    def __init__(self, times: int = 0, by_key: bool = False) -> None:
        self.times, self.by_key = times, by_key

    def ask(self, what: str) -> None: ...

    def allows(self, now_ns: int) -> bool:
        self.times -= 1
        if self.by_key and self.times < 0:
            raise KeyboardInterrupt
        return self.times >= 0


class SlowlyReset(FakeRobot):
    """Its reset takes until it is stopped, as that of an arm which moves to its start."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = threading.Event()

    def reset(self, request: ResetRequest) -> Observation:
        assert self.stopped.wait(20.0)
        raise ResetError("stopped")

    def stop(self) -> None:
        self.stopped.set()


@pytest.mark.parametrize("by_key", [False, True])
def test_letting_go_on_the_way_to_the_start_stops_the_arm(by_key: bool) -> None:
    robot = SlowlyReset()
    drive = ArmDrive(ArmStream(robot, robot.connect()), LetsGo(2, by_key))
    with pytest.raises(KeyboardInterrupt if by_key else ResetError, match=None if by_key else "let go"):
        drive.start()
    assert robot.stopped.is_set()


@pytest.mark.parametrize("by_key", [False, True])
def test_letting_go_as_the_arm_arrives_at_its_start_is_not_lost(by_key: bool) -> None:
    class Arrives(SlowlyReset):
        def reset(self, request: ResetRequest) -> Observation:
            assert self.stopped.wait(20.0)
            return FakeRobot.reset(self, request)

    robot = Arrives()
    drive = ArmDrive(ArmStream(robot, robot.connect()), LetsGo(0, by_key))
    with pytest.raises(KeyboardInterrupt if by_key else ResetError, match=None if by_key else "let go"):
        drive.start()


def test_a_stop_that_fails_is_tried_again() -> None:
    class Flaky(SlowlyReset):
        tries = 0

        def stop(self) -> None:
            self.tries += 1
            if self.tries < 3:
                raise RobotError("no answer")
            super().stop()

    robot = Flaky()
    drive = ArmDrive(ArmStream(robot, robot.connect()), LetsGo())
    with pytest.raises(ResetError, match="let go"):
        drive.start()
    assert robot.tries == 3
