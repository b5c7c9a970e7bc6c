"""Threads for work that releases the interpreter's lock, such as stepping simulators."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from robot_rl.errors import ConfigError, RobotRlError

_Result = TypeVar("_Result")
_Outcome = tuple[int, Any, BaseException | None]


class Workers:
    """``count`` threads (one per core unless given). Item i of every round is done by thread i modulo ``count``: what
    belongs to a thread, as the context of a renderer does, is used by the one that made it."""

    def __init__(self, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise ConfigError(f"{count} threads", limit="at least 1")
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(count or os.cpu_count() or 1)]
        for number, queue in enumerate(self._queues):
            threading.Thread(target=_serve, args=(queue,), name=f"worker-{number}", daemon=True).start()

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._queues)

    def run(self, task: Callable[[int], _Result], items: int) -> list[_Result]:
        """``[task(0), ..., task(items - 1)]``. All are done, then the first error among them is raised.

        Raises RobotRlError once they are closed."""
        if items and not self._queues:
            raise RobotRlError("the workers are closed", remedy="Make new ones")
        finished: SimpleQueue[list[_Outcome]] = SimpleQueue()  # one per round: an interrupted one leaves nothing
        busy = self._queues[:items]
        for number, queue in enumerate(busy):
            queue.put((task, range(number, items, self.count), finished))
        outcomes = sorted((outcome for _ in busy for outcome in finished.get()), key=lambda outcome: outcome[0])
        for _, _, error in outcomes:
            if error is not None:
                raise error
        return [result for _, result, _ in outcomes]

    def close(self) -> None:
        """Let the threads end once they are done; idempotent."""
        for queue in self._queues:
            queue.put(None)
        self._queues = []


def _serve(queue: SimpleQueue[Any]) -> None:
    while (work := queue.get()) is not None:
        task, items, finished = work
        finished.put([_attempt(task, item) for item in items])


def _attempt(task: Callable[[int], Any], item: int) -> _Outcome:
    try:
        return item, task(item), None
    except BaseException as error:  # ``run`` raises it in the thread that asked
        return item, None, error
