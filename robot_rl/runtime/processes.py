"""Processes that belong together: started, heard, started again when one dies, ended with their parent.

Each child holds the end of a pipe that nobody writes to. When the parent dies, however it dies, the pipe closes, and
the child stops by itself (``leave_with_parent``). Another pipe carries what a child tells, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robot_rl.errors import RobotRlError

RESTARTS_WITHIN_S = 600.0
MAX_TOLD_BYTES = 4000  # of one line, so that it is written whole or not at all


@dataclass(frozen=True)
class Told:
    """A child tells something: ``figures`` of its own, a ``line`` of text for people, or by its end its ``code``."""

    name: str
    figures: Mapping[str, Any] | None = None
    line: str | None = None
    code: int | None = None  # as of subprocess: negative for a signal


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    leash: int  # our end of the pipe that holds it
    pidfd: int
    streams: dict[int, str]  # descriptor -> figures or line
    partial: dict[int, bytes] = field(default_factory=dict)


class Processes:
    """Children by name.

    Args:
        command: makes the command of a child from its name, the descriptors of its leash and of its figures, and
            whether it was started before.
        restarts: how often within ten minutes each of them may be started again.
    """

    def __init__(self, command: Callable[[str, int, int, bool], Sequence[str]], *, restarts: int = 3) -> None:
        self._command, self._restarts = command, restarts
        self._children: dict[str, _Child] = {}
        self._started_s: dict[str, deque[float]] = {}
        self._worked: set[str] = set()  # have told figures
        self._selector = selectors.DefaultSelector()

    def running(self, name: str) -> bool:
        """Whether it has been started and has not ended."""
        return name in self._children

    def start(self, name: str) -> None:
        """Start a child."""
        again = name in self._started_s
        self._started_s.setdefault(name, deque()).append(time.monotonic())
        leash, our_leash = os.pipe()
        our_figures, figures = os.pipe()
        try:
            process = subprocess.Popen(
                self._command(name, leash, figures, again),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(leash, figures),
            )
        finally:
            os.close(leash)
            os.close(figures)
        assert process.stdout is not None
        streams = {our_figures: "figures", process.stdout.fileno(): "line"}
        self._children[name] = _Child(process, our_leash, os.pidfd_open(process.pid), streams)
        for descriptor in (*streams, self._children[name].pidfd):
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ, name)

    def restart(self, name: str, code: int) -> None:
        """Start a child again that has ended with ``code``. Raises RobotRlError when that was often enough."""
        began, now_s = self._started_s[name], time.monotonic()
        while began and now_s - began[0] > RESTARTS_WITHIN_S:
            began.popleft()
        if len(began) > self._restarts:
            raise RobotRlError(
                f"the {name} ended {len(began)} times in {RESTARTS_WITHIN_S / 60:.0f} minutes, now by {cause(code)}",
                limit=f"restarts={self._restarts}",
                remedy=f"See what the {name} said last; resume=true goes on from the newest checkpoint",
            )
        self.start(name)

    def may_work(self, name: str, code: int) -> bool:
        """Whether starting a child again can help that ended with ``code``: it was killed, or had been at work once."""
        return code < 0 or name in self._worked

    def listen(self, timeout_s: float) -> list[Told]:
        """What the children tell, after waiting for it at most ``timeout_s``."""
        names = dict.fromkeys(key.data for key, _ in self._selector.select(timeout_s))
        return [told for name in names for told in self._hear(name)]

    def stop(self, name: str, grace_s: float) -> Iterator[Told]:
        """Ask a child to end (SIGTERM), kill it after ``grace_s``; yields what is told meanwhile, by the others too."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.running(name):
                self._children[name].process.send_signal(number)
                yield from self.see_off(name, grace_s)

    def see_off(self, name: str, grace_s: float) -> Iterator[Told]:
        """Give a child ``grace_s`` to end by itself; yields what is told meanwhile."""
        until = time.monotonic() + grace_s
        while self.running(name) and (left_s := until - time.monotonic()) > 0:
            yield from self.listen(left_s)

    def kill(self) -> None:
        """End all that still run, at once."""
        for name in list(self._children):
            self._children[name].process.kill()
            self._forget(name)

    def _hear(self, name: str) -> Iterator[Told]:
        child = self._children[name]
        code = child.process.poll()  # before the pipes are read, so that its last words are
        for descriptor, what in child.streams.items():
            for line in self._lines(descriptor, child):
                if what == "line":
                    yield Told(name, line=line)
                else:
                    self._worked.add(name)
                    yield Told(name, figures=json.loads(line))
        if code is not None:
            self._forget(name)
            yield Told(name, code=code)

    def _lines(self, descriptor: int, child: _Child) -> list[str]:
        """Whole lines that can be read now; the rest waits in ``partial`` until the pipe ends."""
        content = child.partial.pop(descriptor, b"")
        try:
            while more := os.read(descriptor, 65536):
                content += more
        except BlockingIOError:
            content, _, child.partial[descriptor] = content.rpartition(b"\n")
        else:
            if descriptor in self._selector.get_map():  # an end stays readable, and would wake us for ever
                self._selector.unregister(descriptor)
        return content.decode(errors="replace").splitlines()

    def _forget(self, name: str) -> None:
        child = self._children.pop(name)
        for descriptor in self._selector.get_map().keys() & {*child.streams, child.pidfd}:
            self._selector.unregister(descriptor)
        for descriptor in (child.leash, child.pidfd, *(d for d, what in child.streams.items() if what == "figures")):
            os.close(descriptor)
        if child.process.stdout is not None:  # not read to its end: a process that the child has left may hold it open
            child.process.stdout.close()
        child.process.wait()


def cause(code: int) -> str:
    """An exit code in words."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


# --- the child's side -------------------------------------------------------------------------------------------------


def leave_with_parent(leash: int, grace_s: float = 60.0) -> None:
    """From now on this process stops when its parent is gone: as by SIGTERM, and after ``grace_s`` in any case."""

    def wait() -> None:
        os.read(leash, 1)  # nobody writes: this is the end of the pipe
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)  # nobody reads any more, and that must not disturb saving
        os.dup2(silence, 2)
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(grace_s)
        os._exit(1)

    threading.Thread(target=wait, name="leash", daemon=True).start()


class Figures:
    """Tells the parent; what it is too slow to read is dropped, so that nobody waits for it."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def __call__(self, figures: Mapping[str, Any]) -> None:
        """Tell ``figures``."""
        line = json.dumps(dict(figures)).encode() + b"\n"
        if len(line) > MAX_TOLD_BYTES:
            return
        try:
            os.write(self._descriptor, line)
        except (BlockingIOError, BrokenPipeError):
            return
