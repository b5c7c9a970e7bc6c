"""The watchdog of an arm: faults that the arm itself tells of, and a control thread that stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable

from robot_rl_bridge.modes import Mode, Modes
from robot_rl_bridge.pace import Pace
from robot_rl_bridge.port import Port

_WATCH_S = 0.02
_DEAD_LOOKS = 25  # without a cycle of the control thread, which then counts as dead


class ArmWatch:
    """``run`` is a thread's work. ``fail`` brakes the arm for a fault; ``on_death`` hears that control has ended."""

    def __init__(
        self, port: Port, modes: Modes, pace: Pace, fail: Callable[[str], None], on_death: Callable[[str], None]
    ) -> None:
        self._port, self._modes, self._pace, self._fail, self._on_death = port, modes, pace, fail, on_death

    def run(self, closing: threading.Event) -> None:
        """Look at both until ``closing``."""
        last_ns, looks = 0, 0
        while not closing.wait(_WATCH_S):
            try:
                fault = self._port.fault()
            except Exception as error:
                fault = f"the arm's state cannot be told: {error!r}"
            if fault and self._modes.mode not in (Mode.IDLE, Mode.FAULT):
                self._fail(f"arm: {fault}")
            looks = looks + 1 if last_ns == self._pace.last_ns else 0
            last_ns = self._pace.last_ns
            if looks > _DEAD_LOOKS:
                self._on_death("the control thread stands still")
