"""Who may move a robot: one client at a time, as long as it is heard."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from robot_rl.errors import CommandRefusedError


class Lease:
    """The lease to move, lost after ``limit_s`` of silence on the robot's clock ``now_ns``, which stands still while a
    simulator waits for its client; a new client may take it after so much real time. ``beat`` hears of every renewal.
    """

    def __init__(self, limit_s: float, now_ns: Callable[[], int], beat: Callable[[], None] | None) -> None:
        self.limit_s = limit_s
        self.holder: str | None = None
        self._now_ns, self._beat = now_ns, beat
        self._heard_s, self._heard_ns = 0.0, 0  # real time and the robot's, of the holder's last message
        self._taking = threading.Lock()

    def take(self, name: str) -> None:
        """Take or renew it. Raises CommandRefusedError while another holds it."""
        with self._taking:
            if self.holder not in (None, name) and time.monotonic() - self._heard_s < self.limit_s:
                raise CommandRefusedError(
                    "another client holds the lease to move", remedy="Close it, or wait for its end"
                )
            self.holder = name
            self.renew()

    def renew(self) -> None:
        """The holder was heard, or waits for an answer."""
        self._heard_s, self._heard_ns = time.monotonic(), self._now_ns()
        if self._beat is not None:
            self._beat()

    def expired(self) -> bool:
        """Whether the holder has just lost it by silence."""
        if self.holder is None or self._now_ns() - self._heard_ns <= self.limit_s * 1e9:
            return False
        self.holder = None
        return True

    def give_back(self, name: str) -> bool:
        """Whether ``name`` held it, and no longer does."""
        held = name == self.holder
        self.holder = None if held else self.holder
        return held
