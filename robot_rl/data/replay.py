"""Transitions for reinforcement learning: per-step, chunked and noise MDPs as views of the same stored rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from robot_rl.data import aligned
from robot_rl.data.episode import Episode
from robot_rl.data.frames import ImageOptions, Images, Request
from robot_rl.data.replay_index import (
    DECISION_PREFIX,
    ROW_KEYS,
    Steps,
    TransitionIndex,
    check_view,
    shaped_rewards,
)
from robot_rl.data.sampling import EpisodeWeights, Stream, table_weights
from robot_rl.data.tables import EpisodeSource, EpisodeTable, as_source
from robot_rl.errors import ConfigError, StoreError
from robot_rl.types import Array, ReplayView

NEXT = "next/"  # before a key: the same at the state that follows


@dataclass(frozen=True)
class _Snapshot:
    """What a batch is drawn from; replaced as a whole."""

    steps: Steps
    reward: Array  # float64 [R] shaped
    index: TransitionIndex
    stream: Stream


class ReplaySampler:
    """Batches of transitions of ``view`` over an EpisodeStore, or over episodes in memory.

    A transition starts at row t and spans k control steps: horizon * n_step, fewer where the episode ends, where an
    action was not valid or where the cut says so; for a decision view (action ``decision/...``) up to the decision
    n_step later. It ends at a real observation always, so a truncation bootstraps from the final row.

    ``weights``, ``where`` and ``images`` are as for WindowSampler. A source without data is accepted, for online
    learning: ``len`` is 0 and a batch raises StoreError until ``refresh`` has found some.
    """

    def __init__(
        self,
        source: EpisodeSource | Iterable[Episode],
        view: ReplayView,
        *,
        batch: int,
        seed: int = 0,
        weights: EpisodeWeights = None,
        where: Callable[[Any], bool] | None = None,
        images: ImageOptions | None = None,
    ) -> None:
        check_view(view)
        if batch < 1:
            raise ConfigError(f"batch is {batch}", limit="at least 1")
        self.view, self.batch_size, self.seed = view, batch, seed
        self._source, self._where, self._weights = as_source(source), where, weights
        self._decides = view.action.startswith(DECISION_PREFIX)
        paths = [*view.observation, *view.extras]
        cameras = [path.removeprefix("images/") for path in paths if path.startswith("images/")]
        keys = [path for path in paths if not path.startswith("images/")]
        keys += [view.action, *ROW_KEYS, "policy/version", *(["decision/step"] if self._decides else [])]
        self._keys, self._cameras, self._options = keys, cameras, images or ImageOptions()
        self.reload()

    def reload(self) -> None:
        """Read everything anew: for a source whose episodes grow."""
        self.table = EpisodeTable(self._keys, self._cameras)
        root = getattr(self._source, "root", None)
        self.images = Images(self.table, self._options, root) if self._cameras else None
        self._snapshot: _Snapshot | None = None
        self.refresh()

    def __len__(self) -> int:
        """Transitions in the snapshot."""
        return 0 if self._snapshot is None else len(self._snapshot.index.start)

    @property
    def episodes(self) -> list[str]:
        """Episode ids; ``episode`` of a batch counts into them."""
        return self.table.ids

    @property
    def head(self) -> int:
        """Rows visible, the final ones included: to be logged with each update."""
        return self.table.rows

    def refresh(self) -> int:
        """Take in new episodes and new labels; returns how many episodes are new."""
        known = self.table.revision
        new = self.table.update(self._source, self._where)
        if known != self.table.revision:
            if self.images is not None:
                self.images.refresh()
            self._snapshot = self._take_snapshot()
        return new

    def _take_snapshot(self) -> _Snapshot:
        steps = Steps.of(self.table)
        index = TransitionIndex.of(steps, self.view, self._decision_rows() if self._decides else None)
        weights = table_weights(self.table, self._weights)
        cumulative = None if weights is None else np.cumsum(weights[steps.episode[index.start]])
        stream = Stream(len(index.start), self.seed, cumulative)
        return _Snapshot(steps, shaped_rewards(steps, self.view), index, stream)

    def _decision_rows(self) -> Array:
        """Row of the table at which each decision starts, [D]."""
        first, first_decision = self.table.first, self.table.first_decision
        episode = np.repeat(np.arange(len(self.table.ids)), np.diff(first_decision))
        return np.minimum(first[episode] + self.table["decision/step"], first[episode + 1] - 1)

    def allocate(self, count: int | None = None) -> dict[str, Array]:
        """Arrays that ``take`` of ``count`` transitions (default: a batch) fills."""
        if not self.table.ids:
            raise self._nothing()
        count, view = self.batch_size if count is None else count, self.view
        out: dict[str, Array] = {}
        for prefix in ("", NEXT):
            for key in view.observation:
                out[prefix + key] = self._zeros(key, (count, view.history))
            for key in view.extras:
                if not (prefix and key.startswith(DECISION_PREFIX)):
                    out[prefix + key] = self._zeros(key, (count,))
        steps = () if self._decides else (view.horizon,)
        out["action"] = self._zeros(view.action, (count, *steps))
        out["action_mask"] = np.ones((count, *(steps or (1,))), dtype=bool)
        out |= {name: np.zeros(count, dtype=np.float32) for name in ("reward", "bootstrap")}
        out |= {name: np.zeros(count, dtype=np.int64) for name in ("episode", "row", "version")}
        out["intervention"] = np.zeros(count, dtype=np.uint8)
        return out

    def _zeros(self, key: str, leading: tuple[int, ...]) -> Array:
        if key.startswith("images/") and self.images is not None:
            camera = key.removeprefix("images/")
            return aligned.zeros((*leading, *self.images.shape(camera)), self.images.dtype(camera))
        return np.zeros((*leading, *self.table[key].shape[1:]), self.table[key].dtype)

    def batch(self, step: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Batch number ``step``, a pure function of (snapshot, seed, step).

        Returns, with T_o = view.history and h = view.horizon,
        {observation key: [B, T_o, ...], next/<key>: the same at the state that follows},
        {extra: [B, ...], next/<extra>} at t and at the state that follows (decisions: at t only),
        ``action`` [B, h, A], the last valid one repeated where ``action_mask`` [B, h] is False; [B, ...] for decisions,
        ``reward`` [B] = sum of gamma^i r'(t + i) over i < k, ``bootstrap`` [B] = gamma^k * (1 - terminated), and
        ``episode``, ``row``, ``intervention``, ``version`` [B] of row t.
        """
        return self.take(step * self.batch_size, self.batch_size, out)

    def take(self, first: int, count: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Transitions number ``first`` ... ``first + count - 1`` of the endless stream, into ``out`` when given."""
        snapshot = self._snapshot
        if snapshot is None or not len(snapshot.index.start):
            raise self._nothing()
        return self._gather(snapshot, snapshot.stream.draw(first, count), out)

    def gather(self, chosen: Array, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Transitions with the numbers ``chosen`` [M], below ``len``, into ``out`` when given."""
        if self._snapshot is None:
            raise self._nothing()
        return self._gather(self._snapshot, chosen, out)

    def _gather(self, snapshot: _Snapshot, chosen: Array, out: Mapping[str, Array] | None) -> dict[str, Array]:
        """Of one snapshot from the draw to the last array: a prefetch thread goes on while another refreshes."""
        filled = self.allocate(len(chosen)) if out is None else dict(out)
        start, end = snapshot.index.start[chosen], snapshot.index.end[chosen]
        decision, episode = snapshot.index.decision[chosen], snapshot.steps.episode[start]
        begin = snapshot.steps.first[episode][:, None]
        history = {"": self._history(start, begin), NEXT: self._history(end, begin)}
        with self._reading(history, filled):
            for prefix, rows in history.items():
                self._take_state(prefix, rows, decision, filled)
            self._take_action(start, end, decision, filled)
            self._take_return(snapshot, start, end, filled)
            filled["episode"][:] = episode
            filled["row"][:] = start - begin[:, 0]
            filled["intervention"][:] = snapshot.steps.intervention[start]
            filled["version"][:] = self.table["policy/version"][start]
        return filled

    def prepare(self, step: int, count: int | None = None) -> None:
        """Have the kernel start reading the cached frames of batch ``step``, where they do not all fit the memory."""
        snapshot = self._snapshot
        if self.images is None or not self.images.cold or snapshot is None or not len(snapshot.index.start):
            return
        count = self.batch_size if count is None else count
        chosen = snapshot.stream.draw(step * count, count)
        start, end = snapshot.index.start[chosen], snapshot.index.end[chosen]
        begin = snapshot.steps.first[snapshot.steps.episode[start]][:, None]
        rows = np.concatenate([self._history(start, begin), self._history(end, begin)])
        for camera in self.table.cameras:
            self.images.will_need(camera, self.table[f"images/{camera}"][rows])

    def _history(self, row: Array, begin: Array) -> Array:
        """Rows [B, T_o] observed at ``row`` [B] of episodes that begin at ``begin`` [B, 1]."""
        return np.maximum(row[:, None] + np.arange(1 - self.view.history, 1), begin)

    def _reading(self, history: Mapping[str, Array], out: Mapping[str, Array]) -> AbstractContextManager[None]:
        """Frames of both states are in ``out`` at the end of the block."""
        if self.images is None:
            return nullcontext()
        wanted: list[Request] = []
        for key in (*self.view.observation, *self.view.extras):
            for prefix, rows in history.items() if key.startswith("images/") else ():
                frames = self.table[key][rows if key in self.view.observation else rows[:, -1]]
                wanted.append((key.removeprefix("images/"), frames, out[prefix + key]))
        return self.images.reading(wanted)

    def _take_state(self, prefix: str, history: Array, decision: Array, out: Mapping[str, Array]) -> None:
        for key in self.view.observation:
            if not key.startswith("images/"):
                self._take(key, history, out[prefix + key])
        for key in self.view.extras:
            if key.startswith(DECISION_PREFIX):
                if not prefix:
                    self._take(key, decision, out[key])
            elif not key.startswith("images/"):
                self._take(key, history[:, -1], out[prefix + key])

    def _take_action(self, start: Array, end: Array, decision: Array, out: Mapping[str, Array]) -> None:
        if self._decides:
            self._take(self.view.action, decision, out["action"])
            return
        rows = start[:, None] + np.arange(self.view.horizon)
        np.less(rows, end[:, None], out=out["action_mask"])
        self._take(self.view.action, np.minimum(rows, end[:, None] - 1), out["action"])

    def _take_return(self, snapshot: _Snapshot, start: Array, end: Array, out: Mapping[str, Array]) -> None:
        """Discounted sum over the real k and gamma^k, with gamma per control step."""
        discount, length = self.view.discount_per_control_step, end - start
        if length.max() == 1:
            out["reward"][:] = snapshot.reward[start]
            out["bootstrap"][:] = discount * ~snapshot.steps.terminated[start]
            return
        ahead = np.arange(length.max())
        rewards = np.take(snapshot.reward, start[:, None] + ahead, mode="clip") * discount**ahead
        out["reward"][:] = np.where(ahead < length[:, None], rewards, 0.0).sum(axis=1)
        out["bootstrap"][:] = discount**length * ~snapshot.steps.terminated[end - 1]

    def _take(self, key: str, rows: Array, out: Array) -> None:
        np.take(self.table[key], rows, axis=0, out=out, mode="clip")

    def _nothing(self) -> StoreError:
        if not self.table.ids:
            return StoreError("the replay data has no episode yet", remedy="Refresh once one has been committed")
        return StoreError(
            f"no transition in {len(self.table.ids)} episodes fits the view",
            limit=f"cut={self.view.cut.value}, action={self.view.action}",
            remedy="Check flags/intervention and action_valid of the episodes, or choose another cut",
        )
