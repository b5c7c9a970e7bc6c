"""What goes wrong on the way from outbox to inbox: damage, strangers, full and broken disks. Nothing is lost unsaid."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.journal import scan_records
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import StoreError
from robot_rl.transport import outbox as outbox_module
from robot_rl.transport import shipment as shipment_module
from robot_rl.transport.notes import RESEND_S
from robot_rl.transport.outbox import Outbox
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec
from tests.transport.pair import SPEC, Pair, record, same


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def test_damage_on_the_actors_disk_ends_the_episode_there(pair: Pair) -> None:
    id = record(pair.recorded, 0, steps=20)
    path = pair.root / "actor" / "outbox" / f"{id}.journal"
    ends = [end for _, end in scan_records(memoryview(path.read_bytes()))]
    with path.open("r+b") as file:
        file.seek(ends[10] + 40)  # in the record after the begin and ten rows
        file.write(b"\xff\xff")
    pair.run()
    read = EpisodeStore.open(pair.root / "session").read(id)
    assert (read.rows, read.metadata["ended"], read.metadata["recovered"]) == (10, False, True)


def test_data_of_another_robot_is_refused_and_kept(pair: Pair) -> None:
    first = record(pair.recorded, 0, steps=3)
    pair.run()
    other = EpisodeStore.create(pair.root / "other", spec=make_spec(proprio=9))
    stranger = Outbox(other.root)
    ours, pair.outbox = pair.outbox, stranger
    with other.begin(make_spec(proprio=9)) as writer:
        writer.append(make_row(make_spec(proprio=9), 0, 0))
        writer.append(make_row(make_spec(proprio=9), 0, 1, final=True))
        writer.end(EpisodeEnd("time_limit", None, 1))
    pair.run()
    assert "holds other data" in stranger.problem
    assert [path.suffix for path in stranger.folder.glob("*.refused")] == [".refused"]
    assert pair.ids() == [first]
    stranger.close()
    pair.outbox = ours


def test_a_store_that_vanishes_is_told_and_nothing_is_acknowledged(pair: Pair) -> None:
    (pair.root / "session").rename(pair.root / "elsewhere")
    record(pair.recorded, 0, steps=3)
    for _ in range(5):
        pair.step()
    assert "No such file" in pair.inbox.problem
    assert not pair.outbox.empty
    (pair.root / "elsewhere").rename(pair.root / "session")
    pair.now_s += RESEND_S
    pair.run()
    assert len(pair.ids()) == 1 and pair.inbox.problem == ""


def test_an_episode_that_could_not_be_shipped_does_not_begin(pair: Pair) -> None:
    pair.outbox.close()
    (pair.outbox.folder / "lock").unlink()
    pair.outbox.folder.rmdir()
    pair.outbox.folder.symlink_to("/proc")  # a folder in which nobody can make a link
    with pytest.raises(StoreError, match="hard links"):
        pair.recorded.begin(SPEC)
    assert list((pair.root / "actor" / "journal").iterdir()) == []
    pair.outbox.folder.unlink()
    pair.outbox = Outbox(pair.root / "actor")


def test_one_process_ships_a_store(pair: Pair) -> None:
    with pytest.raises(StoreError, match="shipped by another process"):
        Outbox(pair.root / "actor")


def test_a_step_too_large_for_a_message_cuts_the_episode(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipment_module, "PART_BYTES", 300)
    for module in (shipment_module, outbox_module):
        monkeypatch.setattr(module, "MAX_PART_BYTES", 300)
    record(pair.recorded, 0, steps=3)
    pair.run()
    assert pair.ids() == []  # not even the first record fits


def test_what_cannot_be_synced_is_not_acknowledged(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk fails on demand, so the call does."""
    id = record(pair.recorded, 0, steps=4)
    pair.step()
    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", _refuse)
        for _ in range(3):
            pair.step()
        assert "cannot be synced" in pair.inbox.problem
        assert pair.outbox.lag_bytes == (pair.root / "actor" / "outbox" / f"{id}.journal").stat().st_size
    pair.run()
    assert same(pair, id) and pair.inbox.problem == ""


def _refuse(descriptor: int) -> None:
    raise OSError(errno.EIO, "Input/output error")


FULL = """
import resource, signal, sys
from robot_rl.data.store import EpisodeStore
from robot_rl.transport.learner import ZmqLearner
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
with ZmqLearner(EpisodeStore.open(sys.argv[1]), "tcp://127.0.0.1:0") as link:
    print(link.address, flush=True)
    sys.stdin.readline()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    sys.stdin.readline()
"""


def test_a_full_disk_acknowledges_nothing_and_says_so(tmp_path: Path) -> None:
    from robot_rl.transport.actor import ZmqActor

    EpisodeStore.create(tmp_path / "session", spec=SPEC)
    recorded = EpisodeStore.create(tmp_path / "actor", spec=SPEC)
    command = [sys.executable, "-c", FULL, str(tmp_path / "session")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as learner:
        assert learner.stdin is not None and learner.stdout is not None
        with ZmqActor(recorded.root, learner.stdout.readline().strip()) as link:
            id = record(recorded, 0, steps=40)
            while "disk" not in link.status().problem and "large" not in link.status().problem:
                assert not link.flush(0.01)
            assert link.status().lag_bytes > 0
            print("more", file=learner.stdin, flush=True)
            assert link.flush(300.0)
            assert link.status().lag_bytes == 0
        learner.communicate("end\n", timeout=300)
    ours, theirs = recorded.read(id), EpisodeStore.open(tmp_path / "session").read(id)
    assert all(np.array_equal(value, theirs.arrays[name]) for name, value in ours.arrays.items())
