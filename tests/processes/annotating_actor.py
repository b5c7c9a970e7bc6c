"""A process that records episodes without reward, and says of some afterwards what became of them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from robot_rl.data.store import EpisodeStore
from robot_rl.transport.actor import ZmqActor
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec


def main(root: Path, address: str) -> None:
    """Record three episodes of four steps and print their ids; then do what each line of input says, such as
    ``<id> success`` or ``<id> deleted``."""
    spec = make_spec(cameras={})
    store = EpisodeStore.create(root, spec=spec)
    with ZmqActor(root, address) as link:
        for _ in range(3):
            with store.begin(spec) as writer:
                for t in range(5):
                    writer.append(replace(make_row(spec, 0, t, final=t == 4), reward=0.0))
                writer.end(EpisodeEnd("time_limit", None, 4))
            print(writer.id, flush=True)
        for line in sys.stdin:
            episode, what = line.split()
            link.annotate(episode, {what: True})
        assert link.flush(100.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
