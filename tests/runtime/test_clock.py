"""Clocks and the grid of control steps."""

from __future__ import annotations

import time

import pytest

from robot_rl.interfaces import Clock
from robot_rl.runtime.clock import SimulatedClock, StepGrid, WallClock

pytestmark = pytest.mark.robot


@pytest.mark.parametrize("clock", [WallClock(), SimulatedClock(5)])
def test_waiting_ends_at_or_after_the_stamp(clock: Clock) -> None:
    stamp = clock.now_ns() + 2_000_000
    assert clock.wait_until(stamp) >= stamp
    assert clock.now_ns() >= stamp


def test_wall_clock_counts_waits_that_came_late_and_does_not_wait() -> None:
    clock = WallClock()
    began = time.monotonic_ns()
    now = clock.wait_until(began - 1_000_000_000)
    assert now - began < 500_000_000
    assert clock.overruns == 1
    clock.wait_until(clock.now_ns() + 1_000_000)
    assert clock.overruns == 1


def test_simulated_time_passes_only_by_waiting() -> None:
    clock = SimulatedClock()
    assert [clock.wait_until(30), clock.wait_until(10), clock.now_ns()] == [30, 30, 30]


def test_the_grid_is_absolute_however_long_the_steps_take() -> None:
    clock = SimulatedClock()
    grid = StepGrid(clock, period_ns=100)
    grid.start(1000)
    clock.wait_until(1000)
    ends = []
    for thinking_ns in (0, 60, 99, 100):
        clock.wait_until(clock.now_ns() + thinking_ns)
        assert grid.wait() is False
        ends.append(clock.now_ns())
    assert ends == [1100, 1200, 1300, 1400]
    assert grid.overruns == 0


def test_a_late_step_is_counted_and_passed_ones_are_not_caught_up() -> None:
    clock = SimulatedClock()
    grid = StepGrid(clock, period_ns=100)
    grid.start(0)
    clock.wait_until(350)  # step 0 should have ended at 100
    assert grid.wait() is True
    assert clock.now_ns() == 350
    assert grid.wait() is False
    assert clock.now_ns() == 400  # the grid's next point, not 450 and not 200
    assert grid.overruns == 1


class Sleepy(SimulatedClock):
    """Wakes 2.5 periods too late."""

    def wait_until(self, stamp_ns: int) -> int:
        return super().wait_until(stamp_ns + 250)


def test_sleeping_through_whole_steps_is_an_overrun_too() -> None:
    grid = StepGrid(Sleepy(), period_ns=100)
    grid.start(0)
    assert grid.wait() is True  # asked for 100, awake at 350
    assert grid.overruns == 1


def test_a_robot_that_is_a_step_ahead_is_waited_for_where_it_is() -> None:
    """What was asked for in step 1 came in step 2: step 2 is not over when step 1 is."""
    clock = SimulatedClock()
    grid = StepGrid(clock, period_ns=100)
    grid.start(0)
    assert grid.wait(0) is False
    clock.wait_until(205)
    assert grid.wait(2) is False
    assert clock.now_ns() == 300
    assert grid.wait(3) is False
    assert clock.now_ns() == 400
