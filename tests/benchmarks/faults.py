"""Actors and learner killed at random points, amid malformed messages and wrong keys: what is lost, and what gets in.

Run: python -m tests.benchmarks.faults [kills=100] [malformed=1000] [seed=0]. Two actors record and ship over ZMQ with
CURVE keys to one learner, which publishes weights 20 times a second. A round kills one of the actors and the learner.

The last line is one JSON object:
  lost                      rows in the actors' journals that the learner's store lacks or holds otherwise, bit by bit
  lost_in_ring              rows appended that killed actors had not written yet; most_in_ring: of one kill (limit: 2)
  duplicated                rows or episodes that the learner's store holds twice
  stale_weights_replayed    times an actor was given an older version than before; torn_weights: parts of two versions
  garbage_accepted          episodes, journals and annotations in the learner's store that no actor recorded
  unauthenticated_accepted  the same of senders whose key is not on the list, and such senders among the actors
  server_alive              the learner took everything in at the end and never failed inside
  actor_kills, learner_kills, episodes, steps, turned_away (messages and handshakes that learners noted before they
  died), malformed (sent), seconds
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from tests.transport.killed_ends import KilledEnds


def main(arguments: list[str]) -> None:
    """Kill, compare and print the JSON line."""
    options = {"kills": 100, "malformed": 1000, "seed": 0}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in options:
            raise SystemExit(f"unknown argument '{key}', valid: {', '.join(options)}")
        options[key] = int(value)
    kills, malformed = options["kills"], options["malformed"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, closing(KilledEnds(Path(folder), options["seed"])) as ends:
        for number in range(kills):
            ends.flood.send(malformed * (2 * number + 1) // (2 * kills) - malformed * 2 * number // (2 * kills))
            ends.kill_actor()
            ends.flood.send(malformed * (2 * number + 2) // (2 * kills) - malformed * (2 * number + 1) // (2 * kills))
            ends.kill_learner()
            if number % 10 == 9:
                print(f"[{time.strftime('%H:%M:%S')}] {number + 1} of {kills} kills each", file=sys.stderr, flush=True)
        damage = ends.finish().to_json()
    sent = {kind: count for kind, count in ends.flood.sent.items() if kind != "not taken"}
    print(json.dumps(damage | {"malformed": sum(sent.values()), "seconds": round(time.monotonic() - began, 1)}))


if __name__ == "__main__":
    main(sys.argv[1:])
