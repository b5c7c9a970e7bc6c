"""Between formats and a real store: resuming, splits, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.formats.interchange import RecordingSet
from robot_rl.data.formats.robomimic import RobomimicFormat
from robot_rl.data.formats.transfer import import_recordings, stored_recordings
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import EpisodeError, SpecMismatchError
from tests.data.demonstrations import arm_spec, demonstration, recordings


@pytest.fixture
def foreign(tmp_path: Path) -> RecordingSet:
    episodes = [demonstration(f"e{i}", 4 + i, seed=i) for i in range(4)]
    RobomimicFormat().write(recordings(episodes, arm_spec(), ["train", "valid"]), tmp_path / "in.hdf5")
    return RobomimicFormat().read(tmp_path / "in.hdf5")


def test_what_is_there_already_is_skipped(tmp_path: Path, foreign: RecordingSet) -> None:
    store = EpisodeStore.create(tmp_path / "data", spec=foreign.spec)
    first = import_recordings(store, replace(foreign, recordings=foreign.recordings[:2]))
    assert (first.imported, first.skipped, first.steps) == (2, 0, 4 + 5)
    reopened = EpisodeStore.open(tmp_path / "data")
    second = import_recordings(reopened, foreign)
    assert (second.imported, second.skipped, second.steps) == (2, 2, 6 + 7)
    assert len(reopened.ids()) == 4
    assert reopened.verify() == []


def test_the_step_of_a_success_judged_again_survives_export_and_import(tmp_path: Path, foreign: RecordingSet) -> None:
    store = EpisodeStore.create(tmp_path / "data", spec=foreign.spec)
    import_recordings(store, foreign)
    first = store.ids()[0]
    store.annotate(first, success=True, success_step=1, who="Ada")
    RobomimicFormat().write(stored_recordings(store), tmp_path / "out.hdf5")
    back = EpisodeStore.create(tmp_path / "back", spec=foreign.spec)
    import_recordings(back, RobomimicFormat().read(tmp_path / "out.hdf5"))
    assert [info.success_step for info in back.infos()] == [1, None, None, None]
    assert [info.success_step for info in EpisodeStore.open(tmp_path / "back").infos()] == [1, None, None, None]
    back.annotate(back.ids()[0], success=True, who="Ada")  # a new verdict takes the step back
    assert back.infos()[0].success_step is None


def test_an_excluded_episode_does_not_come_back(tmp_path: Path, foreign: RecordingSet) -> None:
    store = EpisodeStore.create(tmp_path / "data", spec=foreign.spec)
    import_recordings(store, foreign)
    store.annotate(store.ids()[0], exclude=True, who="Ada")
    assert import_recordings(store, foreign).imported == 0
    assert len(store.ids()) == 3


def test_splits_become_annotations_and_masks_again(tmp_path: Path, foreign: RecordingSet) -> None:
    store = EpisodeStore.create(tmp_path / "data", spec=foreign.spec)
    import_recordings(store, foreign)
    assert [info.split for info in store.infos()] == ["train", "valid", "", ""]
    RobomimicFormat().write(stored_recordings(store), tmp_path / "out.hdf5")
    assert [r.split for r in RobomimicFormat().read(tmp_path / "out.hdf5").recordings] == ["train", "valid", "", ""]


def test_a_split_that_a_kill_left_out_is_made_up_for(tmp_path: Path, foreign: RecordingSet) -> None:
    store = EpisodeStore.create(tmp_path / "data", spec=foreign.spec)
    store.write(foreign.recordings[1].load())  # all that an import killed right after its first episode has done
    assert [info.split for info in store.infos()] == [""]
    import_recordings(store, foreign)
    assert sorted(info.split for info in store.infos()) == ["", "", "train", "valid"]
    store.annotate(store.ids()[0], split="test", who="Ada")
    import_recordings(store, foreign)
    assert store.infos()[0].split == "test"


def test_a_relabelled_success_is_what_is_exported(tmp_path: Path, foreign: RecordingSet) -> None:
    store = EpisodeStore.create(tmp_path / "data", spec=foreign.spec)
    import_recordings(store, foreign)
    store.annotate(store.ids()[1], success=False, who="Ada")
    assert [r.load().metadata["success"] for r in stored_recordings(store).recordings] == [True, False, True, True]


def test_a_source_of_another_kind_is_refused(tmp_path: Path, foreign: RecordingSet) -> None:
    store = EpisodeStore.create(tmp_path / "data", spec=foreign.spec)
    other = RecordingSet(replace(foreign.spec, step_rate_hz=30.0), foreign.recordings)
    with pytest.raises(SpecMismatchError, match=r"step_rate_hz: expected 20.0, found 30.0"):
        import_recordings(store, other)
    with pytest.raises(SpecMismatchError, match="cameras"):
        import_recordings(store, RecordingSet(arm_spec(["front"]), foreign.recordings))
    assert store.ids() == []


def test_a_bad_episode_stops_or_is_left_out_and_the_rest_is_intact(tmp_path: Path) -> None:
    episodes = [demonstration(f"e{i}", 4, seed=i) for i in range(3)]
    episodes[1].arrays["action/commanded"][2, 3] = np.nan
    made = recordings(episodes, arm_spec())
    store = EpisodeStore.create(tmp_path / "data", spec=made.spec)
    with pytest.raises(EpisodeError, match=r"e1 cannot be imported.*array 'action/commanded', row 2"):
        import_recordings(store, made)
    assert len(store.ids()) == 1
    summary = import_recordings(EpisodeStore.create(tmp_path / "other", spec=made.spec), made, skip_invalid=True)
    assert (summary.imported, len(summary.invalid)) == (2, 1)
    assert "row 2" in summary.invalid[0]
