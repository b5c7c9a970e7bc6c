"""Manual resets: a person arranges the start and says when the arm may move. Without one, resets are automatic."""

from __future__ import annotations

import time
from collections.abc import Callable

from robot_rl.interfaces import Intervention
from robot_rl.types import EpisodeEvent, ResetRequest

Confirm = Callable[[ResetRequest], None]  # returns when the arm may move to the start; raising keeps it where it is
_POLL_S = 0.02
_ANYTHING = "Clear the way to the start"


def on_terminal(request: ResetRequest, ask: Callable[[str], str] = input) -> None:
    """Ask on the terminal. Raises KeyboardInterrupt for ``q``, which ends the run as Ctrl-C does."""
    if ask(f"{request.operator_text or _ANYTHING}. Enter: the arm moves there, q: stop\n").strip().lower() == "q":
        raise KeyboardInterrupt


class OnKey:
    """Waits for the key START of a device."""

    def __init__(self, device: Intervention, tell: Callable[[str], None] = print) -> None:
        self._device, self._tell = device, tell

    def __call__(self, request: ResetRequest) -> None:
        """Return once START is pressed; what was pressed before counts for nothing."""
        self._device.events()
        self._tell(f"{request.operator_text or _ANYTHING}, then press start")
        while EpisodeEvent.START not in self._device.events():
            time.sleep(_POLL_S)
