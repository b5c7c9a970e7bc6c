"""Clocks, and the grid of control steps on them. Base dependencies only: a robot computer imports this."""

from __future__ import annotations

import time

from robot_rl.interfaces import Clock

_SPIN_NS = 100_000  # a sleep may wake this late: the rest is waited for awake


class WallClock:
    """The host's monotonic clock. ``overruns`` counts waits whose stamp had already passed."""

    stepped = False

    def __init__(self) -> None:
        self.overruns = 0

    def now_ns(self) -> int:
        """Monotonic time of this machine [ns]."""
        return time.monotonic_ns()

    def wait_until(self, stamp_ns: int) -> int:
        """Sleep until ``stamp_ns``, the last 0.1 ms awake; returns the time it is then [ns]."""
        now = time.monotonic_ns()
        if now > stamp_ns:
            self.overruns += 1
            return now
        if stamp_ns - now > _SPIN_NS:
            time.sleep((stamp_ns - now - _SPIN_NS) * 1e-9)
        while (now := time.monotonic_ns()) < stamp_ns:
            pass
        return now


class SimulatedClock:
    """Time that passes only when somebody waits for it, so that thinking costs nothing."""

    stepped = True

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Simulated time [ns]."""
        return self._now_ns

    def wait_until(self, stamp_ns: int) -> int:
        """Jump to ``stamp_ns``; a stamp in the past changes nothing."""
        self._now_ns = max(self._now_ns, stamp_ns)
        return self._now_ns


class StepGrid:
    """The absolute grid of control steps on a clock.

    A loop that comes late is counted in ``overruns`` and goes on at the next point of the grid; steps that passed
    meanwhile are not caught up, because rushing an arm through them would be worse than missing them.
    """

    def __init__(self, clock: Clock, period_ns: int) -> None:
        self._clock, self._period_ns = clock, period_ns
        self._start_ns = self._end_ns = clock.now_ns()
        self.overruns = 0

    def start(self, stamp_ns: int) -> None:
        """Step 0 begins at ``stamp_ns``."""
        self._start_ns = self._end_ns = stamp_ns

    def wait(self, step: int = -1) -> bool:
        """Wait for the end of the running step, which is ``step`` where the robot has told of a later one; True when it
        had already passed, or a whole step was slept through."""
        self._end_ns = max(self._end_ns, self._start_ns + step * self._period_ns) + self._period_ns
        late = self._clock.now_ns() > self._end_ns
        missed = (self._clock.wait_until(self._end_ns) - self._end_ns) // self._period_ns
        self._end_ns += missed * self._period_ns
        self.overruns += late or missed > 0
        return late or missed > 0
