"""Windows against a brute-force statement of what diffusion policy draws, and by hand at the edges."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.episode import Episode
from robot_rl.data.tables import MemoryEpisodes
from robot_rl.data.windows import WindowSampler
from robot_rl.errors import ConfigError, EpisodeError, StoreError
from robot_rl.types import Array, Offsets, Pad, WindowSpec
from tests.shared_data import shared_data

FINAL = -999.0  # stands where the final row has no action, so that a window reading it is seen


def episode(id: str, steps: int, *, base: float = 0.0, invalid: Sequence[int] = (), reward: float = 0.0) -> Episode:
    """Observation and action of row t are base + t; the last row holds only the observation."""
    rows = steps + 1
    values = (base + np.arange(rows, dtype=np.float32))[:, None]
    action = values.copy()
    valid = np.ones(rows, dtype=bool)
    valid[[*invalid, steps]] = False
    action[~valid] = FINAL
    rewards = np.zeros(rows, dtype=np.float32)
    rewards[max(steps - 1, 0)] = reward
    arrays = {
        "obs/x": values,
        "action/commanded": action,
        "action_valid": valid,
        "time/t_ns": np.arange(rows, dtype=np.int64),
        "rl/reward": rewards,
        "rl/terminated": np.zeros(rows, dtype=bool),
        "rl/truncated": np.zeros(rows, dtype=bool),
    }
    return Episode(id, arrays, {"success": None})


def diffusion_policy_windows(steps: int, base: float, observed: int, horizon: int, before: int, after: int) -> list:
    """(obs, action) lists of one episode as SequenceSampler of the original code draws them."""
    found = []
    for start in range(-before, steps - horizon + after + 1):
        rows = [min(max(start + i, 0), steps - 1) for i in range(horizon)]
        found.append(([base + row for row in rows[:observed]], [base + row for row in rows]))
    return found


def whole_epoch(sampler: WindowSampler) -> dict[str, Array]:
    return sampler.take(0, len(sampler))


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    observed=st.integers(1, 3),
    extra=st.integers(0, 5),
    before=st.integers(0, 3),
    after=st.integers(0, 5),
)
def test_windows_are_those_of_diffusion_policy(
    steps: list[int], observed: int, extra: int, before: int, after: int
) -> None:
    horizon = observed + extra
    after = min(
        after, extra
    )  # so that no observation lies beyond the last acting row, where ours are real, not repeated
    expected = [
        window
        for i, length in enumerate(steps)
        for window in diffusion_policy_windows(length, 100.0 * i, observed, horizon, before, after)
    ]
    spec = WindowSpec(
        {"obs/x": Offsets(0, observed), "action/commanded": Offsets(0, horizon)}, pad_before=before, pad_after=after
    )
    episodes = [episode(f"e{i}", length, base=100.0 * i) for i, length in enumerate(steps)]
    sampler = WindowSampler(episodes, spec, batch=4, allow_empty=True)
    assert len(sampler) == len(expected)
    if expected:
        batch = whole_epoch(sampler)
        drawn = [
            (obs[:, 0].tolist(), action[:, 0].tolist())
            for obs, action in zip(batch["obs/x"], batch["action/commanded"], strict=True)
        ]
        assert sorted(drawn) == sorted(expected)
        assert batch["mask"].all()


def test_a_window_counted_from_the_present_row_is_the_same_window() -> None:
    episodes = [episode("a", 9), episode("b", 7, base=50.0)]
    from_start = WindowSpec({"obs/x": Offsets(0, 2), "action/commanded": Offsets(0, 5)}, pad_before=1, pad_after=3)
    from_now = WindowSpec({"obs/x": Offsets(-1, 1), "action/commanded": Offsets(-1, 4)}, pad_before=1, pad_after=3)
    first, second = (WindowSampler(episodes, spec, batch=4, seed=3).batch(1) for spec in (from_start, from_now))
    np.testing.assert_array_equal(first["obs/x"], second["obs/x"])
    np.testing.assert_array_equal(first["action/commanded"], second["action/commanded"])
    np.testing.assert_array_equal(first["row"] + 1, second["row"])


def test_the_final_observation_is_read_but_its_missing_action_never() -> None:
    spec = WindowSpec({"obs/x": Offsets(0, 2), "action/commanded": Offsets(0, 2)}, pad_after=1)
    batch = whole_epoch(WindowSampler([episode("a", 3)], spec, batch=1))
    order = np.argsort(batch["row"])
    np.testing.assert_array_equal(batch["obs/x"][order, :, 0], [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(batch["action/commanded"][order, :, 0], [[0, 1], [1, 2], [2, 2]])


def test_mask_padding_marks_what_was_repeated() -> None:
    spec = WindowSpec({"action/commanded": Offsets(0, 3)}, pad=Pad.MASK, pad_before=1, pad_after=2)
    batch = whole_epoch(WindowSampler([episode("a", 2)], spec, batch=1))
    order = np.argsort(batch["row"])
    assert batch["row"][order].tolist() == [-1, 0, 1]
    np.testing.assert_array_equal(batch["action/commanded"][order, :, 0], [[0, 0, 1], [0, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(
        batch["mask"][order], [[False, True, True], [True, True, False], [True, False, False]]
    )


def test_drop_draws_only_windows_that_lie_inside() -> None:
    spec = WindowSpec({"action/commanded": Offsets(0, 3)}, pad=Pad.DROP, pad_before=5, pad_after=5)
    batch = whole_epoch(WindowSampler([episode("a", 5), episode("short", 2)], spec, batch=1))
    assert sorted(batch["row"]) == [0, 1, 2]
    assert batch["episode"].tolist() == [0, 0, 0]


def test_windows_are_cut_where_an_action_is_not_valid() -> None:
    """Rows 0 1 2 | 3 invalid | 4 5: no window spans row 3, the observation before it is still real."""
    spec = WindowSpec({"obs/x": Offsets(-1, 1), "action/commanded": Offsets(0, 2)}, pad=Pad.DROP)
    batch = whole_epoch(WindowSampler([episode("a", 6, invalid=[3])], spec, batch=1))
    assert sorted(batch["row"]) == [1]
    spec = WindowSpec({"obs/x": Offsets(-1, 1), "action/commanded": Offsets(0, 2)}, pad_before=1, pad_after=1)
    batch = whole_epoch(WindowSampler([episode("a", 6, invalid=[3])], spec, batch=1))
    order = np.argsort(batch["row"])
    assert batch["row"][order].tolist() == [0, 1, 2, 4, 5]
    np.testing.assert_array_equal(batch["action/commanded"][order, :, 0], [[0, 1], [1, 2], [2, 2], [4, 5], [5, 5]])
    np.testing.assert_array_equal(batch["obs/x"][order, :, 0], [[0, 0], [0, 1], [1, 2], [3, 4], [4, 5]])


def test_strided_offsets_skip_rows() -> None:
    spec = WindowSpec({"obs/x": Offsets(-4, 1, 2)}, pad_before=4)
    batch = whole_epoch(WindowSampler([episode("a", 6)], spec, batch=1))
    order = np.argsort(batch["row"])
    np.testing.assert_array_equal(batch["obs/x"][order[[0, 3, 5]], :, 0], [[0, 0, 0], [0, 1, 3], [1, 3, 5]])


@pytest.fixture
def sampler() -> WindowSampler:
    spec = WindowSpec({"obs/x": Offsets(0, 2), "action/commanded": Offsets(0, 4)}, pad_before=1, pad_after=2)
    return WindowSampler([episode(f"e{i}", 5 + i, base=100.0 * i) for i in range(7)], spec, batch=8, seed=11)


def places(*batches: dict[str, Array]) -> list[tuple[int, int]]:
    return [(int(e), int(r)) for batch in batches for e, r in zip(batch["episode"], batch["row"], strict=True)]


def test_an_epoch_holds_every_window_once_and_the_next_in_another_order(sampler: WindowSampler) -> None:
    count = len(sampler)
    first, second = places(sampler.take(0, count)), places(sampler.take(count, count))
    assert len(set(first)) == count
    assert sorted(first) == sorted(second)
    assert first != second


def test_a_batch_depends_on_the_step_alone(sampler: WindowSampler) -> None:
    late = sampler.batch(40)
    for step in range(3):
        sampler.batch(step)
    again = sampler.batch(40)
    for key, value in late.items():
        np.testing.assert_array_equal(again[key], value)
    assert places(sampler.batch(41)) != places(late)


def test_given_arrays_are_filled_with_what_fresh_ones_would_hold(sampler: WindowSampler) -> None:
    out = sampler.allocate()
    for step in range(12):
        filled = sampler.batch(step, out)
        for key, value in sampler.batch(step).items():
            assert filled[key] is out[key]
            np.testing.assert_array_equal(filled[key], value)


def test_windows_can_be_asked_for_by_number(sampler: WindowSampler) -> None:
    """Numbers go by episode and row: the first starts one row before episode 0."""
    assert places(sampler.gather(np.array([0, 1, len(sampler) - 1]))) == [(0, -1), (0, 0), (6, 9)]


def test_another_seed_gives_another_order(sampler: WindowSampler) -> None:
    other = WindowSampler([episode(f"e{i}", 5 + i, base=100.0 * i) for i in range(7)], sampler.spec, batch=8, seed=12)
    assert places(other.batch(0)) != places(sampler.batch(0))


def test_refresh_adds_committed_episodes_and_drops_withdrawn_ones() -> None:
    source = MemoryEpisodes([episode("a", 4)])
    sampler = WindowSampler(source, WindowSpec({"obs/x": Offsets(0, 1), "action/commanded": Offsets(0, 1)}), batch=2)
    before = sampler.batch(5)
    source.episodes["b"] = episode("b", 3, base=100.0)
    np.testing.assert_array_equal(sampler.batch(5)["obs/x"], before["obs/x"])
    assert (len(sampler), sampler.refresh(), len(sampler)) == (4, 1, 7)
    assert sorted(whole_epoch(sampler)["obs/x"][:, 0, 0]) == [0, 1, 2, 3, 100, 101, 102]
    del source.episodes["a"]
    assert (sampler.refresh(), len(sampler)) == (0, 3)
    assert sorted(whole_epoch(sampler)["obs/x"][:, 0, 0]) == [100, 101, 102]


def test_where_selects_episodes() -> None:
    spec = WindowSpec({"obs/x": Offsets(0, 1)})
    sampler = WindowSampler([episode("a", 4), episode("b", 3)], spec, batch=2, where=lambda info: info.id == "b")
    assert sampler.episodes == ["b"]


def test_weights_draw_windows_in_proportion() -> None:
    """Episode a has 3 windows of weight 1, b has 6 of weight 2, c none: expected shares 0.2 and 0.8."""
    episodes = [episode("a", 3), episode("b", 6), episode("c", 5)]
    spec = WindowSpec({"obs/x": Offsets(0, 1), "action/commanded": Offsets(0, 1)})
    weights = {"a": 1.0, "b": 2.0, "c": 0.0}
    drawn = WindowSampler(episodes, spec, batch=1, weights=lambda info: weights[info.id]).take(0, 20_000)
    shares = np.bincount(drawn["episode"], minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.2, 0.8, 0.0], atol=0.01)


def test_return_weighting_prefers_the_better_episode() -> None:
    """Weights exp((G - max) / (0.1 * range)) of returns 0, 1: the worse episode comes e^-10 as often. Labels count."""
    source = MemoryEpisodes([episode("bad", 5), episode("good", 5, reward=1.0)])
    spec = WindowSpec({"obs/x": Offsets(0, 1), "action/commanded": Offsets(0, 1)})
    sampler = WindowSampler(source, spec, batch=1, weights="return")
    assert (sampler.take(0, 2000)["episode"] == 1).mean() > 0.99
    source.labels = {"bad": True, "good": False}
    sampler.refresh()
    assert (sampler.take(0, 2000)["episode"] == 0).mean() > 0.99


def test_wrong_weights_are_refused() -> None:
    spec = WindowSpec({"obs/x": Offsets(0, 1)})
    for weights in ([1.0], [-1.0, 1.0], [0.0, 0.0], "reward"):
        with pytest.raises(ConfigError):
            WindowSampler([episode("a", 4), episode("b", 3)], spec, batch=2, weights=weights)


def test_weights_that_leave_no_window_are_refused() -> None:
    """Episode b alone is long enough for a window, and has weight 0."""
    spec = WindowSpec({"action/commanded": Offsets(0, 4)})
    with pytest.raises(ConfigError, match="weight 0"):
        WindowSampler([episode("a", 2), episode("b", 5)], spec, batch=2, weights=[1.0, 0.0])


def test_a_weighted_source_may_lose_all_its_episodes() -> None:
    source = MemoryEpisodes([episode("a", 4)])
    sampler = WindowSampler(source, WindowSpec({"obs/x": Offsets(0, 1)}), batch=2, weights="return")
    source.episodes.clear()
    sampler.refresh()
    assert len(sampler) == 0


def test_an_empty_dataset_and_one_below_the_horizon_are_named() -> None:
    spec = WindowSpec({"obs/x": Offsets(0, 2), "action/commanded": Offsets(0, 16)}, pad_before=1, pad_after=7)
    with pytest.raises(StoreError, match="no episode"):
        WindowSampler([], spec, batch=2)
    with pytest.raises(StoreError, match=r"acts for 7 steps.*16 steps.*1 before and 7 after"):
        WindowSampler([episode("a", 7)], spec, batch=2)
    assert len(WindowSampler([episode("a", 8)], spec, batch=2)) == 1
    late = WindowSampler([], spec, batch=2, allow_empty=True)
    with pytest.raises(StoreError, match="no episode"):
        late.batch(0)


def test_an_episode_of_another_shape_or_without_a_key_is_named_and_spoils_nothing() -> None:
    source = MemoryEpisodes([episode("a", 4)])
    sampler = WindowSampler(source, WindowSpec({"obs/x": Offsets(0, 1), "action/commanded": Offsets(0, 1)}), batch=2)
    other = episode("wide", 4)
    wide = {**other.arrays, "action/commanded": np.zeros((5, 3), dtype=np.float32)}
    source.episodes["wide"] = Episode("wide", wide, {})
    with pytest.raises(EpisodeError, match=r"episode wide, array 'action/commanded'.*as in episode a"):
        sampler.refresh()
    source.episodes["wide"] = Episode("wide", {k: v for k, v in wide.items() if k != "obs/x"}, {})
    with pytest.raises(EpisodeError, match=r"episode wide, array 'obs/x': missing"):
        sampler.refresh()
    del source.episodes["wide"]
    source.episodes["b"] = episode("b", 2, base=10.0)
    sampler.refresh()
    assert sorted(whole_epoch(sampler)["obs/x"][:, 0, 0]) == [0, 1, 2, 3, 10, 11]


def test_the_published_push_t_demonstrations_give_the_published_windows() -> None:
    """206 episodes, 25,650 steps, horizon 16, 1 before and 7 after: every episode of n steps has n - 7 windows."""
    group = zarr.open_group(shared_data("pusht_human206") / "pusht_cchi_v7_replay.zarr", mode="r")
    ends, state, action = (np.asarray(group[key]) for key in ("meta/episode_ends", "data/state", "data/action"))
    episodes = []
    for i, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        own = episode(f"e{i:03d}", end - start)
        arrays = {"obs/state": with_final(state[start:end]), "action/commanded": with_final(action[start:end])}
        episodes.append(Episode(own.id, {**own.arrays, **arrays}, {}))
    spec = WindowSpec({"obs/state": Offsets(0, 2), "action/commanded": Offsets(0, 16)}, pad_before=1, pad_after=7)
    sampler = WindowSampler(episodes, spec, batch=256)
    assert len(sampler) == 25_650 - 7 * 206
    batch = whole_epoch(sampler)
    starts = np.concatenate([[0], ends[:-1]])[batch["episode"]]
    rows = starts[:, None] + batch["row"][:, None] + np.arange(16)
    rows = np.clip(rows, starts[:, None], ends[batch["episode"]][:, None] - 1)
    np.testing.assert_array_equal(batch["action/commanded"], action[rows])
    np.testing.assert_array_equal(batch["obs/state"], state[rows[:, :2]])


def with_final(rows: Array) -> Array:
    return np.concatenate([rows, rows[-1:]])
