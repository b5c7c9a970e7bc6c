"""SIGKILL of actors and learner at random points, amid garbage: the short form of tests/benchmarks/faults.py."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from tests.transport.killed_ends import KilledEnds
from tests.transport.malformed import KINDS


def test_kills_and_garbage_lose_nothing_that_was_journaled(tmp_path: Path) -> None:
    with closing(KilledEnds(tmp_path, seed=0)) as ends:
        for _ in range(6):
            ends.flood.send(len(KINDS))
            ends.kill_actor()
            ends.flood.send(len(KINDS))
            ends.kill_learner()
        damage = ends.finish()
    assert (damage.actor_kills, damage.learner_kills) == (6, 6)
    assert damage.episodes > 6 and damage.steps > 100
    assert damage.lost == damage.duplicated == 0
    assert damage.most_in_ring <= 2
    assert damage.stale_weights_replayed == damage.torn_weights == 0
    assert damage.garbage_accepted == damage.unauthenticated_accepted == 0
    assert damage.server_alive
