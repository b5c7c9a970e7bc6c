"""Episodes while they grow, by real writers: a step is seen once its successor is there, and never twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robot_rl.data.live import LiveEpisodes
from robot_rl.data.replay import ReplaySampler
from robot_rl.data.replay_union import ReplayUnion, SessionReplay
from robot_rl.data.store import EpisodeStore, EpisodeWriter
from robot_rl.errors import StoreError
from robot_rl.types import Array, Cut, EpisodeEnd, Phase, ReplayView, StepRow
from tests.data.recorded_rows import make_row, make_spec

SPEC = make_spec(cameras={})
VIEW = ReplayView(observation=("obs/arm0/joint_position",), discount_per_control_step=0.5)
DONE = EpisodeEnd("time_limit", False, 0)


@pytest.fixture
def store(tmp_path: Path) -> EpisodeStore:
    return EpisodeStore.create(tmp_path / "session", spec=SPEC)


def session_of(store: EpisodeStore, view: ReplayView = VIEW) -> SessionReplay:
    replay = SessionReplay(store, LiveEpisodes(store.root), view)
    replay.refresh()
    return replay


def record(writer: EpisodeWriter, episode: int, rows: range, *, final: int | None = None, human: Any = ()) -> None:
    for t in rows:
        row: StepRow = make_row(SPEC, episode, t, final=t == final)
        if t in human:
            row = replace(row, action=replace(row.action, source=Phase.HUMAN, human=row.action.commanded))
        writer.append(row)
    writer.flush()


def actions(replay: SessionReplay) -> list[float]:
    """First component of the action of every transition: 10 t + 1000 episode."""
    parts = [part.gather(np.arange(len(part)))["action"][:, 0, 0] for part in replay.parts if len(part)]
    return [float(value) for part in parts for value in part]


def test_a_step_is_seen_once_its_successor_is_written(store: EpisodeStore) -> None:
    replay = session_of(store)
    writer = store.begin(SPEC)
    for rows, visible in ((range(1), []), (range(1, 2), [1000.0]), (range(2, 4), [1000.0, 1010.0, 1020.0])):
        record(writer, 1, rows)
        replay.follow()
        assert actions(replay) == visible
        assert (replay.head, replay.steps) == ((rows.stop, rows.stop - 1) if rows.stop > 1 else (0, 0))
    writer.discard("test")


def test_the_newest_observation_is_the_successor_and_its_action_is_not_drawn(store: EpisodeStore) -> None:
    replay = session_of(store)
    with store.begin(SPEC) as writer:
        record(writer, 1, range(3))
        replay.follow()
        found = replay.growing.gather(np.arange(2))
        observations = [make_row(SPEC, 1, t).observation.state["arm0/joint_position"] for t in range(3)]
        np.testing.assert_array_equal(found["obs/arm0/joint_position"][:, 0], np.array(observations[:2]))
        np.testing.assert_array_equal(found["next/obs/arm0/joint_position"][:, 0], np.array(observations[1:]))
        np.testing.assert_array_equal(found["bootstrap"], [0.5, 0.5])


def test_committing_replaces_the_running_rows_and_loses_and_doubles_none(store: EpisodeStore) -> None:
    replay = session_of(store)
    first, second = store.begin(SPEC), store.begin(SPEC)
    record(first, 1, range(4), final=3)
    record(second, 2, range(3))
    replay.follow()
    before = actions(replay)
    assert before == [1000.0, 1010.0, 1020.0, 2000.0, 2010.0]
    assert len(replay.growing) == 5
    first.end(DONE)
    replay.follow()
    assert (len(replay.committed), len(replay.growing)) == (3, 2)
    assert actions(replay) == before
    record(second, 2, range(3, 4), final=3)
    second.end(DONE)
    replay.follow()
    assert actions(replay) == [*before, 2020.0]
    assert replay.steps == 6


def test_an_episode_that_is_committed_while_its_journal_is_still_there_counts_once(store: EpisodeStore) -> None:
    """As between the index line and the removal of the journal."""
    replay = session_of(store)
    writer = store.begin(SPEC)
    record(writer, 1, range(3), final=2)
    journal = next((store.root / "journal").iterdir())
    content = journal.read_bytes()
    writer.end(DONE)
    journal.write_bytes(content)
    replay.refresh()
    assert actions(replay) == [1000.0, 1010.0]
    assert len(replay.growing) == 0


def test_an_episode_that_is_committed_while_the_replay_looks_is_not_lost(
    store: EpisodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever commits is another thread: here it does so just after the committed episodes were looked at."""
    replay = session_of(store)
    writer = store.begin(SPEC)
    record(writer, 1, range(3), final=2)
    look = replay.committed.refresh
    monkeypatch.setattr(replay.committed, "refresh", lambda: (look(), writer.end(DONE)))
    replay.refresh()
    assert (actions(replay), replay.steps) == ([1000.0, 1010.0], 2)
    monkeypatch.setattr(replay.committed, "refresh", look)
    replay.follow()
    assert (actions(replay), replay.steps, len(replay.growing)) == ([1000.0, 1010.0], 2, 0)


def test_discarded_and_torn_rows_are_not_drawn(store: EpisodeStore) -> None:
    replay = session_of(store)
    writer = store.begin(SPEC)
    record(writer, 1, range(4))
    journal = next((store.root / "journal").iterdir())
    whole = journal.read_bytes()
    replay.follow()
    assert len(actions(replay)) == 3
    writer.discard("operator")
    replay.follow()
    assert (actions(replay), replay.head) == ([], 0)

    journal.write_bytes(whole[:-5])
    replay.follow()
    assert actions(replay) == [1000.0, 1010.0]
    journal.write_bytes(whole)
    replay.follow()
    assert actions(replay) == [1000.0, 1010.0, 1020.0]


def test_an_arriving_journal_is_read_on_after_it_was_renamed(store: EpisodeStore) -> None:
    with store.begin(SPEC) as writer:
        record(writer, 1, range(3))
        content = next((store.root / "journal").iterdir()).read_bytes()
        writer.discard("it comes from elsewhere")
    live = LiveEpisodes(store.root)
    arriving = store.root / "journal" / "a.remote"
    arriving.write_bytes(content[: len(content) // 2])
    live.refresh()
    few = live.rows
    arriving.rename(arriving.with_suffix(".journal"))
    arriving.with_suffix(".journal").write_bytes(content)
    live.refresh()
    assert few < live.rows == 3


def test_what_is_no_journal_is_left_out(store: EpisodeStore) -> None:
    (store.root / "journal" / "bad.journal").write_bytes(b"garbage" * 100)
    live = LiveEpisodes(store.root)
    live.refresh()
    assert live.infos() == []
    with pytest.raises(StoreError, match="no running episode"):
        live.read("nothing")


def test_corrections_join_the_demonstrations_while_the_episode_runs(store: EpisodeStore, tmp_path: Path) -> None:
    demos = EpisodeStore.create(tmp_path / "demos", spec=SPEC)
    with demos.begin(SPEC) as writer:
        record(writer, 5, range(3), final=2)
        writer.end(DONE)
    corrections = session_of(store, replace(VIEW, cut=Cut.HUMAN))
    union = ReplayUnion([ReplaySampler(demos, VIEW, batch=1)], [corrections], batch=64)
    assert drawn(union) == {5000.0, 5010.0}
    with store.begin(SPEC) as writer:
        record(writer, 1, range(5), human=(1, 2))
        union.follow()
        assert drawn(union) == {5000.0, 5010.0, 1010.0, 1020.0}


def test_labels_that_come_later_apply(store: EpisodeStore) -> None:
    replay = session_of(store)
    with store.begin(SPEC) as writer:
        record(writer, 1, range(3), final=2)
        info = writer.end(DONE)
    replay.refresh()
    assert bootstraps(replay).tolist() == [0.5, 0.5]
    store.annotate(info.id, success=True)
    replay.refresh()
    assert bootstraps(replay).tolist() == [0.5, 0.0]


def drawn(union: ReplayUnion) -> set[float]:
    return {float(value) for value in union.batch(0)["action"][:, 0, 0]}


def bootstraps(replay: SessionReplay) -> Array:
    return replay.committed.gather(np.arange(len(replay.committed)))["bootstrap"]


def test_a_union_draws_uniformly_and_the_same_again(store: EpisodeStore) -> None:
    for episode, steps in ((1, 10), (2, 30)):
        with store.begin(SPEC) as writer:
            record(writer, episode, range(steps + 1), final=steps)
            if episode == 1:
                writer.end(DONE)
            else:
                union = ReplayUnion([], [session_of(store)], batch=40, seed=3)
                first = union.batch(7)
                assert len(union) == 40
                np.testing.assert_array_equal(union.batch(7)["action"], first["action"])
                assert sorted(set(first["action"][:, 0, 0])) == sorted(set(union.batch(0)["action"][:, 0, 0]))
                assert len(set(first["action"][:, 0, 0])) == 40  # every transition once per epoch


def test_a_session_without_rows_has_nothing_to_draw(store: EpisodeStore) -> None:
    union = ReplayUnion([], [session_of(store)], batch=4)
    with pytest.raises(StoreError, match="no transition yet"):
        union.batch(0)


def test_frames_of_a_running_episode_are_drawn_as_those_of_a_committed_one(tmp_path: Path) -> None:
    spec = make_spec()  # one camera of 8 x 8; every frame is one grey value
    store = EpisodeStore.create(tmp_path / "images", spec=spec)
    view = replace(VIEW, observation=("images/wrist",))
    replay = session_of(store, view)
    with store.begin(spec) as writer:
        for t in range(4):
            writer.append(make_row(spec, 2, t, final=t == 3))
        writer.flush()
        replay.follow()
        running = replay.growing.gather(np.arange(3))
        assert running["images/wrist"][:, 0, 0, 0, 0].tolist() == [2, 3, 4]
        assert running["next/images/wrist"][:, 0, 0, 0, 0].tolist() == [3, 4, 5]
        writer.end(DONE)
    replay.follow()
    committed = replay.committed.gather(np.arange(3))
    assert all(np.array_equal(running[key], committed[key]) for key in running)


def test_relabels_move_and_revoke_successes_of_a_running_session(store: EpisodeStore) -> None:
    """Six steps with rewards 0 1 2 3 4 0: found at step 2, a success pays the 2 there and ends."""
    replay = session_of(store)
    writer = store.begin(SPEC)
    record(writer, 0, range(7), final=6)
    info = writer.end(replace(DONE, length=6))
    running = store.begin(SPEC)
    record(running, 1, range(3))
    replay.refresh()

    def targets(part: ReplaySampler) -> list[tuple[float, float]]:
        found = part.gather(np.arange(len(part)))
        return list(zip(found["reward"].tolist(), found["bootstrap"].tolist(), strict=True))

    assert targets(replay.committed) == [(0, 0.5), (1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5), (0, 0.5)]
    store.annotate(info.id, success=True, success_step=2, who="classifier")
    replay.refresh()
    assert targets(replay.committed) == [(0, 0.5), (1, 0.5), (2, 0)]
    store.annotate(info.id, success=False, who="classifier")
    replay.refresh()
    assert targets(replay.committed) == [(0, 0.5), (1, 0.5), (2, 0.5), (3, 0.5), (4, 0.5), (0, 0.5)]
    assert targets(replay.growing) == [(0, 0.5), (1, 0.5)]  # nobody has judged what still runs
    running.discard("test")
