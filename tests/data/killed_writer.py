"""A process that records until it is killed, and the check of what it left behind.

``KilledWriter`` keeps one warm process (imports done) that forks the writers, so that a round costs no start-up. A
writer notes in a shared file what it was told had been appended and committed.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import PERIOD_NS, make_row, make_spec

_NOTE = struct.Struct("<III")  # first episode not committed, rows appended to it, rows it is going to have


@dataclass
class KillRecord:
    """What all rounds so far showed."""

    kills: int = 0
    clean: int = 0  # every committed episode bit-exact and at most 2 steps of the running one lost
    max_steps_lost: int = 0
    found: Counter[str] = field(default_factory=Counter)  # states that the kills hit
    problems: list[str] = field(default_factory=list)
    next_episode: int = 0


class KilledWriter:
    """Rounds of recording, SIGKILL at a random point, recovery and comparison, all on one store."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.record = KillRecord()
        self._random = np.random.default_rng(seed)
        EpisodeStore.create(root, spec=make_spec())
        self._notes = root.with_name(root.name + ".notes")
        self._notes.write_bytes(bytes(_NOTE.size))
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.data.killed_writer", str(root), str(self._notes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        self._answer()

    def close(self) -> None:
        """End the warm process."""
        assert self._zygote.stdin is not None and self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait(timeout=30)
        self._zygote.stdout.close()

    def round(self, longest_s: float = 0.5) -> None:
        """Record for a random time, kill, recover, compare; what is wrong is added to ``record.problems``."""
        record, first = self.record, self.record.next_episode
        pid = int(self._ask(f"start {first} {self._random.integers(2**31)}"))
        # The random time is the point of the experiment, not a wait for a condition.
        time.sleep(self._random.uniform(0, longest_s))
        os.kill(pid, signal.SIGKILL)
        self._ask("reap")
        running, appended, planned = _NOTE.unpack(self._notes.read_bytes())
        record.found.update(self._leftovers())
        store = EpisodeStore.open(self.root)
        new = {info.metadata["ordinal"]: info for info in store.infos() if info.metadata["ordinal"] >= first}
        problems = [f"episode {i} was committed and is gone" for i in range(first, running) if i not in new]
        for ordinal, info in new.items():
            problems += _differences(store, info.id, ordinal, committed=ordinal < running)
        rows = new[running].rows if running in new else 0
        lost = max(appended - rows, 0)
        if lost > 2:
            problems.append(f"{lost} of {appended} steps of episode {running} lost")
        if rows > planned:
            problems.append(f"episode {running} has {rows} rows of {planned}")
        record.kills += 1
        record.clean += not problems
        record.max_steps_lost = max(record.max_steps_lost, lost)
        record.problems += problems
        record.next_episode = max([running, *new]) + 1

    def _leftovers(self) -> list[str]:
        journals = [path.stem for path in (self.root / "journal").glob("*.journal")]
        found = ["journal" for _ in journals]
        found += ["temporary file" for _ in (self.root / "episodes").glob(".*.tmp")]
        found += ["file and journal" for id in journals if (self.root / "episodes" / f"{id}.zarr.zip").exists()]
        return found or ["nothing"]

    def _ask(self, line: str) -> str:
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(line.encode() + b"\n")
        self._zygote.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._zygote.stdout is not None
        answer = self._zygote.stdout.readline()
        assert answer, "the writer's parent died"
        return answer.decode().strip()


def _differences(store: EpisodeStore, id: str, ordinal: int, *, committed: bool) -> list[str]:
    """What in episode ``ordinal`` is not as it was appended, bit by bit."""
    episode, spec = store.read(id), make_spec()
    episode.validate()
    wrong = [str(finding) for finding in store.verify([id])]
    last = episode.rows - 1
    if committed and (episode.metadata["recovered"] or episode.metadata["cut_at_last_observation"]):
        wrong.append(f"episode {ordinal} was committed but is marked recovered")
    for t in range(episode.rows):
        row = make_row(spec, ordinal, t, final=t == last)
        state = row.observation.state["arm0/joint_position"]
        same = (
            np.array_equal(episode.arrays["obs/arm0/joint_position"][t], state)
            and np.array_equal(episode.arrays["action/commanded"][t], row.action.commanded)
            and np.array_equal(episode.arrays["action/executed"][t], row.action.executed)
            and episode.arrays["time/t_ns"][t] == row.observation.stamp_ns
            and episode.arrays["action_valid"][t] == row.action.valid
            and episode.arrays["rl/reward"][t] == row.reward
            and episode.cameras["wrist"].frame_of_step[t] == t
            and episode.cameras["wrist"].encoded(t) == row.observation.frames["wrist"].data
        )
        if not same:
            wrong.append(f"row {t} of episode {ordinal} differs")
    return wrong


def _record_until_killed(root: Path, notes: mmap.mmap, ordinal: int, seed: int) -> None:
    random, spec = np.random.default_rng(seed), make_spec()
    store = EpisodeStore.open(root, recover=False)
    while True:
        planned = int(random.integers(2, 15))
        _NOTE.pack_into(notes, 0, ordinal, 0, planned)
        with store.begin(spec, {"ordinal": ordinal}) as writer:
            due = time.monotonic()
            for t in range(planned):
                writer.append(make_row(spec, ordinal, t, final=t == planned - 1))
                _NOTE.pack_into(notes, 0, ordinal, t + 1, planned)
                due = max(due + PERIOD_NS / 1e9, time.monotonic())  # as a control loop: ticks missed are not made up
                time.sleep(max(0.0, due - time.monotonic()))
            writer.end(EpisodeEnd("time_limit", None, planned - 1))
        ordinal += 1


def _serve(root: Path, notes_path: Path) -> None:
    """Fork a writer for every line ``start``, wait for its death at ``reap``."""
    with notes_path.open("r+b") as file:
        notes = mmap.mmap(file.fileno(), _NOTE.size)
    print("ready", flush=True)
    child = 0
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "reap":
            os.waitpid(child, 0)
            print("reaped", flush=True)
            continue
        ordinal, seed = map(int, arguments)
        _NOTE.pack_into(notes, 0, ordinal, 0, 0)
        child = os.fork()
        if child == 0:
            try:
                _record_until_killed(root, notes, ordinal, seed)
            finally:
                os._exit(1)
        print(child, flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
