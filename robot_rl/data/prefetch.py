"""Batches made ahead of time by one thread: gathering and decoding run while the learner computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Self

from robot_rl.data.sampling import BatchSource
from robot_rl.types import Array


class Prefetcher:
    """Iterates ``sampler.batch(first_step)``, ``first_step + 1``, ... over a ring of ``depth`` sets of arrays.

    The arrays of a batch are valid until the next one is asked for. After ``sampler.refresh()`` up to ``depth - 1``
    batches of the earlier snapshot still come. A context manager; an error of the thread is raised where the batch is
    asked for, and after ``close`` the iteration ends.
    """

    def __init__(self, sampler: BatchSource, *, first_step: int = 0, depth: int = 4) -> None:
        self._sampler, self._step, self._depth = sampler, first_step, max(depth, 2)
        self._free: queue.SimpleQueue[dict[str, Array] | None] = queue.SimpleQueue()
        self._ready: queue.SimpleQueue[dict[str, Array] | BaseException] = queue.SimpleQueue()
        self._held: dict[str, Array] | None = None
        for _ in range(self._depth):
            self._free.put(sampler.allocate())
        self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return self

    def __next__(self) -> dict[str, Array]:
        """The next batch; waits for it. The one before it may be overwritten from now on."""
        if self._held is not None:
            self._free.put(self._held)
            self._held = None
        filled = self._ready.get()
        if isinstance(filled, BaseException):
            self._ready.put(filled)
            raise filled
        self._held = filled
        return filled

    def _fill(self) -> None:
        try:
            for ahead in range(self._depth):
                self._sampler.prepare(self._step + ahead)
            while (out := self._free.get()) is not None:
                self._sampler.prepare(self._step + self._depth)
                self._ready.put(self._sampler.batch(self._step, out))
                self._step += 1
            self._ready.put(StopIteration())
        except BaseException as error:
            self._ready.put(error)

    def close(self) -> None:
        """End the thread; idempotent."""
        self._free.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
