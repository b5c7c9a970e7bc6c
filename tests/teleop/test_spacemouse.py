"""The SpaceMouse, fed with reports as models send them."""

from __future__ import annotations

import struct
from collections import deque

import pytest

from robot_rl.errors import DeviceError
from robot_rl.teleop.device import Device, Key
from robot_rl.teleop.spacemouse import MODELS, OLD_VENDOR, VENDOR, SpaceMouse, find_spacemouse

NAVIGATOR, WIRELESS, PRO = (OLD_VENDOR, 0xC626), (VENDOR, 0xC62F), (OLD_VENDOR, 0xC62B)


class Cable:
    """What hidapi would have opened; each report is given once."""

    def __init__(self) -> None:
        self.reports: deque[bytes] = deque()
        self.gone = self.closed = False

    def read(self, length: int, timeout_ms: int = 0) -> list[int]:
        if self.gone:
            raise OSError("read error")
        return list(self.reports.popleft()[:length]) if self.reports else []

    def close(self) -> None:
        self.closed = True

    def send(self, number: int, *values: int) -> None:
        self.reports.append(struct.pack(f"<B{len(values)}h", number, *values))

    def press(self, mask: int) -> None:
        self.reports.append(bytes([3]) + mask.to_bytes(4, "little"))


def opened(product: tuple[int, int]) -> tuple[SpaceMouse, Cable]:
    cable = Cable()
    return SpaceMouse(lambda: (cable, MODELS[product])), cable


def axes(mouse: SpaceMouse) -> list[float] | None:
    mouse.poll()
    motion = mouse.motion(0)
    return None if motion is None else (motion + 0.0).tolist()


def test_the_cap_moves_the_arm_alike() -> None:
    """The device's x is right, y towards the person, z down; ours is away, left, up."""
    mouse, cable = opened(NAVIGATOR)
    assert isinstance(mouse, Device)
    assert axes(mouse) is None
    cable.send(1, 0, -350, 0)  # pushed away
    assert axes(mouse) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    cable.send(1, -175, 0, -350)  # to the left, lifted
    assert axes(mouse) == [0.0, 0.5, 1.0, 0.0, 0.0, 0.0]
    cable.send(2, 0, 0, 350)  # turned clockwise as seen from above: negative about up
    assert axes(mouse) == [0.0, 0.5, 1.0, 0.0, 0.0, -1.0]
    cable.send(1, 0, 0, 0)
    cable.send(2, 0, 0, 0)
    assert axes(mouse) is None


def test_newer_models_tell_all_axes_in_one_report() -> None:
    mouse, cable = opened(WIRELESS)
    cable.send(1, 0, -350, 0, 350, 0, -700)
    assert axes(mouse) == [1.0, 0.0, 0.0, 0.0, -1.0, 1.0]


def test_a_turned_cap_turns_as_its_frame_does() -> None:
    """Every model's axes are a proper rotation of the device's frame, the same for translation and rotation."""
    for model in MODELS.values():
        sources, signs = zip(*model.axes, strict=True)
        assert [source - 3 for source in sources[3:]] == list(sources[:3])
        assert signs[3:] == signs[:3]
        swaps = sum(a > b for i, a in enumerate(sources[:3]) for b in sources[i + 1 : 3])
        assert (-1) ** swaps * signs[0] * signs[1] * signs[2] == 1.0


def test_buttons_count_once_a_press_and_are_the_models() -> None:
    mouse, cable = opened(NAVIGATOR)
    cable.press(0b01)
    cable.press(0b11)
    assert mouse.poll() == [Key.CLOSE, Key.OPEN]
    cable.press(0b00)
    assert mouse.poll() == []
    mouse, cable = opened(PRO)
    cable.press(1 << 22 | 1 << 13)
    assert mouse.poll() == [Key.SUCCESS, Key.STOP]


def test_foreign_and_short_reports_change_nothing() -> None:
    mouse, cable = opened(NAVIGATOR)
    cable.reports += [bytes([1, 9]), bytes([23, 1, 2, 3, 4, 5, 6, 7])]
    assert axes(mouse) is None


def test_unplugged_it_lets_go_and_is_found_again() -> None:
    cables = deque([Cable(), Cable()])
    mouse = SpaceMouse(lambda: (cables.popleft(), MODELS[NAVIGATOR]))
    first = cables[0]
    first.send(1, 0, -350, 0)
    assert axes(mouse) is not None
    first.gone = True
    assert axes(mouse) is None
    assert first.closed
    second = cables[0]
    while mouse.age_s:  # it is tried once a second
        mouse.wait(0.1)
        mouse.poll()
    second.send(1, 0, -350, 0)
    assert axes(mouse) == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    mouse.release()
    assert mouse.motion(0) is None


def test_none_connected_is_a_clear_error() -> None:
    pytest.importorskip("hid", reason="the extra 'teleop' is not installed")
    with pytest.raises(DeviceError, match="no SpaceMouse is connected"):
        find_spacemouse()


def test_without_permission_the_udev_rule_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        @staticmethod
        def enumerate() -> list[dict[str, object]]:
            return [{"vendor_id": VENDOR, "product_id": 0xC635, "path": b"/dev/hidraw3"}]

        class device:
            def open_path(self, path: bytes) -> None:
                raise OSError("open failed")

    monkeypatch.setattr("robot_rl.teleop.spacemouse._library", lambda: Library)
    with pytest.raises(DeviceError, match=r"SpaceMouse Compact cannot be opened.*KERNEL==\"hidraw"):
        find_spacemouse()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "hid", None)
    monkeypatch.setitem(__import__("sys").modules, "hidraw", None)
    with pytest.raises(DeviceError, match=r"robot-rl\[teleop\]"):
        find_spacemouse()
