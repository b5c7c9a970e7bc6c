"""A terminal whose other end is the test: it types, and reads what a person would see."""

from __future__ import annotations

import os
import pty
import select
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class PseudoTerminal:
    """``path`` is what a program opens."""

    master: int
    slave: int
    path: str
    shown: bytes = field(default=b"")

    def type(self, keys: bytes) -> None:
        """Press ``keys``, and wait until the program could read them."""
        os.write(self.master, keys)

    def until(self, text: str, timeout_s: float = 20.0) -> str:
        """Wait until ``text`` is shown; returns what was shown up to its end."""
        wanted, until_s = text.encode(), time.monotonic() + timeout_s
        while wanted not in self.shown:
            left_s = until_s - time.monotonic()
            assert left_s > 0 and select.select([self.master], [], [], left_s)[0], f"'{text}' not in {self.shown!r}"
            self.shown += os.read(self.master, 4096)
        before, _, self.shown = self.shown.partition(wanted)
        return (before + wanted).decode()

    def modes(self) -> list[Any]:
        """The settings of the terminal."""
        return termios.tcgetattr(self.slave)


@contextmanager
def pseudo_terminal() -> Iterator[PseudoTerminal]:
    """A terminal for a test."""
    master, slave = pty.openpty()
    try:
        yield PseudoTerminal(master, slave, os.ttyname(slave))
    finally:
        os.close(slave)
        os.close(master)
