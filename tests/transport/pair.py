"""An outbox and an inbox without sockets: a clock, a wire that loses and repeats, and episodes to ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot_rl.data.store import EpisodeStore
from robot_rl.transport.inbox import Inbox
from robot_rl.transport.messages import Message, decode, encode
from robot_rl.transport.outbox import Outbox
from robot_rl.types import EpisodeEnd
from tests.data.recorded_rows import make_row, make_spec

SPEC = make_spec()
Drop = Callable[[], bool]


class Pair:
    """An outbox and an inbox, a clock, and a wire between them."""

    def __init__(self, root: Path, *, window_bytes: int = 2**20) -> None:
        self.root, self.window_bytes, self.now_s = root, window_bytes, 0.0
        self.recorded = EpisodeStore.create(root / "actor", spec=SPEC)
        EpisodeStore.create(root / "session")
        self.outbox = Outbox(root / "actor", window_bytes=window_bytes)
        self.restart_learner()
        self.messages: list[Message] = []

    def restart_actor(self) -> None:
        self.outbox.close()
        self.recorded = EpisodeStore.open(self.root / "actor")
        self.outbox = Outbox(self.root / "actor", window_bytes=self.window_bytes)

    def restart_learner(self) -> None:
        if hasattr(self, "inbox"):
            self.inbox.close()
        self.session = EpisodeStore.open(self.root / "session")
        self.inbox = Inbox(self.session)
        self.inbox.resume()
        self.outbox.ask_again()

    def step(
        self, lost: Drop = lambda: False, answer_lost: Drop = lambda: False, repeated: Drop = lambda: False
    ) -> int:
        """Everything due is sent once, with some of it lost or repeated; returns how many messages were sent."""
        self.now_s += 0.3
        self.outbox.look()
        sent = []
        while (message := self.outbox.next_message(self.now_s)) is not None:
            sent.append(decode([bytes(frame) for frame in encode(message)]))
        self.messages += sent
        arrived = [message for message in sent if not lost()]
        arrived += [message for message in arrived if repeated()]
        for _, answer in self.inbox.take([(b"peer", message) for message in arrived]):
            if not answer_lost():
                self.outbox.heard(decode([bytes(frame) for frame in encode(answer)]), self.now_s)
        return len(sent)

    def run(self, steps: int = 60) -> None:
        """Until the learner has everything."""
        for _ in range(steps):
            self.step()
            if self.outbox.empty:
                return
        raise AssertionError(f"not delivered: {[path.name for path in self.outbox.folder.iterdir()]}")

    def ids(self) -> list[str]:
        return EpisodeStore.open(self.root / "session", recover=False).ids()

    def close(self) -> None:
        self.outbox.close()
        self.inbox.close()


def record(store: EpisodeStore, ordinal: int, steps: int, *, end: str = "time_limit") -> str:
    """An episode that ended, was killed before its last row, or was discarded."""
    with store.begin(SPEC, {"ordinal": ordinal}) as writer:
        for t in range(steps + 1 if end != "killed" else steps):
            writer.append(make_row(SPEC, ordinal, t, final=t == steps))
        if end == "discarded":
            writer.discard("test")
        elif end != "killed":
            writer.end(EpisodeEnd(end, None, steps))
    return writer.id


def same(pair: Pair, id: str) -> bool:
    ours, theirs = pair.recorded.read(id), EpisodeStore.open(pair.root / "session", recover=False).read(id)
    arrays = all(np.array_equal(value, theirs.arrays[name]) for name, value in ours.arrays.items())
    return arrays and bytes(ours.cameras["wrist"].data) == bytes(theirs.cameras["wrist"].data)
