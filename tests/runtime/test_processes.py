"""Children that die, that come back, that tell, and that end with their parent: real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from robot_rl.errors import RobotRlError
from robot_rl.runtime.processes import Processes, Told

CHILD = """
import sys
from robot_rl.runtime.processes import Figures, leave_with_parent
leave_with_parent(int(sys.argv[2]))
tell = Figures(int(sys.argv[3]))
try:
    import threading
    tell({"name": sys.argv[1], "again": sys.argv[4] == "True"})
    print("words of", sys.argv[1], flush=True)
    threading.Event().wait()
except KeyboardInterrupt:
    print("last words", end="", flush=True)
    sys.exit(7)
"""
PARENT = """
import sys
from robot_rl.runtime.processes import Processes
CHILD = sys.argv[1]
made = Processes(lambda name, leash, figures, again: [
    sys.executable, "-c", "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)" + CHILD,
    name, str(leash), str(figures), str(again)])
made.start("one")
while True:
    for told in made.listen(10.0):
        if told.figures:
            print(made._children["one"].process.pid, flush=True)
"""
ENDS_BY_TERM = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)\n"


def command(name: str, leash: int, figures: int, again: bool) -> list[str]:
    return [sys.executable, "-c", ENDS_BY_TERM + CHILD, name, str(leash), str(figures), str(again)]


@pytest.fixture
def processes() -> Iterator[Processes]:
    made = Processes(command, restarts=1)
    yield made
    made.kill()


def until(processes: Processes, *wanted: Callable[[Told], bool]) -> list[Told]:
    """The first of what is told that is wanted, for each that is."""
    found: dict[int, Told] = {}
    for _ in range(100):
        for told in processes.listen(1.0):
            for number, is_it in enumerate(wanted):
                if number not in found and is_it(told):
                    found[number] = told
        if len(found) == len(wanted):
            return [found[number] for number in range(len(wanted))]
    raise AssertionError("it was never told")


def figures(told: Told) -> bool:
    return told.figures is not None


def line(told: Told) -> bool:
    return told.line is not None


def end(told: Told) -> bool:
    return told.code is not None


def test_figures_words_and_end_of_a_child_are_told(processes: Processes) -> None:
    processes.start("one")
    numbers, words = until(processes, figures, line)
    assert numbers.figures == {"name": "one", "again": False}
    assert words.line == "words of one"
    told = list(processes.stop("one", grace_s=100.0))
    assert [(t.line, t.code) for t in told] == [("last words", None), (None, 7)]
    assert not processes.running("one")


def test_a_killed_child_comes_back_as_often_as_allowed(processes: Processes) -> None:
    processes.start("one")
    for again in (False, True):
        assert until(processes, figures)[0].figures == {"name": "one", "again": again}
        os.kill(processes._children["one"].process.pid, signal.SIGKILL)
        (told,) = until(processes, end)
        assert told.code == -signal.SIGKILL and processes.may_work("one", 2)
        if not again:
            processes.restart("one", -signal.SIGKILL)
    with pytest.raises(RobotRlError, match=r"the one ended 2 times .* now by SIGKILL \(limit: restarts=1"):
        processes.restart("one", -signal.SIGKILL)


def test_a_child_that_ends_at_once_was_never_at_work() -> None:
    processes = Processes(lambda *words: [sys.executable, "-c", "raise SystemExit(2)"])
    processes.start("one")
    (told,) = until(processes, end)
    assert told.code == 2 and not processes.may_work("one", 2)
    assert processes.may_work("one", -signal.SIGKILL)  # it may have been too early


def test_a_child_that_does_not_heed_is_killed() -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    processes = Processes(lambda *words: [sys.executable, "-c", deaf])
    processes.start("one")
    until(processes, line)
    assert [told.code for told in processes.stop("one", grace_s=0.05)] == [-signal.SIGKILL]


def test_a_child_is_forgotten_although_a_process_of_its_own_goes_on() -> None:
    """It inherited the pipe for words, which therefore does not end."""
    leaves = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[1]]).pid, flush=True)"
    processes = Processes(lambda *words: [sys.executable, "-c", leaves, "import signal; signal.pause()"])
    processes.start("one")
    words, over = until(processes, line, end)
    assert over.code == 0 and not processes.running("one")
    assert words.line is not None
    os.kill(int(words.line), signal.SIGKILL)


def test_children_end_when_their_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, "\n" + CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        poll = select.poll()
        poll.register(child)
        assert poll.poll(100_000)  # a process descriptor is readable once the process has ended
        os.close(child)
