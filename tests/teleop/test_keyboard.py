"""The keyboard on a real pseudo terminal: what presses amount to, and the terminal afterwards, whatever ended it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from robot_rl.errors import ConfigError, DeviceError
from robot_rl.teleop.device import Device, Key
from robot_rl.teleop.keyboard import AXES, KEYS, LEGEND, Keyboard
from tests.teleop.pseudo_terminal import PseudoTerminal, pseudo_terminal

TICK_NS = 50_000_000


@pytest.fixture
def terminal() -> Iterator[PseudoTerminal]:
    with pseudo_terminal() as opened:
        yield opened


@pytest.fixture
def keyboard(terminal: PseudoTerminal) -> Iterator[Keyboard]:
    device = Keyboard(press_s=0.1, terminal=terminal.path)
    device.poll()
    yield device
    device.close()


def axes(keyboard: Keyboard, ticks: Sequence[int]) -> list[list[float] | None]:
    """Motion at ``ticks``, polled each time."""
    seen: list[list[float] | None] = []
    for tick in ticks:
        keyboard.poll()
        motion = keyboard.motion(TICK_NS * tick)
        seen.append(None if motion is None else motion.tolist())
    return seen


def typed(keyboard: Keyboard, terminal: PseudoTerminal, keys: bytes) -> list[Key]:
    terminal.type(keys)
    keyboard.wait(10.0)
    return list(keyboard.poll())


def test_a_press_moves_for_its_time_and_ends_by_itself(keyboard: Keyboard, terminal: PseudoTerminal) -> None:
    assert isinstance(keyboard, Device)
    typed(keyboard, terminal, b"w")
    forward = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert axes(keyboard, range(4)) == [forward, forward, None, None]


def test_repeats_that_a_slow_line_delivers_at_once_count_once(keyboard: Keyboard, terminal: PseudoTerminal) -> None:
    typed(keyboard, terminal, b"r" * 200)
    assert [seen is not None for seen in axes(keyboard, range(4))] == [True, True, False, False]


def test_a_key_held_goes_on_without_a_gap(keyboard: Keyboard, terminal: PseudoTerminal) -> None:
    moving = []
    for tick in range(6):  # 20 repeats a second
        typed(keyboard, terminal, b"a")
        moving.append(keyboard.motion(TICK_NS * tick))
    assert [motion is not None and motion[1] for motion in moving] == [1.0] * 6


def test_arrows_in_both_terminal_modes_and_sequences_that_come_in_pieces(
    keyboard: Keyboard, terminal: PseudoTerminal
) -> None:
    typed(keyboard, terminal, b"\x1b[A\x1bOD")
    assert axes(keyboard, [0]) == [[1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]
    assert typed(keyboard, terminal, b"\x1b[") == []
    typed(keyboard, terminal, b"B")
    assert axes(keyboard, [9]) == [[-1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    assert typed(keyboard, terminal, b"\x1b[24~\x1byY") == [Key.SUCCESS]  # F12, Escape, y, and Y is y


def test_keys_by_what_they_mean(keyboard: Keyboard, terminal: PseudoTerminal) -> None:
    wanted = [Key.STOP, Key.START, Key.FAILURE, Key.DISCARD, Key.RERECORD, Key.HAND_BACK, Key.GRIPPER, Key.FRAME]
    assert typed(keyboard, terminal, b" \rnxbhgt") == wanted


def test_released_keys_move_nothing(keyboard: Keyboard, terminal: PseudoTerminal) -> None:
    typed(keyboard, terminal, b"wu")
    keyboard.motion(0)
    keyboard.release()
    assert axes(keyboard, [0]) == [None]


def test_the_terminal_is_as_before_and_what_was_typed_is_not_for_the_shell(terminal: PseudoTerminal) -> None:
    before = terminal.modes()
    device = Keyboard(terminal=terminal.path)
    device.poll()
    assert terminal.modes() != before
    terminal.type(b"wwww")
    device.wait(10.0)
    device.close()
    device.close()
    assert terminal.modes() == before
    again = Keyboard(terminal=terminal.path)
    again.poll()
    assert again.motion(0) is None
    again.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_terminal_is_restored_even_after_a_kill(terminal: PseudoTerminal, number: signal.Signals) -> None:
    before = terminal.modes()
    code = "import sys\nfrom robot_rl.teleop.terminal import Terminal\nt = Terminal(sys.argv[1])\n"
    code += "t.write('open')\nt.wait(100)\n"
    process = subprocess.Popen([sys.executable, "-c", code, terminal.path])
    terminal.until("open")
    assert terminal.modes() != before
    process.send_signal(number)
    assert process.wait(20) == -number
    for _ in range(1000):
        if terminal.modes() == before:
            return
        with pytest.raises(AssertionError):  # waits on the terminal, where nothing comes
            terminal.until("anything", 0.02)
    raise AssertionError("the terminal stays as it was left")


def test_a_line_that_breaks_is_noticed_and_moves_nothing(terminal: PseudoTerminal) -> None:
    with pseudo_terminal() as other:
        device = Keyboard(terminal=other.path)
        typed(device, other, b"w")
    device.poll()
    assert device.age_s > 0.0
    assert device.motion(0) is None
    with pytest.raises(DeviceError, match="gone"):
        device.wait(1.0)
    device.close()


def test_no_terminal_and_times_that_make_no_sense_are_refused() -> None:
    for path in ("/nowhere/tty", "/dev/null"):
        with pytest.raises(DeviceError, match="terminal"):
            Keyboard(terminal=path).poll()
    with pytest.raises(ConfigError, match="press_s=0"):
        Keyboard(press_s=0.0)


def test_the_legend_names_every_letter() -> None:
    words = " ".join(LEGEND).replace(":", " ").replace(",", " ").split()
    letters = {key.decode() for key in [*AXES, *KEYS] if len(key) == 1 and key.isalpha()}
    assert letters <= set(words)
