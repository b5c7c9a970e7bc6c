"""Randomness by counter, exact mixtures, and batches made ahead of time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.prefetch import Prefetcher
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.sampling import MixedSampler, Stream, counter_bits, counter_uniform, permute, return_weights
from robot_rl.data.tables import MemoryEpisodes
from robot_rl.data.windows import WindowSampler
from robot_rl.errors import ConfigError, StoreError
from robot_rl.types import Offsets, ReplayView, WindowSpec
from tests.data.test_replay import episode

SPEC = WindowSpec({"obs/x": Offsets(0, 1), "action/commanded": Offsets(0, 2)}, pad_after=1)


def windows(steps: int, seed: int = 0, **options: Any) -> WindowSampler:
    return WindowSampler([episode(steps)], SPEC, batch=4, seed=seed, **options)


@settings(deadline=None, max_examples=80)
@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_a_permutation_is_a_bijection_for_every_key(size: int, key: int) -> None:
    placed = permute(np.arange(size), size, np.full(size, key, dtype=np.uint64))
    assert np.array_equal(np.sort(placed), np.arange(size))


def test_permutations_put_every_item_everywhere_equally_often() -> None:
    """6,000 keys over 13 items: each of the 169 cells has mean 461, standard deviation 21."""
    keys = counter_bits(1, np.arange(6000))
    counts = np.stack([np.bincount(permute(np.full(6000, i), 13, keys), minlength=13) for i in range(13)])
    assert np.abs(counts - 6000 / 13).max() < 4.5 * np.sqrt(6000 / 13 * 12 / 13)


def test_neighbours_of_a_permutation_are_not_kept_together() -> None:
    """Successive items of a random order of n lie n/3 apart on average."""
    placed = permute(np.arange(3000), 3000, np.full(3000, 5, dtype=np.uint64))
    assert abs(np.abs(np.diff(placed)).mean() / 1000 - 1) < 0.05


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    drawn = counter_uniform(3, np.arange(100_000))
    assert drawn.min() >= 0 and drawn.max() < 1
    counts, _ = np.histogram(drawn, bins=20, range=(0, 1))
    assert np.abs(counts - 5000).max() < 4.5 * np.sqrt(5000 * 0.95)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.015
    assert abs(np.corrcoef(drawn, counter_uniform(4, np.arange(100_000)))[0, 1]) < 0.015


@settings(deadline=None, max_examples=40)
@given(
    size=st.integers(1, 500),
    first=st.integers(0, 20_000),
    count=st.integers(1, 9000),
    weighted=st.booleans(),
)
def test_a_stream_read_in_parts_is_the_stream_read_at_once(size: int, first: int, count: int, weighted: bool) -> None:
    cumulative = np.cumsum(np.arange(1, size + 1, dtype=float)) if weighted else None
    whole = Stream(size, 7, cumulative).draw(first, count)
    parts = Stream(size, 7, cumulative)
    middle = count // 3
    late = parts.draw(first + middle, count - middle)
    np.testing.assert_array_equal(whole, np.concatenate([parts.draw(first, middle), late]))
    assert whole.min() >= 0 and whole.max() < size


def test_every_epoch_of_a_stream_is_complete_across_block_borders() -> None:
    drawn = Stream(1000, 2).draw(0, 9000).reshape(9, 1000)
    assert (np.sort(drawn, axis=1) == np.arange(1000)).all()
    assert len({tuple(epoch) for epoch in drawn.tolist()}) == 9


def test_return_weights_by_hand() -> None:
    np.testing.assert_allclose(return_weights(np.array([0.0, 5.0, 10.0]), 0.5), np.exp([-2.0, -1.0, 0.0]))
    np.testing.assert_array_equal(return_weights(np.array([3.0, 3.0])), [1.0, 1.0])


@pytest.mark.parametrize(
    ("batch", "shares", "expected"),
    [(8, (0.5, 0.5), [4, 4]), (10, (0.25, 0.75), [3, 7]), (256, (0.1, 0.9), [26, 230]), (3, (1.0, 0.0), [3, 0])],
)
def test_every_batch_of_a_mix_has_the_exact_shares(
    batch: int, shares: tuple[float, float], expected: list[int]
) -> None:
    mix = MixedSampler({"demo": (windows(30), shares[0]), "online": (windows(9, seed=1), shares[1])}, batch=batch)
    for step in (0, 1, 50):
        assert np.bincount(mix.batch(step)["source"], minlength=2).tolist() == expected


def test_a_mix_draws_from_each_source_what_that_would_give_alone() -> None:
    demo, online = windows(30), windows(9, seed=1)
    mix = MixedSampler({"demo": (demo, 0.25), "online": (online, 0.75)}, batch=8)
    out = mix.allocate()
    for step in (5, 6):
        batch = mix.batch(step, out)
        for key in ("obs/x", "action/commanded", "mask", "row"):
            assert batch[key] is out[key]
            np.testing.assert_array_equal(batch[key][:2], demo.take(2 * step, 2)[key])
            np.testing.assert_array_equal(batch[key][2:], online.take(6 * step, 6)[key])


def test_transitions_mix_and_grow() -> None:
    view = ReplayView(observation=("obs/x",), horizon=2)
    source = MemoryEpisodes([])
    demo, online = ReplaySampler([episode(5)], view, batch=4), ReplaySampler(source, view, batch=4)
    mix = MixedSampler({"demo": (demo, 0.5), "online": (online, 0.5)}, batch=6)
    with pytest.raises(StoreError, match="'online' of the mix is empty"):
        mix.batch(0)
    source.episodes["b"] = episode(3, id="b")
    assert (mix.refresh(), len(mix)) == (1, 8)
    assert mix.batch(0)["reward"].shape == (6,)


def test_mixes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="sum 1"):
        MixedSampler({"demo": (windows(5), 0.5), "online": (windows(5), 0.6)}, batch=4)
    other = WindowSampler([episode(5)], WindowSpec({"obs/x": Offsets(0, 1)}), batch=4)
    with pytest.raises(ConfigError, match="action/commanded"):
        MixedSampler({"demo": (windows(5), 0.5), "online": (other, 0.5)}, batch=4).batch(0)


def test_prefetched_batches_are_those_of_the_sampler() -> None:
    sampler = windows(50)
    with Prefetcher(windows(50), first_step=3, depth=2) as batches:
        for step in range(3, 20):
            batch = next(batches)
            for key, value in sampler.batch(step).items():
                np.testing.assert_array_equal(batch[key], value)


def test_batches_are_announced_before_they_are_made() -> None:
    """... the first ones too, each once."""
    sampler, log = windows(50), []
    make = sampler.batch
    sampler.prepare = lambda step, count=None: log.append(("announced", step))
    sampler.batch = lambda step, out=None: log.append(("made", step)) or make(step, out)
    with Prefetcher(sampler, first_step=7, depth=3) as batches:
        for _ in range(5):
            next(batches)
    for step in range(7, 12):
        assert log.count(("announced", step)) == 1
        assert log.index(("announced", step)) < log.index(("made", step))


def test_a_held_batch_is_not_overwritten() -> None:
    with Prefetcher(windows(50), depth=2) as batches:
        held = next(batches)
        kept = {key: value.copy() for key, value in held.items()}
        following = next(batches)
        assert following is not held
        np.testing.assert_array_equal(windows(50).batch(0)["obs/x"], kept["obs/x"])


def test_a_prefetched_sampler_may_be_refreshed_meanwhile() -> None:
    """Every batch is whole: observation and first action of a window are of one row; new data arrives in the end."""
    source = MemoryEpisodes([episode(5, id="e0")])
    sampler = WindowSampler(source, SPEC, batch=64)
    with Prefetcher(sampler, depth=2) as batches:
        for i in range(1, 30):
            source.episodes[f"e{i}"] = episode(5 + i, id=f"e{i}")
            sampler.refresh()
            batch = next(batches)
            np.testing.assert_array_equal(batch["obs/x"][:, 0] + 10, batch["action/commanded"][:, 0])
            np.testing.assert_array_equal(batch["obs/x"][:, 0, 0], batch["row"])
        newest = [int(next(batches)["episode"].max()) for _ in range(20)]
    assert max(newest) > 20


def test_an_error_of_the_prefetch_thread_is_raised_where_the_batch_is_asked_for() -> None:
    """A sampler whose data were withdrawn after its arrays were made."""
    source = MemoryEpisodes([episode(9)])
    sampler = WindowSampler(source, SPEC, batch=2)
    source.episodes.clear()
    sampler.refresh()
    with Prefetcher(sampler) as batches:
        for _ in range(2):
            with pytest.raises(StoreError, match="no window fits"):
                next(batches)


def test_closing_a_prefetcher_ends_its_thread() -> None:
    before = threading.active_count()
    batches = Prefetcher(windows(50))
    next(batches)
    batches.close()
    batches.close()
    assert threading.active_count() == before
    assert len(list(batches)) < 4, "what was ready still comes, then the iteration ends"
