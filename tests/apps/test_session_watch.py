"""What the parent of a session does when an end stops, with small processes in the places of actor and learner."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from robot_rl.apps.main import INTERRUPTED
from robot_rl.apps.session_end import ACTOR, LEARNER
from robot_rl.apps.session_processes import _stopped_at_the_end, _watch
from robot_rl.apps.session_table import SessionTable
from robot_rl.errors import RobotRlError
from robot_rl.runtime.processes import Processes

UNTIL_TOLD = """
import pathlib, signal, sys, threading
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    print("ready", flush=True)
    threading.Event().wait()
except KeyboardInterrupt:
    print("stopping", flush=True)
    pathlib.Path(sys.argv[1]).write_text("saved")
"""


# Opening a pipe waits until somebody opens its other end: the actor ends once the learner can be told to stop.
TOGETHER = UNTIL_TOLD.replace('print("ready", flush=True)', 'open(sys.argv[2], "w").close()')
STOPPED = f"import sys; open(sys.argv[2]).close(); raise SystemExit({INTERRUPTED})"


def made(folder: Path, **scripts: str) -> Processes:
    """Ends of these scripts, which get a file of their own to write and a pipe between them."""
    os.mkfifo(folder / "pipe")
    arguments = [str(folder / "pipe")]
    return Processes(lambda name, *others: [sys.executable, "-c", scripts[name], str(folder / name), *arguments])


def test_an_actor_that_a_person_stopped_is_not_started_again_and_the_learner_saves(tmp_path: Path) -> None:
    processes = made(tmp_path, actor=STOPPED, learner=TOGETHER)
    with (
        pytest.raises(KeyboardInterrupt),
        SessionTable(Console(file=io.StringIO())) as table,
        _stopped_at_the_end(processes, table),
    ):
        _watch(processes, table)
    assert (tmp_path / LEARNER).read_text() == "saved"
    assert not processes.running(ACTOR) and not processes.running(LEARNER)


class Gone(io.StringIO):
    """A terminal that was closed, or a pipe that nobody reads, at which rich ends the program."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), SystemExit(1)])
def test_both_ends_save_although_nobody_reads_any_more(tmp_path: Path, error: BaseException) -> None:
    processes = made(tmp_path, actor=UNTIL_TOLD, learner=UNTIL_TOLD)
    with SessionTable(Console(file=Gone(error))) as table, _stopped_at_the_end(processes, table):
        for name in (LEARNER, ACTOR):
            processes.start(name)
            while not any(told.line == "ready" for told in processes.listen(1.0)):
                pass
    assert [(tmp_path / name).read_text() for name in (ACTOR, LEARNER)] == ["saved", "saved"]


def test_an_end_that_cannot_begin_ends_the_session(tmp_path: Path) -> None:
    processes = made(tmp_path, actor=UNTIL_TOLD, learner="raise SystemExit(2)")
    with (
        pytest.raises(RobotRlError, match="the learner could not begin"),
        SessionTable(Console(file=io.StringIO())) as table,
        _stopped_at_the_end(processes, table),
    ):
        _watch(processes, table)
    assert not processes.running(ACTOR)


def test_who_imports_a_session_keeps_ctrl_c() -> None:
    """Only the ends themselves leave it to their parent."""
    before = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    after = "import robot_rl.apps.session; raise SystemExit(signal.getsignal(2) is not signal.default_int_handler)"
    subprocess.run([sys.executable, "-c", f"{before}; {after}"], check=True)
