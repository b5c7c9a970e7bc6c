"""After a fault the next episode begins when somebody has cleared it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from robot_rl.errors import CommandRefusedError
from robot_rl.interfaces import Clock
from robot_rl.robots.fake import FakeRobot
from robot_rl.runtime.clock import SimulatedClock, WallClock
from robot_rl.runtime.env import RobotEnv
from robot_rl.runtime.fault_wait import await_cleared
from robot_rl.types import Observation
from tests.runtime.counting import POSITION, ReachTask

pytestmark = pytest.mark.robot


class Hasty(SimulatedClock):
    """Tells that it is not stepped; waits cost nothing."""

    stepped = False


@dataclass
class Arm:
    """In a fault for so many looks."""

    looks: int
    clock: Clock = field(default_factory=Hasty)

    def read(self) -> Observation:
        self.looks -= 1
        return Observation(0, self.clock.now_ns(), {}, mode="fault: reflex" if self.looks >= 0 else "stopped")


def faulty(mode: str) -> Observation:
    return Observation(0, 0, {}, mode=mode)


def test_it_waits_until_the_fault_is_cleared_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    arm = Arm(3)
    await_cleared(arm, faulty("fault: reflex"))  # type: ignore[arg-type]
    assert arm.looks == -1
    assert arm.clock.now_ns() == 3 * 100_000_000
    assert "fault: reflex" in caplog.text


def test_it_does_not_wait_for_ever() -> None:
    arm = Arm(10**9)
    await_cleared(arm, faulty("fault: reflex"), most_s=2.0)  # type: ignore[arg-type]
    assert arm.clock.now_ns() == pytest.approx(2.0e9, abs=2e8)


@pytest.mark.parametrize(("mode", "clock"), [("tracking", WallClock()), ("fault: diverged", SimulatedClock())])
def test_who_has_no_fault_or_is_a_simulator_is_not_asked(mode: str, clock: Clock) -> None:
    arm = Arm(5, clock)
    await_cleared(arm, faulty(mode))  # type: ignore[arg-type]
    await_cleared(arm, None)  # type: ignore[arg-type]
    assert arm.looks == 5


def test_an_env_whose_episode_ended_by_a_fault_resets_once_it_is_cleared() -> None:
    class Reflex(FakeRobot):
        """Refuses resets while its fault lasts, which somebody clears after two looks."""

        looks = 0

        @property
        def clock(self) -> Clock:  # type: ignore[override]
            return Hasty(super().clock.now_ns())

        def read(self) -> Observation:
            self.looks += 1
            return super().read()

        def reset(self, request: object) -> Observation:
            if self.looks < 2:
                raise CommandRefusedError("the robot is in mode 'fault: reflex'")
            return super().reset(request)  # type: ignore[arg-type]

    robot = Reflex()
    env = RobotEnv(robot, ReachTask(), POSITION, max_steps=5)
    env._observation = faulty("fault: reflex")
    with pytest.raises(CommandRefusedError):
        robot.reset(ReachTask().reset_request(0))
    robot.looks = 1
    assert env.reset(0).mode == "tracking"
