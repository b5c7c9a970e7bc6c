"""Counter-based randomness for sampling: what is drawn at a step depends on (snapshot, seed, step) and nothing else.

So a resumed run sees the batches it would have seen, future batches are known and can be prefetched, and no generator
state has to be saved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isqrt
from typing import Any, Protocol

import numpy as np

from robot_rl.data.replay_index import episode_returns
from robot_rl.data.tables import EpisodeTable
from robot_rl.errors import ConfigError, StoreError
from robot_rl.types import Array

_MASK = (1 << 64) - 1
_ROUNDS = 6
_BLOCK = 2048
_GOLDEN = 0x9E3779B97F4A7C15  # odd, so that successive keys differ in many bits


def _mix(x: Array) -> Array:
    """SplitMix64 finaliser on uint64 [M] (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def counter_bits(seed: int, counter: Array, stream: int = 0) -> Array:
    """64 random bits for each counter [M]; streams of one seed are independent."""
    key = int(_mix(np.array([(seed * _GOLDEN + stream + 1) & _MASK], dtype=np.uint64))[0])
    return _mix(_mix(counter.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key)))


def counter_uniform(seed: int, counter: Array, stream: int = 0) -> Array:
    """Uniform float64 in [0, 1) for each counter [M]."""
    return (counter_bits(seed, counter, stream) >> np.uint64(11)) * 2.0**-53


def permute(position: Array, size: int, key: Array) -> Array:
    """Where a pseudo-random permutation of ``size`` items, one per ``key``, puts each ``position`` [M].

    A Feistel network over Z_a x Z_b with a*b just above ``size`` and cycle walking back into range (Black and Rogaway
    2002): a bijection for every key, without memory or set-up, so that data may grow between two calls.
    """
    high = isqrt(size - 1) + 1 if size > 1 else 1
    low = -(-size // high)
    result = _feistel(position.astype(np.uint64), high, low, key)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], high, low, key[outside])
    return result.astype(np.int64)


def _feistel(x: Array, high: int, low: int, key: Array) -> Array:
    a, b = np.uint64(high), np.uint64(low)
    left, right = x // b, x % b
    for i in range(_ROUNDS):
        turn = key + np.uint64((_GOLDEN * (i + 1)) & _MASK)
        if i % 2 == 0:
            left = (left + _mix(right + turn) % a) % a
        else:
            right = (right + _mix(left + turn) % b) % b
    return left * b + right


class Stream:
    """An endless stream of item numbers below ``size``.

    Without weights every item comes once per epoch of ``size`` draws, in an order of its own each epoch. With
    ``cumulative`` weights [size] items are drawn with replacement in proportion to their weight.
    """

    def __init__(self, size: int, seed: int, cumulative: Array | None = None) -> None:
        if cumulative is not None and size and cumulative[-1] <= 0:
            raise ConfigError("every episode that has something to draw has weight 0")
        self.size, self.seed, self.cumulative = size, seed, cumulative
        self._empty = np.zeros(0, dtype=np.int64)
        self._block: tuple[int, Array] = (-1, self._empty)

    def draw(self, first: int, count: int) -> Array:
        """Items number ``first`` ... ``first + count - 1`` of the stream, int64 [count]."""
        start, stop = first // _BLOCK, -(-(first + count) // _BLOCK)
        items = np.concatenate([self._empty, *(self._drawn(block) for block in range(start, stop))])
        return items[first - start * _BLOCK :][:count]

    def _drawn(self, number: int) -> Array:
        """Items of one block, the latest of which is kept: drawing few at a time would cost as much each time."""
        kept = self._block  # read once: a prefetch thread may share this stream
        if kept[0] != number:
            kept = self._block = number, self.at(np.arange(number * _BLOCK, (number + 1) * _BLOCK))
        return kept[1]

    def at(self, counter: Array) -> Array:
        """Items of the stream at the places ``counter`` [M]; nothing is kept."""
        if self.cumulative is None:
            epoch, position = np.divmod(counter, self.size)
            return permute(position, self.size, counter_bits(self.seed, epoch))
        wanted = counter_uniform(self.seed, counter, stream=1) * self.cumulative[-1]
        return np.minimum(np.searchsorted(self.cumulative, wanted, side="right"), self.size - 1)


def return_weights(returns: Array, temperature: float = 0.1) -> Array:
    """Weight exp((G - max G) / (temperature * range of G)) per episode (return weighting of Hong et al. 2023).

    Equal returns give equal weights.
    """
    spread = float(np.ptp(returns)) if len(returns) else 0.0
    if spread == 0.0:
        return np.ones(len(returns))
    return np.exp((returns - returns.max()) / (temperature * spread))


EpisodeWeights = None | str | Sequence[float] | Array | Callable[[Any], float]


def table_weights(table: EpisodeTable, weights: EpisodeWeights) -> Array | None:
    """Weight of each episode of ``table`` [E], 0 where it is no longer listed; None when all are equal.

    ``weights`` is None, 'return', an array over the listed episodes or a function of an episode's summary. Raises
    ConfigError for another name, a wrong length, a negative weight or weights that are all zero.
    """
    if weights is None or not table.ids:
        return None
    listed = table.listed
    summaries = [summary for summary in table.summaries if summary is not None]
    if isinstance(weights, str):
        if weights != "return":
            raise ConfigError(f"unknown episode weighting '{weights}'", remedy="Valid: return, an array, a function")
        values = return_weights(episode_returns(table)[listed])
    elif callable(weights):
        values = np.array([weights(summary) for summary in summaries], dtype=float)
    else:
        values = np.asarray(weights, dtype=float)
    if values.shape != (len(summaries),):
        raise ConfigError(
            f"{list(values.shape)} episode weights",
            limit=f"one for each of {len(summaries)} episodes",
            remedy="Give a function of the episode's summary when the data grows",
        )
    if summaries and not (np.isfinite(values).all() and values.min() >= 0 and values.max() > 0):
        raise ConfigError("episode weights must be finite, not negative and not all zero")
    result = np.zeros(len(listed))
    result[listed] = values
    return result


class BatchSource(Protocol):
    """Numbered batches: a WindowSampler, a ReplaySampler or a mix of them."""

    def allocate(self) -> dict[str, Array]:
        """Arrays that ``batch`` fills."""
        ...

    def batch(self, step: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Batch number ``step``, a pure function of (snapshot, seed, step), into ``out`` when given."""
        ...

    def prepare(self, step: int) -> None:
        """Announce that batch ``step`` will be asked for soon."""
        ...

    def refresh(self) -> int:
        """Take in what has been committed since; returns the number of new episodes."""
        ...


class Sampler(Protocol):
    """A stream of items that can be read at any place."""

    def __len__(self) -> int: ...

    def allocate(self, count: int | None = None) -> dict[str, Array]:
        """Arrays that ``take`` of ``count`` items fills."""
        ...

    def take(self, first: int, count: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Items number ``first`` ... ``first + count - 1`` of the stream, into ``out`` when given."""
        ...

    def prepare(self, step: int, count: int | None = None) -> None:
        """Announce that batch ``step`` of ``count`` items will be taken soon."""
        ...

    def refresh(self) -> int:
        """Take in what has been committed since; returns the number of new episodes."""
        ...


class MixedSampler:
    """Batches with an exact share of each source, e.g. {'demo': (sampler, 0.5), 'online': (sampler, 0.5)}.

    A batch holds the items of the first source first; ``source`` [B] tells them apart. Rows that do not divide evenly
    go to the largest remainders, in every batch the same. All sources must give arrays of the same shapes.
    """

    def __init__(self, sources: Mapping[str, tuple[Sampler, float]], *, batch: int) -> None:
        shares = np.array([share for _, share in sources.values()], dtype=float)
        if not sources or (shares < 0).any() or abs(shares.sum() - 1.0) > 1e-6:
            raise ConfigError(f"shares of {list(sources)} are {shares.tolist()}", limit="not negative, sum 1")
        self.names = tuple(sources)
        self.batch_size = batch
        self._samplers = [sampler for sampler, _ in sources.values()]
        self.counts = _apportion(shares, batch)

    def __len__(self) -> int:
        return sum(len(sampler) for sampler in self._samplers)

    def allocate(self) -> dict[str, Array]:
        """Arrays that ``batch`` fills."""
        for name, sampler, count in zip(self.names, self._samplers, self.counts, strict=True):
            if count and not len(sampler):
                raise StoreError(f"source '{name}' of the mix is empty", remedy="Wait until it holds data")
        used = [i for i, count in enumerate(self.counts) if count]
        parts = [self._samplers[i].allocate(1) for i in used]
        shapes = [{key: (value.shape[1:], value.dtype) for key, value in part.items()} for part in parts]
        for name, shape in zip([self.names[i] for i in used], shapes, strict=True):
            if shape != shapes[0]:
                differing = sorted(key for key in set(shape) | set(shapes[0]) if shape.get(key) != shapes[0].get(key))
                raise ConfigError(f"'{self.names[used[0]]}' and '{name}' give different arrays: {', '.join(differing)}")
        out = {key: np.zeros((self.batch_size, *value.shape[1:]), value.dtype) for key, value in parts[0].items()}
        out["source"] = np.repeat(np.arange(len(self.counts), dtype=np.int64), self.counts)
        return out

    def batch(self, step: int, out: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Batch number ``step``: {key: [B, ...]} and ``source`` [B], the place of each row's source in ``names``."""
        filled = dict(self.allocate() if out is None else out)
        start = 0
        for sampler, count in zip(self._samplers, self.counts, strict=True):
            if count:
                part = {key: value[start : start + count] for key, value in filled.items() if key != "source"}
                sampler.take(step * count, count, part)
            start += count
        return filled

    def prepare(self, step: int) -> None:
        """Announce that batch ``step`` will be asked for soon."""
        for sampler, count in zip(self._samplers, self.counts, strict=True):
            sampler.prepare(step, count)

    def refresh(self) -> int:
        """Take in what has been committed since; returns the number of new episodes."""
        return sum(sampler.refresh() for sampler in self._samplers)


def _apportion(shares: Array, batch: int) -> list[int]:
    exact = shares * batch
    counts = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: batch - counts.sum()]] += 1
    return counts.tolist()
