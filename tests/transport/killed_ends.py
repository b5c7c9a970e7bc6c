"""Actors and a learner in processes of their own that are killed at random, amid garbage; and the count of the damage.

One warm process (imports done) forks them, so that a kill costs no start-up. Each notes in a shared file what it did.
"""

from __future__ import annotations

import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.transport.actor import ZmqActor
from robot_rl.transport.keys import KeyRing
from robot_rl.transport.learner import ZmqLearner
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec
from tests.transport.malformed import Flood

_ACTOR = struct.Struct("<IIQII")  # running ordinal, rows appended to it, newest version, stale ones, torn ones
_LEARNER = struct.Struct("<QII")  # version, intruders seen among the actors, messages turned away
PERIOD_S = 0.01


@dataclass
class Damage:
    """What kills and garbage did, all in all."""

    actor_kills: int = 0
    learner_kills: int = 0
    episodes: int = 0
    steps: int = 0
    lost: int = 0  # rows in an actor's journals that the learner does not have, or has otherwise
    lost_in_ring: int = 0  # rows appended that a killed actor's journal does not have
    most_in_ring: int = 0  # of one kill
    duplicated: int = 0
    stale_weights_replayed: int = 0
    torn_weights: int = 0
    garbage_accepted: int = 0
    unauthenticated_accepted: int = 0
    server_alive: bool = True
    turned_away: int = 0  # messages and handshakes, as far as the killed learners noted it

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class KilledEnds:
    """Actors and a learner to kill. ``names`` are those of the actors, each with a store below ``root``."""

    def __init__(self, root: Path, seed: int, names: tuple[str, ...] = ("left", "right")) -> None:
        self.root, self.names = root, names
        self.damage = Damage()
        self._random = np.random.default_rng(seed)
        self._ordinals = dict.fromkeys(names, 0)
        self._make_files()
        command = [sys.executable, "-m", "tests.transport.killed_ends", str(root), str(_free_port())]
        self.address = f"tcp://127.0.0.1:{command[-1]}"
        self._zygote = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
        )
        self._answer()
        self.flood = Flood(self.address, root / "keys", seed)
        self._pids = {"learner": int(self._ask("start learner 0 0"))}
        for name in names:
            self._start_actor(name)

    def kill_actor(self) -> None:
        """SIGKILL one of the actors at a random time, count what it lost, start it again."""
        name = self.names[self._random.integers(len(self.names))]
        self._run_on()
        self._kill(name)
        running, appended, *_ = self._noted(name)
        with_rows = {i.metadata["ordinal"]: i.rows for i in EpisodeStore.open(self.root / name).infos(excluded=True)}
        lost = max(0, appended - with_rows.get(running, 0)) if not _discarded(running) else 0
        self.damage.lost_in_ring += lost
        self.damage.most_in_ring = max(self.damage.most_in_ring, lost)
        self.damage.actor_kills += 1
        self._ordinals[name] = running + 1
        self._start_actor(name)

    def kill_learner(self) -> None:
        """SIGKILL the learner at a random time and start it again after another."""
        self._run_on()
        self._kill("learner")
        self._run_on()
        self.damage.learner_kills += 1
        self._pids["learner"] = int(self._ask("start learner 0 0"))

    def finish(self, timeout_s: float = 120.0) -> Damage:
        """Let the actors end and deliver everything, end the learner, and compare the stores."""
        damage = self.damage
        codes = [self._end(name, timeout_s) for name in self.names]
        damage.server_alive = self._end("learner", timeout_s) == 0 and codes == [0] * len(codes)
        self.flood.close()
        self._zygote.communicate(timeout=30)
        _, intruders, damage.turned_away = _LEARNER.unpack((self.root / "learner.notes").read_bytes())
        damage.unauthenticated_accepted += intruders
        for name in self.names:
            _, _, _, stale, torn = self._noted(name)
            damage.stale_weights_replayed += stale
            damage.torn_weights += torn
        self._compare()
        return damage

    def close(self) -> None:
        """End what still runs."""
        if self._zygote.poll() is None:
            for pid in self._pids.values():
                os.kill(pid, signal.SIGKILL)
            self.flood.close()
            self._zygote.communicate(timeout=30)

    def _compare(self) -> None:
        damage, session = self.damage, EpisodeStore.open(self.root / "session")
        assert session.verify() == []
        told = session.ids()
        damage.duplicated += len(told) - len(set(told))
        missing = set(told)
        strays = {path.stem for path in (self.root / "session" / "journal").iterdir() if path.stat().st_size}
        for name in self.names:
            store = EpisodeStore.open(self.root / name)
            for id in store.ids():
                missing.discard(id)
                strays.discard(id)
                ours = store.read(id)
                damage.episodes += 1
                damage.steps += ours.steps
                if id not in told:
                    damage.lost += ours.rows
                    continue
                lost, extra = _differences(ours, session.read(id))
                damage.lost += lost
                damage.duplicated += extra
        for id in missing:
            intruder = session.read(id).metadata.get("ordinal", -1) == self.flood.ordinal
            damage.unauthenticated_accepted += intruder
            damage.garbage_accepted += not intruder
        damage.garbage_accepted += len(strays)
        damage.garbage_accepted += sum(info.note == "garbage" for info in session.infos(excluded=True))

    def _make_files(self) -> None:
        for name in self.names:
            EpisodeStore.create(self.root / name, spec=make_spec())
            (self.root / f"{name}.notes").write_bytes(bytes(_ACTOR.size))
        EpisodeStore.create(self.root / "session")
        (self.root / "learner.notes").write_bytes(bytes(_LEARNER.size))
        ring = KeyRing(self.root / "keys")
        for name in ("server", *self.names):
            ring.new(name)

    def _start_actor(self, name: str) -> None:
        self._pids[name] = int(self._ask(f"start {name} {self._ordinals[name]} {self._random.integers(2**31)}"))

    def _run_on(self) -> None:
        # The random time is the point of the experiment, not a wait for a condition.
        time.sleep(self._random.uniform(0.0, 0.4))

    def _kill(self, name: str) -> None:
        os.kill(self._pids[name], signal.SIGKILL)
        self._ask(f"reap {self._pids[name]}")

    def _end(self, name: str, timeout_s: float) -> int:
        """End a process in good order; its exit code."""
        os.kill(self._pids[name], signal.SIGTERM)
        return int(self._ask(f"reap {self._pids[name]}"))

    def _noted(self, name: str) -> tuple[int, ...]:
        return _ACTOR.unpack((self.root / f"{name}.notes").read_bytes())

    def _ask(self, line: str) -> str:
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(line + "\n")
        self._zygote.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._zygote.stdout is not None
        answer = self._zygote.stdout.readline()
        assert answer, "the parent of the ends died"
        return answer.strip()


def _differences(ours: Any, theirs: Any) -> tuple[int, int]:
    """Rows that are missing or differ, and rows too many."""
    rows = min(ours.rows, theirs.rows)
    wrong = np.zeros(rows, bool)
    for name, value in ours.arrays.items():
        if name.startswith("decision/"):
            continue
        same = theirs.arrays[name][:rows] == value[:rows]
        wrong |= ~same.reshape(rows, -1).all(axis=1)
    for row in range(rows):
        wrong[row] |= ours.cameras["wrist"].encoded(row) != theirs.cameras["wrist"].encoded(row)
    return max(0, ours.rows - theirs.rows) + int(wrong.sum()), max(0, theirs.rows - ours.rows)


def _discarded(ordinal: int) -> bool:
    return ordinal % 7 == 6


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# --- the processes ----------------------------------------------------------------------------------------------------


class _Told:
    """Whether this process was told to end (SIGTERM)."""

    def __init__(self) -> None:
        self.end = False
        signal.signal(signal.SIGTERM, self._set)

    def _set(self, *_: object) -> None:
        self.end = True


def _map(path: Path) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _act(root: Path, address: str, name: str, ordinal: int, seed: int) -> bool:
    """Record episodes until told to end; whether everything was delivered then."""
    random, spec, told = np.random.default_rng(seed), make_spec(), _Told()
    notes = _map(root / f"{name}.notes")
    store = EpisodeStore.open(root / name)
    with ZmqActor(root / name, address, name=name, keys=name, key_folder=root / "keys") as link:
        while not told.end:
            _, _, newest, stale, torn = _ACTOR.unpack_from(notes)
            steps = int(random.integers(2, 25))
            _ACTOR.pack_into(notes, 0, ordinal, 0, newest, stale, torn)
            with store.begin(spec, {"ordinal": ordinal}) as writer:
                for t in range(steps + 1):
                    writer.append(make_row(spec, ordinal, t, final=t == steps))
                    weights = link.latest()
                    if weights is not None:
                        stale += weights.version < newest
                        torn += not all((value == weights.version).all() for value in weights.tensors.values())
                        newest = max(newest, weights.version)
                    _ACTOR.pack_into(notes, 0, ordinal, t + 1, newest, stale, torn)
                    time.sleep(PERIOD_S)
                if _discarded(ordinal):
                    writer.discard("every seventh")
                else:
                    writer.end(EpisodeEnd("time_limit", None, steps))
            ordinal += 1
        return link.flush(60.0)


def _learn(root: Path, address: str, actors: set[str]) -> bool:
    """Take episodes in and publish weights until told to end."""
    told, notes = _Told(), _map(root / "learner.notes")
    store = EpisodeStore.open(root / "session")
    turned_away = _LEARNER.unpack_from(notes)[2]
    with ZmqLearner(store, address, keys="server", key_folder=root / "keys") as link:
        while not told.end:
            version, intruders, _ = _LEARNER.unpack_from(notes)
            intruders += sum(actor.name not in actors for actor in link.actors())
            _LEARNER.pack_into(notes, 0, version + 1, intruders, turned_away + link.dropped.total())
            link.publish(version + 1, {"w": np.full(200_000, version + 1, np.int64), "b": np.full(3, version + 1)})
            link.arrivals()
            time.sleep(0.05)
        return link.counts["failed"] == 0


def _serve(root: Path, port: str) -> None:
    """Fork an end for every line ``start``; wait for its death at ``reap`` and tell its exit code."""
    address = f"tcp://127.0.0.1:{port}"
    print("ready", flush=True)
    for line in sys.stdin:
        command, name, *numbers = line.split()
        if command == "reap":
            _, status = os.waitpid(int(name), 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        child = os.fork()
        if child == 0:
            well = False
            try:
                names = {path.stem for path in root.glob("*.notes")}
                well = (
                    _learn(root, address, names) if name == "learner" else _act(root, address, name, *map(int, numbers))
                )
            finally:
                os._exit(0 if well else 1)
        print(child, flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2])
