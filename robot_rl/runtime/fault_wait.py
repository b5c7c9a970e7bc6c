"""Between two episodes: a fault of a real arm is cleared by somebody, never by the loop."""

from __future__ import annotations

import logging

from robot_rl.interfaces import Robot
from robot_rl.types import Observation

MOST_S = 60.0
_LOOK_NS = 100_000_000

_log = logging.getLogger(__name__)


def await_cleared(robot: Robot, last: Observation | None, most_s: float = MOST_S) -> None:
    """Where the ``last`` episode ended by a fault, return once ``robot`` is out of it, or after ``most_s``: what is
    asked of it then is refused. A simulator's fault ends with its reset. Raises what ``robot.read`` raises."""
    clock = robot.clock
    if last is None or not last.mode.startswith("fault") or clock.stepped:
        return
    _log.warning("the arm is in '%s': the next reset waits up to %.0f s for somebody to clear it", last.mode, most_s)
    until_ns = clock.now_ns() + round(most_s * 1e9)
    while robot.read().mode.startswith("fault") and clock.now_ns() < until_ns:
        clock.wait_until(clock.now_ns() + _LOOK_NS)
