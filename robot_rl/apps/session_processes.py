"""The session with actor and learner in processes of their own: both are started, watched and, when one dies, replaced.

While the actor is gone the arm is held by its own safety; while the learner is gone the actor acts on with the weights
that it has, and waits at a reset after ``learner_timeout_s``. Ctrl-C and SIGTERM stop the actor first, then the
learner, which saves.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from robot_rl.apps.main import INTERRUPTED
from robot_rl.apps.session_end import ACTOR, LEARNER
from robot_rl.apps.session_table import SessionTable
from robot_rl.errors import RobotRlError
from robot_rl.runtime.processes import Processes, cause

CONFIG_FILE = "session.yaml"  # in the run folder: what both ends are made of
REDRAW_S = 0.5
ACTOR_GRACE_S, LEARNER_GRACE_S = 20.0, 90.0  # to stop the arm and ship; to save


def run_processes(config: Any, folder: Path) -> None:
    """Act and learn until the learner has what it needs. Raises RobotRlError when an end cannot be kept alive."""
    from omegaconf import OmegaConf

    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / CONFIG_FILE)
    with tempfile.TemporaryDirectory(prefix="robot-rl-") as sockets, SessionTable() as table:
        command = [sys.executable, "-u", "-m", "robot_rl.apps.session_end"]
        where = [str(folder / CONFIG_FILE), str(folder), f"ipc://{sockets}/learner"]
        processes = Processes(
            lambda name, leash, figures, again: [
                *command, name, *where, str(leash), str(figures), "again" if again else "first",
            ],
            restarts=config.restarts,
        )  # fmt: skip
        with _stopped_at_the_end(processes, table):
            _watch(processes, table)


def _watch(processes: Processes, table: SessionTable) -> None:
    """Until the learner has ended well."""
    for name in (LEARNER, ACTOR):
        processes.start(name)
    while True:
        for told in processes.listen(REDRAW_S):
            table.take(told)
            if told.name == LEARNER and told.code == 0:
                for last in processes.see_off(ACTOR, ACTOR_GRACE_S):  # it was told to stop
                    table.take(last)
                return
            if told.code == INTERRUPTED:  # somebody stopped it: the person at a reset, or a supervisor
                raise KeyboardInterrupt
            if not told.code:  # an actor that was told to stop, and the learner will end, too; or just words
                continue
            if not processes.may_work(told.name, told.code):
                raise RobotRlError(f"the {told.name} could not begin", remedy="See what it says above")
            table.say(f"the {told.name} ended ({cause(told.code)}) and is started again")
            processes.restart(told.name, told.code)
        table.draw()


@contextmanager
def _stopped_at_the_end(processes: Processes, table: SessionTable) -> Iterator[None]:
    """Whatever happens: the arm stops, the learner saves, nobody is left behind."""
    try:
        yield
    finally:
        try:
            for name, grace_s in ((ACTOR, ACTOR_GRACE_S), (LEARNER, LEARNER_GRACE_S)):
                for told in processes.stop(name, grace_s):
                    with suppress(OSError, SystemExit):  # our reader may be gone (`| tee`): then rich ends the program
                        table.take(told)
        finally:  # who is interrupted again does not want to wait
            processes.kill()
