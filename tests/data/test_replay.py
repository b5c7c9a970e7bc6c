"""Transitions against targets worked out by hand.

The episode used most has observations 0, 1, 2, ..., actions 10, 11, 12, ... and a discount of 0.5, so that sums are
exact: a window's content tells where it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.episode import Episode
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.store import EpisodeStore
from robot_rl.data.tables import MemoryEpisodes
from robot_rl.errors import ConfigError, EpisodeError, StoreError
from robot_rl.types import Array, Cut, ReplayView

FINAL = -999.0
STEP = ReplayView(observation=("obs/x",), discount_per_control_step=0.5, cut=Cut.INTERVENTION)
CHUNK = replace(STEP, horizon=4)


def episode(
    steps: int,
    *,
    id: str = "a",
    reward: Sequence[float] = (),
    success: Sequence[int] = (),
    terminated: bool = False,
    human: Sequence[int] = (),
    invalid: Sequence[int] = (),
    decisions: Sequence[int] = (),
    ended: Sequence[int] = (),
    judged: bool | None = None,
) -> Episode:
    """``reward`` by step; ``success``, ``human``, ``invalid`` and ``ended`` (as ``terminated`` says, beside the last)
    name steps; ``decisions`` the steps plans start at."""
    rows = steps + 1
    arrays: dict[str, Array] = {
        "obs/x": np.arange(rows, dtype=np.float32)[:, None],
        "action/commanded": 10 + np.arange(rows, dtype=np.float32)[:, None],
        "policy/base_action": 100 + np.arange(rows, dtype=np.float32)[:, None],
        "action_valid": np.arange(rows) < steps,
        "time/t_ns": np.arange(rows, dtype=np.int64),
        "rl/reward": np.zeros(rows, dtype=np.float32),
        "rl/terminated": np.zeros(rows, dtype=bool),
        "rl/truncated": np.zeros(rows, dtype=bool),
        "rl/success": np.zeros(rows, dtype=bool),
        "flags/intervention": np.zeros(rows, dtype=np.uint8),
        "policy/version": np.full(rows, 7, dtype=np.int32),
        "decision/step": np.array(decisions, dtype=np.int32),
        "decision/noise": 0.5 + np.array(decisions, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32),
    }
    arrays["action/commanded"][steps] = FINAL
    arrays["rl/reward"][: len(reward)] = reward
    arrays["rl/success"][list(success)] = True
    arrays["flags/intervention"][list(human)] = 1
    arrays["action_valid"][list(invalid)] = False
    if steps:
        arrays["rl/terminated" if terminated else "rl/truncated"][[*ended, steps - 1]] = True
    return Episode(id, arrays, {"success": judged})


def transitions(source: Any, view: ReplayView) -> list[dict[str, Any]]:
    """All transitions of ``view``, ordered by episode and row, each as a dict of arrays without the batch axis."""
    sampler = ReplaySampler(source, view, batch=4)
    batch = sampler.take(0, len(sampler))
    order = np.lexsort((batch["row"], batch["episode"]))
    return [{key: value[i] for key, value in batch.items()} for i in order]


def summary(found: Mapping[str, Any]) -> tuple[float, list[float], list[bool], float, float, float]:
    """(observation, actions, mask, reward, bootstrap, next observation)."""
    return (
        float(found["obs/x"][-1, 0]),
        found["action"][:, 0].tolist(),
        found["action_mask"].tolist(),
        float(found["reward"]),
        float(found["bootstrap"]),
        float(found["next/obs/x"][-1, 0]),
    )


def test_per_step_transitions_end_in_a_termination() -> None:
    found = transitions([episode(3, reward=(0, 0, 1), success=[2], terminated=True)], STEP)
    assert [summary(each) for each in found] == [
        (0, [10], [True], 0, 0.5, 1),
        (1, [11], [True], 0, 0.5, 2),
        (2, [12], [True], 1, 0.0, 3),
    ]
    assert [(each["episode"], each["row"], each["version"], each["intervention"]) for each in found] == [
        (0, 0, 7, 0), (0, 1, 7, 0), (0, 2, 7, 0),
    ]  # fmt: skip


def test_a_time_out_bootstraps_from_the_true_final_observation() -> None:
    assert summary(transitions([episode(2)], STEP)[-1]) == (1, [11], [True], 0, 0.5, 2)


def test_chunks_sum_discounted_rewards_over_the_steps_there_are() -> None:
    """h = 4, n = 1, six steps, rewards 1 2 4 8 16 32, a time-out: the last chunks are shorter, with their real k."""
    found = transitions([episode(6, reward=(1, 2, 4, 8, 16, 32))], CHUNK)
    full = [True] * 4
    assert [summary(each) for each in found] == [
        (0, [10, 11, 12, 13], full, 1 + 1 + 1 + 1, 0.5**4, 4),
        (1, [11, 12, 13, 14], full, 2 + 2 + 2 + 2, 0.5**4, 5),
        (2, [12, 13, 14, 15], full, 4 + 4 + 4 + 4, 0.5**4, 6),
        (3, [13, 14, 15, 15], [True, True, True, False], 8 + 8 + 8, 0.5**3, 6),
        (4, [14, 15, 15, 15], [True, True, False, False], 16 + 16, 0.5**2, 6),
        (5, [15, 15, 15, 15], [True, False, False, False], 32, 0.5, 6),
    ]


def test_a_chunk_that_reaches_the_success_does_not_bootstrap() -> None:
    found = transitions([episode(5, reward=(0, 0, 0, 0, 1), success=[4], terminated=True)], CHUNK)
    assert [(each["reward"], each["bootstrap"]) for each in found] == [
        (0, 0.0625), (0.125, 0), (0.25, 0), (0.5, 0), (1, 0),
    ]  # fmt: skip


def test_n_step_returns_bootstrap_after_n_steps() -> None:
    found = transitions([episode(4, reward=(1, 2, 4, 8))], replace(STEP, n_step=3))
    assert [summary(each) for each in found] == [
        (0, [10], [True], 1 + 1 + 1, 0.125, 3),
        (1, [11], [True], 2 + 2 + 2, 0.125, 4),
        (2, [12], [True], 4 + 4, 0.25, 4),
        (3, [13], [True], 8, 0.5, 4),
    ]


def test_n_steps_of_chunks_span_their_product() -> None:
    found = transitions([episode(5, reward=(1, 2, 4, 8, 16))], replace(STEP, horizon=2, n_step=2))
    assert summary(found[0]) == (0, [10, 11], [True, True], 4, 0.0625, 4)
    assert summary(found[3]) == (3, [13, 14], [True, True], 8 + 8, 0.25, 5)


def test_stride_spaces_the_starts_of_windows() -> None:
    found = transitions([episode(7)], replace(CHUNK, stride=4))
    assert [int(each["row"]) for each in found] == [0, 4]


def test_history_repeats_the_first_row() -> None:
    found = transitions([episode(3)], replace(STEP, history=3))
    assert found[0]["obs/x"][:, 0].tolist() == [0, 0, 0]
    assert found[0]["next/obs/x"][:, 0].tolist() == [0, 0, 1]
    assert found[2]["obs/x"][:, 0].tolist() == [0, 1, 2]
    assert found[2]["next/obs/x"][:, 0].tolist() == [1, 2, 3]


def test_extras_come_at_both_states_the_final_row_included() -> None:
    found = transitions([episode(3)], replace(CHUNK, extras=("policy/base_action",)))
    assert [(float(f["policy/base_action"][0]), float(f["next/policy/base_action"][0])) for f in found] == [
        (100, 103), (101, 103), (102, 103),
    ]  # fmt: skip


def test_windows_are_cut_at_every_change_of_the_intervention_flag_and_bootstrap_there() -> None:
    """Steps 0 1 policy, 2 3 human, 4 5 policy."""
    found = transitions([episode(6, reward=(1, 2, 4, 8, 16, 32), human=[2, 3])], CHUNK)
    assert [(each["reward"], each["bootstrap"], each["next/obs/x"][0, 0], each["intervention"]) for each in found] == [
        (2, 0.25, 2, 0), (2, 0.5, 2, 0), (8, 0.25, 4, 1), (8, 0.5, 4, 1), (32, 0.25, 6, 0), (32, 0.5, 6, 0),
    ]  # fmt: skip
    assert found[0]["action_mask"].tolist() == [True, True, False, False]
    assert found[0]["action"][:, 0].tolist() == [10, 11, 11, 11]


def test_without_a_cut_windows_run_across_interventions() -> None:
    found = transitions([episode(6, human=[2, 3])], replace(CHUNK, cut=Cut.NONE))
    assert [int(each["action_mask"].sum()) for each in found] == [4, 4, 4, 3, 2, 1]


def test_the_human_view_holds_chunks_of_one_human_segment_only() -> None:
    """Human at 1 2 3 and, to the end, at 6 7 8: of the first segment one chunk of 3 fits; the end may be short."""
    found = transitions([episode(9, human=[1, 2, 3, 6, 7, 8])], replace(CHUNK, horizon=3, cut=Cut.HUMAN))
    assert [(int(each["row"]), int(each["action_mask"].sum())) for each in found] == [(1, 3), (6, 3), (7, 2), (8, 1)]


def test_the_human_view_keeps_every_step_and_bootstraps_where_the_human_hands_back() -> None:
    """Steps 1 to 3 are human, n = 3: sums 2 + 4 / 2 + 8 / 4, 4 + 8 / 2 and 8, each up to observation 4."""
    stored = episode(6, reward=(1, 2, 4, 8, 16, 32), human=[1, 2, 3])
    found = transitions([stored], replace(STEP, n_step=3, cut=Cut.HUMAN))
    assert [summary(each) for each in found] == [
        (1, [11], [True], 6, 0.125, 4),
        (2, [12], [True], 8, 0.25, 4),
        (3, [13], [True], 8, 0.5, 4),
    ]


def test_a_human_chunk_is_whole_and_its_return_is_cut_at_the_hand_back() -> None:
    """Steps 1 to 3 are human, h = n = 2: chunks at 1 and 2 are whole, with 3 steps and 2 up to observation 4."""
    stored = episode(6, reward=(1, 2, 4, 8, 16, 32), human=[1, 2, 3])
    found = transitions([stored], replace(STEP, horizon=2, n_step=2, cut=Cut.HUMAN))
    assert [summary(each) for each in found] == [
        (1, [11, 12], [True, True], 6, 0.125, 4),
        (2, [12, 13], [True, True], 8, 0.25, 4),
    ]


def test_windows_that_a_human_touched_can_be_dropped() -> None:
    found = transitions([episode(8, human=[3])], replace(CHUNK, horizon=2, cut=Cut.DROP_HUMAN))
    assert [int(each["row"]) for each in found] == [0, 1, 4, 5, 6, 7]


def test_windows_are_cut_where_an_action_is_not_valid() -> None:
    """Step 2 was dropped: nothing starts there, the chunk before it bootstraps from its observation."""
    found = transitions([episode(5, reward=(1, 2, 4, 8, 16), invalid=[2])], CHUNK)
    assert [summary(each) for each in found] == [
        (0, [10, 11, 11, 11], [True, True, False, False], 2, 0.25, 2),
        (1, [11, 11, 11, 11], [True, False, False, False], 2, 0.5, 2),
        (3, [13, 14, 14, 14], [True, True, False, False], 16, 0.25, 5),
        (4, [14, 14, 14, 14], [True, False, False, False], 16, 0.5, 5),
    ]


@pytest.mark.parametrize(("terminated", "bootstrap"), [(True, 0.0), (False, 0.25)])
def test_no_window_runs_on_behind_an_end(terminated: bool, bootstrap: float) -> None:
    """Rows that follow an end, as foreign data has them: step 1 ends, steps 2 and 3 are a view of their own."""
    found = transitions([episode(4, ended=[1], terminated=terminated)], CHUNK)
    assert [(each["row"], each["next/obs/x"][0, 0]) for each in found] == [(0, 2), (1, 2), (2, 4), (3, 4)]
    assert found[0]["bootstrap"] == bootstrap


def test_a_row_without_a_successor_is_never_sampled() -> None:
    """A running episode: its newest row acts, but what came of it is not known yet."""
    running = episode(3)
    running.arrays["action_valid"][-1] = True
    assert [int(each["row"]) for each in transitions([running], STEP)] == [0, 1, 2]
    assert all(FINAL not in each["action"] for each in transitions([running], CHUNK))


def test_the_first_success_ends_the_view() -> None:
    found = transitions([episode(5, reward=(0, 1, 1, 1, 1), success=[1, 2, 3, 4])], STEP)
    assert [(each["reward"], each["bootstrap"]) for each in found] == [(0, 0.5), (1, 0)]


def test_a_sparse_reward_stands_for_a_success_that_was_not_stored() -> None:
    stored = episode(4, reward=(0, 1, 1, 0))
    arrays = {key: value for key, value in stored.arrays.items() if key != "rl/success"}
    found = transitions([Episode("a", arrays, {})], STEP)
    assert [(each["reward"], each["bootstrap"]) for each in found] == [(0, 0.5), (1, 0)]
    arrays["rl/reward"] = np.array([0.2, 1, 0.4, 0, 0], dtype=np.float32)
    assert len(transitions([Episode("a", arrays, {})], STEP)) == 4


def test_noise_transitions_go_from_decision_to_decision() -> None:
    """Plans at 0, 3, 5 of six steps; the last runs to the time-out after one step."""
    view = replace(STEP, action="decision/noise", horizon=3)
    found = transitions([episode(6, reward=(1, 2, 4, 8, 16, 32), decisions=[0, 3, 5])], view)
    assert [(each["row"], each["reward"], each["bootstrap"], each["next/obs/x"][0, 0]) for each in found] == [
        (0, 3, 0.125, 3), (3, 16, 0.25, 5), (5, 32, 0.5, 6),
    ]  # fmt: skip
    np.testing.assert_array_equal(found[1]["action"], np.full((2, 3), 3.5))
    assert found[1]["action_mask"].tolist() == [True]


def test_noise_transitions_over_two_decisions() -> None:
    view = replace(STEP, action="decision/noise", n_step=2)
    episodes = [episode(5, decisions=[0, 2, 4]), episode(4, id="b", decisions=[0, 1])]
    found = transitions(episodes, view)
    assert [(each["episode"], each["row"], each["next/obs/x"][0, 0]) for each in found] == [
        (0, 0, 4), (0, 2, 5), (0, 4, 5), (1, 0, 4), (1, 1, 4),
    ]  # fmt: skip


def test_decisions_touched_by_a_human_are_dropped_or_cut() -> None:
    """Plans at 0, 2, 4, 6 of eight steps; the human holds steps 3 and 4, so plan 4 was never executed."""
    view = replace(STEP, action="decision/noise", cut=Cut.DROP_HUMAN)
    steered = episode(8, decisions=[0, 2, 4, 6], human=[3, 4])
    assert [int(each["row"]) for each in transitions([steered], view)] == [0, 6]
    cut = transitions([steered], replace(view, cut=Cut.INTERVENTION))
    assert [(each["row"], each["bootstrap"], each["next/obs/x"][0, 0]) for each in cut] == [
        (0, 0.25, 2), (2, 0.5, 3), (6, 0.25, 8),
    ]  # fmt: skip


def test_what_a_decision_drew_beside_its_noise_comes_along() -> None:
    view = replace(STEP, action="decision/noise", extras=("decision/step", "policy/base_action"))
    found = transitions([episode(4, decisions=[0, 2])], view)
    assert [(each["decision/step"], each["next/policy/base_action"][0]) for each in found] == [(0, 102), (2, 104)]
    assert "next/decision/step" not in found[0]


def test_rewards_are_scaled_and_shifted() -> None:
    """2 r - 1: a step costs 1, the success earns 1."""
    view = replace(STEP, reward_scale=2.0, reward_shift=-1.0)
    found = transitions([episode(3, reward=(0, 0, 1), success=[2], terminated=True)], view)
    assert [float(each["reward"]) for each in found] == [-1, -1, 1]


def test_a_sparse_reward_is_that_of_the_success_alone() -> None:
    """Of the shaped 0.2, 0.9, 0.95 nothing counts; the success does, and no success earns nothing."""
    view, shaped = replace(STEP, sparse=True, reward_shift=-0.5), (0.2, 0.9, 0.95)
    for success, earned in (([2], [-0.5, -0.5, 0.5]), ([], [-0.5, -0.5, -0.5])):
        found = transitions([episode(3, reward=shaped, success=success)], view)
        assert [float(each["reward"]) for each in found] == earned


def test_a_failure_end_costs_what_going_on_for_ever_would() -> None:
    """Shift -1 and gamma 0.5: a failure end is worth -1 + 0.5 * -1 / 0.5 = -2, a time-out -1; in a chunk discounted."""
    view = replace(STEP, reward_shift=-1.0)
    failed = episode(2, terminated=True)
    assert [(each["reward"], each["bootstrap"]) for each in transitions([failed], view)] == [(-1, 0.5), (-2, 0)]
    assert [(each["reward"], each["bootstrap"]) for each in transitions([episode(2)], view)] == [(-1, 0.5), (-1, 0.5)]
    assert float(transitions([failed], replace(view, horizon=2))[0]["reward"]) == -1 + 0.5 * -2
    positive = transitions([failed], replace(STEP, reward_shift=1.0))
    assert [float(each["reward"]) for each in positive] == [1, 1]
    with pytest.raises(ConfigError, match="discount below 1"):
        ReplaySampler([failed], replace(view, discount_per_control_step=1.0), batch=1)


def test_a_revoked_success_becomes_a_truncation() -> None:
    source = MemoryEpisodes([episode(3, reward=(0, 0, 1), success=[2], terminated=True, judged=True)])
    sampler = ReplaySampler(source, STEP, batch=1)
    assert sampler.take(0, 3)["bootstrap"].min() == 0
    source.labels["a"] = False
    sampler.refresh()
    batch = sampler.take(0, 3)
    assert (batch["reward"].tolist(), batch["bootstrap"].tolist()) == ([0, 0, 0], [0.5, 0.5, 0.5])


def test_a_success_that_was_revoked_half_way_uncovers_the_steps_after_it() -> None:
    source = MemoryEpisodes([episode(4, reward=(0, 1, 0, 0), success=[1])], labels={"a": False})
    assert [(each["reward"], each["bootstrap"]) for each in transitions(source, STEP)] == [(0, 0.5)] * 4


def test_a_new_success_ends_the_episode_with_a_reward() -> None:
    source = MemoryEpisodes([episode(3), episode(2, id="b")], labels={"a": True})
    found = transitions(source, STEP)
    assert [(each["episode"], each["reward"], each["bootstrap"]) for each in found] == [
        (0, 0, 0.5), (0, 0, 0.5), (0, 1, 0), (1, 0, 0.5), (1, 0, 0.5),
    ]  # fmt: skip


def relabelled(stored: Episode, success_step: int) -> Episode:
    return replace(stored, metadata={"success": True, "success_step": success_step})


def test_a_success_found_earlier_cuts_the_episode_there() -> None:
    """Recorded at step 3 of 4 and moved to step 1: the chunk from step 0 earns 0 + 0.5 * 1, nothing starts later."""
    recorded = episode(4, reward=(0, 0, 0, 1), success=[3], terminated=True, judged=True)
    found = transitions([relabelled(recorded, 1)], STEP)
    assert [(each["row"], each["reward"], each["bootstrap"]) for each in found] == [(0, 0, 0.5), (1, 1, 0)]
    chunk = transitions([relabelled(recorded, 1)], CHUNK)[0]
    assert (chunk["reward"], chunk["bootstrap"], chunk["action_mask"].tolist()) == (0.5, 0, [True, True, False, False])


def test_a_success_found_later_uncovers_the_steps_up_to_it() -> None:
    """Recorded at step 1 of 5, where it neither ends nor pays any more; found at step 3."""
    recorded = episode(5, reward=(0, 1, 0, 0, 0), success=[1], judged=True)
    found = transitions([relabelled(recorded, 3)], STEP)
    assert [(each["row"], each["reward"], each["bootstrap"]) for each in found] == [
        (0, 0, 0.5), (1, 0, 0.5), (2, 0, 0.5), (3, 1, 0),
    ]  # fmt: skip


def test_a_success_found_in_a_failure_ends_the_two_step_return_before_the_time_out() -> None:
    """n = 2, success moved to step 2 of a time-out of 4: returns 0, 0.5, 1 and nothing behind."""
    found = transitions([relabelled(episode(4), 2)], replace(STEP, n_step=2))
    assert [(each["reward"], each["bootstrap"]) for each in found] == [(0, 0.25), (0.5, 0), (1, 0)]


def test_a_success_found_at_a_late_command_lies_at_the_step_before_it() -> None:
    found = transitions([relabelled(episode(4, invalid=[2]), 2)], STEP)
    assert [(each["row"], each["reward"], each["bootstrap"]) for each in found] == [(0, 0, 0.5), (1, 1, 0)]


def test_a_success_that_came_with_a_late_command_is_not_lost() -> None:
    """Step 2 was late, so nothing is sampled there; the verdict of the episode gives its reward to the step before."""
    late = episode(5, reward=(0, 0, 1, 0, 0), success=[2], invalid=[2], judged=True)
    found = transitions([late], STEP)
    assert [(each["row"], each["reward"], each["bootstrap"]) for each in found] == [(0, 0, 0.5), (1, 1, 0)]


def test_a_recorded_failure_remains_a_termination_when_judged_so() -> None:
    found = transitions([episode(2, terminated=True, judged=False)], STEP)
    assert [float(each["bootstrap"]) for each in found] == [0.5, 0]


def test_episodes_of_one_step_and_without_steps() -> None:
    found = transitions([episode(0, id="none"), episode(1, reward=(4,))], CHUNK)
    assert [summary(each) for each in found] == [(0, [10] * 4, [True, False, False, False], 4, 0.5, 1)]
    assert found[0]["episode"] == 1


def test_without_data_a_batch_is_refused_until_some_came() -> None:
    source = MemoryEpisodes([])
    sampler = ReplaySampler(source, STEP, batch=2)
    assert (len(sampler), sampler.head) == (0, 0)
    with pytest.raises(StoreError, match="no episode yet"):
        sampler.batch(0)
    source.episodes["a"] = episode(3)
    assert (sampler.refresh(), len(sampler), sampler.head) == (1, 3, 4)
    assert sampler.batch(0)["reward"].shape == (2,)
    with pytest.raises(StoreError, match=r"no transition in 1 episodes.*cut=human"):
        ReplaySampler(source, replace(STEP, cut=Cut.HUMAN), batch=2).batch(0)


def test_a_batch_is_pure_and_fills_given_arrays() -> None:
    view = replace(CHUNK, extras=("policy/base_action",), history=2)
    sampler = ReplaySampler([episode(9), episode(7, id="b", human=[3])], view, batch=5, seed=4)
    out = sampler.allocate()
    for step in (3, 0, 17, 3):
        filled, fresh = sampler.batch(step, out), sampler.batch(step)
        for key, value in fresh.items():
            assert filled[key] is out[key]
            np.testing.assert_array_equal(filled[key], value)


def step_by_step(stored: Episode, view: ReplayView) -> list[tuple[int, int, float, float]]:
    """(row, k, reward, bootstrap) of every transition of a step view, as one would write it down row by row."""
    arrays, discount = stored.arrays, view.discount_per_control_step
    success = np.flatnonzero(arrays["rl/success"])
    last = success[0] if len(success) else stored.steps - 1
    acting = [bool(arrays["action_valid"][t]) and t <= last for t in range(stored.steps)] + [False]
    human = arrays["flags/intervention"]
    ends = [bool(arrays["rl/terminated"][t] or arrays["rl/truncated"][t] or t == last) for t in range(stored.rows)]

    def joined(t: int) -> bool:
        """Whether step t goes on from step t - 1."""
        changed = view.cut in (Cut.INTERVENTION, Cut.HUMAN) and human[t] != human[t - 1]
        return t > 0 and acting[t] and acting[t - 1] and not ends[t - 1] and not changed

    found = []
    for t in range(stored.steps):
        start, k = t, 1
        while joined(start):
            start -= 1
        while k < view.horizon * view.n_step and joined(t + k):
            k += 1
        cut_short = k < view.horizon and acting[t + k] and not ends[t + k - 1]
        touched = any(human[t : t + k] == 1)
        dropped = (view.cut is Cut.DROP_HUMAN and touched) or (view.cut is Cut.HUMAN and (not human[t] or cut_short))
        if acting[t] and (t - start) % view.stride == 0 and not dropped:
            reward = sum(discount**i * float(arrays["rl/reward"][t + i]) for i in range(k))
            terminated = bool(arrays["rl/terminated"][t + k - 1] or arrays["rl/success"][t + k - 1])
            found.append((t, k, reward, 0.0 if terminated else discount**k))
    return found


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_any_view_of_any_episode_agrees_with_row_by_row(data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 14))
    some = st.lists(st.integers(0, steps - 1), max_size=5, unique=True)
    stored = [
        episode(
            steps,
            id=id,
            reward=data.draw(st.lists(st.integers(-4, 4), max_size=steps)),
            success=data.draw(st.lists(st.integers(0, steps - 1), max_size=1)),
            terminated=data.draw(st.booleans()),
            human=data.draw(some),
            invalid=data.draw(some),
            ended=data.draw(some),
        )
        for id in ("a", "b")
    ]
    numbers = st.integers(1, 4)
    view = replace(
        STEP,
        horizon=data.draw(numbers),
        n_step=data.draw(numbers),
        stride=data.draw(numbers),
        cut=data.draw(st.sampled_from(Cut)),
    )
    expected = [(e, *each) for e, one in enumerate(stored) for each in step_by_step(one, view)]
    sampler = ReplaySampler(stored, view, batch=1)
    assert len(sampler) == len(expected)
    if expected:
        found = [
            (f["episode"], f["row"], f["next/obs/x"][0, 0] - f["obs/x"][0, 0], f["reward"], f["bootstrap"])
            for f in transitions(stored, view)
        ]
        np.testing.assert_allclose(np.array(found, dtype=float), np.array(expected, dtype=float), rtol=1e-6)


def test_views_that_make_no_sense_are_refused() -> None:
    for wrong in ({"horizon": 0}, {"n_step": 0}, {"observation": ()}, {"discount_per_control_step": 1.5}):
        with pytest.raises(ConfigError):
            ReplaySampler([episode(3)], replace(STEP, **wrong), batch=2)
    with pytest.raises(ConfigError, match="decision/noise"):
        ReplaySampler([episode(3)], replace(STEP, extras=("decision/planned",)), batch=2)
    with pytest.raises(EpisodeError, match="policy/base_actoin"):
        ReplaySampler([episode(3)], replace(STEP, extras=("policy/base_actoin",)), batch=2)


def test_a_batch_is_of_one_snapshot_though_labels_change_while_it_is_made() -> None:
    source = MemoryEpisodes([episode(9, success=[1], reward=[0, 1]), episode(5, id="b")], labels={"a": True})
    sampler = ReplaySampler(source, STEP, batch=7)
    expected = sampler.batch(0)
    assert sampler._snapshot is not None
    stream = sampler._snapshot.stream
    draw = stream.draw

    def drawn_before_a_refresh(first: int, count: int) -> Array:
        chosen = draw(first, count)
        source.labels["a"] = False  # episode a goes on after step 1: the numbers of b's transitions move
        sampler.refresh()
        return chosen

    stream.draw = drawn_before_a_refresh  # type: ignore[method-assign]
    found = sampler.batch(0)
    assert len(sampler) == 14
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key], value)


def test_labels_of_a_store_reach_the_transitions(tmp_path: Any) -> None:
    store = EpisodeStore.create(tmp_path / "data")
    recorded = episode(3, id="", reward=(0, 0, 1), success=[2], terminated=True, decisions=[0, 2], judged=True)
    info = store.write(recorded)
    view = replace(CHUNK, extras=("policy/base_action",))
    sampler = ReplaySampler(store, view, batch=3)
    assert sampler.episodes == [info.id]
    assert sorted(sampler.take(0, 3)["bootstrap"]) == [0, 0, 0]
    store.annotate(info.id, success=False, who="test")
    sampler.refresh()
    assert sorted(sampler.take(0, 3)["bootstrap"]) == [0.125, 0.25, 0.5]
    store.annotate(info.id, exclude=True, who="test")
    sampler.refresh()
    assert len(sampler) == 0
    other = EpisodeStore.open(tmp_path / "data")
    other.write(replace(recorded, arrays={**recorded.arrays}))
    assert (sampler.refresh(), len(sampler)) == (1, 3)
