"""A policy in shadow over stored episodes: asked as the loop would ask it, kept beside the data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.data.episode import Episode
from robot_rl.data.tables import MemoryEpisodes
from robot_rl.runtime.shadow import Shadowed, shadow
from robot_rl.types import (
    ActContext,
    ActionChunk,
    ActionKind,
    ActionPart,
    ActionSpec,
    Array,
    Arrays,
    ArraySpec,
    PolicySpec,
)

ACTION = ActionSpec((ActionPart("bead/push", ActionKind.RAW, (-9.0,), (9.0,)),))


class Planner:
    """Plans what it saw now and before, and the step, two steps at a time; tells of its seed."""

    spec = PolicySpec({"s": ArraySpec((1,))}, ACTION, history=2, horizon=3, execute=2, record={"said": ArraySpec((4,))})

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def reset(self, rows: Array, seeds: Array) -> None:
        self.seed = float(seeds[0])

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        self.asked.append((int(context.step[0]), int(context.executed_since_plan[0])))
        seen = window["s"][0, :, 0]
        said = np.array([[[*seen, ahead, self.seed] for ahead in range(3)]], np.float32)
        return ActionChunk(said[..., :1], 2, record={"said": said})


def episode(id: str, rows: int = 4, **metadata: Any) -> Episode:
    arrays = {"time/t_ns": np.arange(rows), "obs/s": np.arange(10.0, 10.0 + rows, dtype=np.float32)[:, None]}
    return Episode(id, arrays, metadata)


def test_it_is_asked_anew_when_its_plan_is_executed_and_sees_what_was_seen() -> None:
    """Decisions at rows 0 and 2, of which the second covers the final row; the first window is padded."""
    policy = Planner()
    said = shadow(policy, episode("a", seed=7))["said"]
    assert said.tolist() == [[10, 10, 0, 7], [10, 10, 1, 7], [11, 12, 0, 7], [11, 12, 1, 7]]
    assert policy.asked == [(0, 0), (2, 2)]


class Changing(Planner):
    """Changes its plan at every step until it is used up."""

    def act(self, window: Arrays, context: ActContext) -> ActionChunk:
        done = context.executed_since_plan % 2
        return replace(super().act(window, context), execute=1, begun=done)


def test_a_plan_that_goes_on_is_read_where_it_has_got_to() -> None:
    said = shadow(Changing(), episode("a", seed=7))["said"]
    assert said[:, 2].tolist() == [0, 1, 0, 1]
    assert said[:, 1].tolist() == [10, 11, 12, 13]


def test_what_it_says_lies_in_files_and_is_not_asked_for_twice(tmp_path: Path) -> None:
    source = MemoryEpisodes([episode("a", seed=1), episode("b", seed=2)])
    policy = Planner()
    shadowed = Shadowed(source, policy, ["policy/said"], tmp_path / "key")
    first = shadowed.read("b").arrays
    assert first["policy/said"][0].tolist() == [10, 10, 0, 2]
    np.testing.assert_array_equal(first["obs/s"], source.read("b").arrays["obs/s"])
    again = Shadowed(source, policy, ["policy/said"], tmp_path / "key")
    np.testing.assert_array_equal(again.read("b").arrays["policy/said"], first["policy/said"])
    assert len(policy.asked) == 2 and [path.name for path in (tmp_path / "key").iterdir()] == ["b.npz"]
    assert [info.id for info in shadowed.infos()] == ["a", "b"]
