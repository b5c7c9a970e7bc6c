"""Manual resets: a person arranges the start and says when the arm may move. Without one, resets are automatic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from robot_rl.types import EpisodeEvent, ResetRequest

Confirm = Callable[[ResetRequest], None]  # returns when the arm may move to the start; raising keeps it where it is
_ANYTHING = "Clear the way to the start"
_WAIT_S = 1.0  # then signals are looked at


@runtime_checkable
class KeyDevice(Protocol):
    """A device with a start key, on which one can wait."""

    def events(self) -> Sequence[EpisodeEvent]:
        """Keys pressed since the last call; never waits."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Until something is pressed, at most so long; may return early. Raises DeviceError when it is gone."""
        ...


def on_terminal(request: ResetRequest, ask: Callable[[str], str] = input) -> None:
    """Ask on the terminal. Raises KeyboardInterrupt for ``q``, which ends the run as Ctrl-C does."""
    if ask(f"{request.operator_text or _ANYTHING}. Enter: the arm moves there, q: stop\n").strip().lower() == "q":
        raise KeyboardInterrupt


class OnKey:
    """Waits for the key START of a device."""

    def __init__(self, device: KeyDevice, tell: Callable[[str], None]) -> None:
        self._device, self._tell = device, tell

    def __call__(self, request: ResetRequest) -> None:
        """Return once START is pressed; what was pressed before counts for nothing."""
        self._device.events()
        self._tell(f"\a{request.operator_text or _ANYTHING}, then press start\n")
        while EpisodeEvent.START not in self._device.events():
            self._device.wait(_WAIT_S)
