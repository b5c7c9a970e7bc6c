"""3Dconnexion SpaceMouse over hidapi. Order and sign of the axes, and the layout of the reports, are data by model.

A report is its number and then little-endian values: 1 translation (and rotation behind it, on newer models), 2
rotation, 3 a mask of buttons. The cap gives x right, y towards the person, z down.
"""

from __future__ import annotations

import importlib
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from robot_rl.errors import DeviceError
from robot_rl.teleop.device import Key
from robot_rl.types import Array

OLD_VENDOR, VENDOR = 0x046D, 0x256F  # Logitech's, then 3Dconnexion's own
RULE = 'KERNEL=="hidraw*", ATTRS{idVendor}=="256f|046d", MODE="0660", TAG+="uaccess"'
RULE_FILE = "/etc/udev/rules.d/70-spacemouse.rules"
_LONGEST = 64  # bytes of a report
_RETRY_S = 1.0


@dataclass(frozen=True)
class Model:
    """``axes``: of x y z rx ry rz, which value of the device it is and its sign; ``full_scale`` is a full push."""

    name: str
    axes: tuple[tuple[int, float], ...] = ((1, -1.0), (0, -1.0), (2, -1.0), (4, -1.0), (3, -1.0), (5, -1.0))
    full_scale: float = 350.0
    keys: tuple[tuple[int, Key], ...] = ((0, Key.CLOSE), (1, Key.OPEN))  # bit of the mask


_PRO = ((0, Key.CLOSE), (1, Key.OPEN), (12, Key.START), (13, Key.SUCCESS), (14, Key.FAILURE), (15, Key.DISCARD),
        (22, Key.STOP), (25, Key.FRAME))  # fmt: skip
MODELS: Mapping[tuple[int, int], Model] = {
    (OLD_VENDOR, 0xC626): Model("SpaceNavigator"),
    (OLD_VENDOR, 0xC628): Model("SpaceNavigator for Notebooks"),
    (OLD_VENDOR, 0xC627): Model("SpaceExplorer"),
    (OLD_VENDOR, 0xC629): Model("SpacePilot Pro"),
    (OLD_VENDOR, 0xC62B): Model("SpaceMouse Pro", keys=_PRO),
    (VENDOR, 0xC62E): Model("SpaceMouse Wireless, by cable"),
    (VENDOR, 0xC62F): Model("SpaceMouse Wireless"),
    (VENDOR, 0xC631): Model("SpaceMouse Pro Wireless, by cable", keys=_PRO),
    (VENDOR, 0xC632): Model("SpaceMouse Pro Wireless", keys=_PRO),
    (VENDOR, 0xC633): Model("SpaceMouse Enterprise"),
    (VENDOR, 0xC635): Model("SpaceMouse Compact"),
    (VENDOR, 0xC638): Model("SpaceMouse Pro Wireless BT", keys=_PRO),
    (VENDOR, 0xC63A): Model("SpaceMouse Wireless BT"),
    (VENDOR, 0xC652): Model("Universal Receiver", keys=_PRO),
}


class Hid(Protocol):
    """An open HID device."""

    def read(self, length: int, timeout_ms: int = 0) -> Sequence[int]:
        """One report, empty when there is none; without a time limit it does not wait. Raises OSError when gone."""
        ...

    def close(self) -> None: ...


class SpaceMouse:
    """A Device. ``find`` opens one and tells its model; the first SpaceMouse that hidapi lists by default."""

    dead_man = False
    legend = (
        "push, lift and turn the cap: the arm moves alike   left button: close, right button: open",
        "Pro models: Menu start   1 success   2 failure   3 discard   Esc stop   Ctrl frame",
    )

    def __init__(self, find: Callable[[], tuple[Hid, Model]] | None = None) -> None:
        self._find = find or find_spacemouse
        self._hid: Hid | None = None
        self._model = Model("")
        self._values, self._mask = np.zeros(6), 0
        self._pressed: list[Key] = []
        self._lost_s: float | None = None
        self._tried_s = 0.0

    @property
    def offers(self) -> Collection[Key]:
        return [key for _, key in self._model.keys]

    @property
    def age_s(self) -> float:
        return 0.0 if self._lost_s is None else time.monotonic() - self._lost_s

    def poll(self) -> Sequence[Key]:
        """Take in the reports since the last call; the keys pressed."""
        if self._hid is None:
            self._open()
        while report := self._read(0):
            self._take(report)
        pressed, self._pressed = self._pressed, []
        return pressed

    def motion(self, now_ns: int) -> Array | None:
        """How far the cap is pushed [6]."""
        if self._lost_s is not None or not self._values.any():
            return None
        pushed = [sign * self._values[source] for source, sign in self._model.axes]
        return np.clip(np.array(pushed) / self._model.full_scale, -1.0, 1.0)

    def release(self) -> None:
        """The cap counts as at rest until it tells otherwise."""
        self._values[:] = 0.0

    def wait(self, timeout_s: float) -> None:
        """Until the cap or a button is touched, at most so long."""
        if self._hid is None:
            time.sleep(min(timeout_s, _RETRY_S))
        elif report := self._read(max(1, round(1e3 * timeout_s))):
            self._take(report)

    def close(self) -> None:
        """Let go of the device."""
        if self._hid is not None:
            self._hid.close()
            self._hid = None

    def _take(self, report: bytes) -> None:
        number, content = report[0], report[1:]
        if number in (1, 2) and len(content) >= 6:
            first = 3 * (number - 1)
            count = 6 if number == 1 and len(content) >= 12 else 3
            self._values[first : first + count] = struct.unpack_from(f"<{count}h", content)
        elif number == 3:
            mask = int.from_bytes(content, "little")
            self._pressed += [key for bit, key in self._model.keys if mask & ~self._mask & (1 << bit)]
            self._mask = mask

    def _read(self, timeout_ms: int) -> bytes:
        if self._hid is None:
            return b""
        try:
            return bytes(self._hid.read(_LONGEST, timeout_ms))
        except (OSError, ValueError):  # unplugged, out of reach
            self.close()
            self._lost_s = time.monotonic()
            self._values[:], self._mask = 0.0, 0
            return b""

    def _open(self) -> None:
        """Raises DeviceError the first time; afterwards tries again once a second."""
        if self._lost_s is not None and time.monotonic() - self._tried_s < _RETRY_S:
            return
        self._tried_s = time.monotonic()
        try:
            self._hid, self._model = self._find()
        except DeviceError:
            if self._lost_s is None:
                raise
            return
        self._lost_s = None


def find_spacemouse() -> tuple[Hid, Model]:
    """The first of the known models that is connected. Raises DeviceError that says what to do."""
    hid = _library()
    found = next((d for d in hid.enumerate() if (d["vendor_id"], d["product_id"]) in MODELS), None)
    if found is None:
        raise DeviceError("no SpaceMouse is connected", limit=", ".join(model.name for model in MODELS.values()))
    model, path = MODELS[found["vendor_id"], found["product_id"]], found["path"]
    device = hid.device()
    try:
        device.open_path(path)
    except OSError as error:
        raise DeviceError(
            f"the {model.name} cannot be opened: {error}",
            remedy=f"Write {RULE} into {RULE_FILE}, run sudo udevadm control --reload && sudo udevadm trigger, plug it "
            "in anew; stop spacenavd where it runs",
        ) from error
    device.set_nonblocking(True)
    return device, model


def _library() -> Any:
    """hidapi, through hidraw where it can: libusb would take the device from the kernel."""
    for name in ("hidraw", "hid") if Path("/sys/class/hidraw").exists() else ("hid",):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise DeviceError("teleop=spacemouse needs hidapi", remedy="pip install -c constraints.txt 'robot-rl[teleop]'")
