"""A person's say over an arm that moves by itself: it moves while a dead-man is held, or from a start key until
anything else is pressed, and never otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable

from robot_rl.errors import DeviceError
from robot_rl.teleop.device import Device, Key

_WAIT_S = 1.0  # then signals are looked at
_HELD = "Hold the dead-man: it moves. Let go: it pauses. Stop key: the end"
_STARTED = "Start (Enter): it moves. Any axis (w a s d, arrows): it pauses. Stop (space): the end"


class Enabling:
    """By a ``device``, as the enabling devices of ISO 10218 do. One with a dead-man (gamepad) lets the arm move while
    that is held; any other (keyboard, SpaceMouse) from START on until another key is pressed or an axis turned. STOP
    ends what is being done. ``tell`` hears what to press, and each change; a device that was lost for ``silent_s``
    allows nothing.
    """

    def __init__(self, device: Device, tell: Callable[[str], None] = print, silent_s: float = 0.25) -> None:
        self._device, self._tell, self._silent_s = device, tell, silent_s
        self._going = False

    def ask(self, what: str) -> None:
        """Return once the person lets the arm do ``what``; what was pressed before counts for nothing. Raises
        KeyboardInterrupt for STOP, DeviceError for a device that cannot be opened or is gone."""
        self._device.poll()
        self._device.release()
        self._going = False
        self._tell(f"\a{what}. Clear its way. {_HELD if self._device.dead_man else _STARTED}")
        while not self._allowed(time.monotonic_ns()):  # a simulated clock stands meanwhile
            if self._device.age_s > self._silent_s:
                raise DeviceError("the device that lets the arm move is gone", remedy="Connect it, and start again")
            self._device.wait(_WAIT_S)
        self._going = True
        self._tell("it moves")

    def allows(self, now_ns: int) -> bool:
        """Whether the arm may move at ``now_ns`` of the robot's clock; never waits. Raises KeyboardInterrupt for
        STOP."""
        going = self._allowed(now_ns)
        if going is not self._going:
            self._tell("it moves on" if going else f"paused. {_HELD if self._device.dead_man else _STARTED}")
        self._going = going
        return going

    def close(self) -> None:
        """Let go of the device; idempotent."""
        self._device.close()

    def _allowed(self, now_ns: int) -> bool:
        keys = self._device.poll()
        turned = self._device.motion(now_ns) is not None
        if Key.STOP in keys:
            raise KeyboardInterrupt
        if self._device.age_s > self._silent_s:
            return False
        if self._device.dead_man:
            return turned
        others = [key for key in keys if key is not Key.START]
        return (self._going or Key.START in keys) and not others and not turned
