"""A terminal that gives single keys at once, and is as it was before whatever ends the process.

Ctrl-C and Ctrl-Z work on. A small process of its own restores the terminal when the pipe from ours closes, so that it
is done after a SIGKILL or a crash as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import termios

from robot_rl.errors import DeviceError

TERMINAL = "/dev/tty"
_RESTORE = """
import ast, sys, termios
sys.stdin.buffer.read()
termios.tcsetattr(int(sys.argv[1]), termios.TCSANOW, ast.literal_eval(sys.argv[2]))
"""
_RESTORED_S = 5.0


class Terminal:
    """``path`` is opened anew, so that reading and writing may not wait without others noticing.

    Raises DeviceError where there is no terminal.
    """

    def __init__(self, path: str = TERMINAL) -> None:
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise DeviceError(
                f"no terminal at {path}: {error.strerror}",
                remedy="Run it in a terminal (ssh: with -t), or choose another teleop=",
            ) from error
        try:
            before = termios.tcgetattr(self._fd)
        except termios.error as error:
            os.close(self._fd)
            raise DeviceError(f"{path} is no terminal", remedy="Run it in a terminal") from error
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _RESTORE, str(self._fd), repr(before)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, pass_fds=[self._fd], start_new_session=True,
        )  # fmt: skip
        single = [*before]
        single[3] &= ~(termios.ICANON | termios.ECHO)
        single[6] = [*before[6]]
        single[6][termios.VMIN], single[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, single)

    def fileno(self) -> int:
        """The descriptor that becomes readable when a key is pressed."""
        return self._fd

    def read(self) -> bytes:
        """What was typed since the last call; never waits. Raises DeviceError when the terminal is gone."""
        typed = b""
        try:
            while more := os.read(self._fd, 4096):
                typed += more
        except BlockingIOError:
            return typed
        except OSError as error:
            raise DeviceError(f"the terminal is gone: {error.strerror}") from error
        raise DeviceError("the terminal is gone")

    def write(self, text: str) -> None:
        """Show ``text``; what the terminal does not take at once is dropped."""
        try:
            os.write(self._fd, text.encode())
        except OSError:
            return

    def wait(self, timeout_s: float) -> None:
        """Until something is typed, at most so long."""
        select.select([self._fd], [], [], max(timeout_s, 0.0))

    def close(self) -> None:
        """Restore the terminal; idempotent."""
        if self._fd < 0:
            return
        with contextlib.suppress(termios.error):
            termios.tcflush(self._fd, termios.TCIFLUSH)  # what was typed for us is not for the shell
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait(_RESTORED_S)
        os.close(self._fd)
        self._fd = -1
