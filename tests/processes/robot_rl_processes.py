"""robot-rl commands as processes of a test: started, waited for without sleeping, ended with the test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from robot_rl.apps.main import main

ARM = ["task=lift", "robot=fake", "robot.objects=[cube]", "env.max_steps=20"]
LEARNING = [
    "demos=lift", "batch=16", "start=40", "update_ratio=1", "lowest_ratio=1", "policy.hidden=[16]",
    "algorithm.critic.hidden=[16]",
]  # fmt: skip
LOOK_S = 0.02  # between two looks at files and processes that can wake nobody
WAIT_S = 600.0  # at most: on a machine with nothing else to do it takes seconds
_never = threading.Event()


def recorded(root: Path) -> Path:
    """``root`` with two demonstrations in data/lift."""
    assert main(["record", *ARM, "episodes=2", "keep_failures=true", f"root={root}"]) == 0
    return root


@contextmanager
def running(*words: str, said: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A robot-rl command that writes to the file ``said``; killed on the way out if it still runs."""
    command = [str(Path(sys.executable).with_name("robot-rl")), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with said.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
    """Until the condition holds, which it must before any of the processes ends."""
    until = time.monotonic() + WAIT_S
    while not condition():
        assert all(process.poll() is None for process in processes), "a process has ended"
        assert time.monotonic() < until
        _never.wait(LOOK_S)


def alive(pid: int) -> bool:
    """Whether there is such a process, one that has ended and that nobody has asked about left out."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(parent: int) -> dict[int, list[str]]:
    """Words of the commands of the processes that ``parent`` has started, by number."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split() if folder.name.isdigit() else []
            if status and int(status[1]) == parent and status[0] != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
        except OSError:  # it has just ended
            continue
    return found
