"""What stands in the way of a store, one thing at a time: none of it may hide the other episodes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.episode import Episode
from robot_rl.data.journal import frame_record
from robot_rl.data.recording import begin_header
from robot_rl.data.store import EpisodeStore
from robot_rl.errors import EpisodeError, StoreError
from tests.data.recorded_rows import make_spec
from tests.data.test_store import leave, record

pytestmark = pytest.mark.robot


@pytest.fixture
def store(tmp_path):
    return EpisodeStore.create(tmp_path / "store", spec=make_spec())


def in_child(store, program):
    """Run ``program`` in a process of its own whose working directory is the store."""
    head = "import os, sys, resource\nfrom robot_rl.data.store import EpisodeStore\nos.chdir(sys.argv[1])\n"
    command = [sys.executable, "-c", head + program, str(store.root)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_a_file_copied_to_another_name_is_no_second_episode(store, caplog):
    info = record(store)
    shutil.copy(store.root / info.file, store.root / "episodes" / "copy.zarr.zip")
    again = EpisodeStore.open(store.root)
    assert again.infos() == [info]
    assert f"the file holds episode {info.id}" in caplog.text
    assert [finding.id for finding in again.verify()] == ["copy"]


def test_a_journal_that_makes_no_file_is_set_aside_and_the_rest_opens(store, caplog):
    info = record(store)
    header = begin_header("odd", make_spec(), {}, {})
    header["extras"] = {"text": {"shape": [], "dtype": "<U4"}}
    records = [*frame_record(0, header), *frame_record(1, {"kind": "row", "frames": []}, [b"?"])]
    (store.root / "journal" / "odd.journal").write_bytes(b"".join(records))
    again = EpisodeStore.open(store.root)
    assert again.infos() == [info]
    assert "odd.journal is set aside" in caplog.text
    assert [finding.file for finding in again.verify()] == ["journal/odd.damaged"]


def test_a_full_disk_puts_recovery_off_and_the_store_opens(store):
    info, journal = record(store), leave(store, 1, rows=100)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
    done = in_child(store, limit + "store = EpisodeStore.open('.'); print([store.read(id).id for id in store.ids()])")
    assert done.stdout.strip() == str([info.id])
    assert "without recovering" in done.stderr and "File too large" in done.stderr
    assert EpisodeStore.open(store.root).ids() == [info.id, journal.stem]


def test_a_store_that_may_only_be_read_can_be_read(store):
    """Not even a journal that waits for recovery stands in the way."""
    info, journal = record(store), leave(store, 1)
    become = "os.geteuid() or os.seteuid(65534)\n"
    for folder in (store.root, store.root / "episodes", store.root / "journal"):
        folder.chmod(0o555)
    journal.chmod(0o444)
    done = in_child(store, become + f"print(EpisodeStore.open('.').read({info.id!r}).rows)")
    for folder in (store.root, store.root / "episodes", store.root / "journal"):
        folder.chmod(0o755)
    assert done.stdout.strip() == str(info.rows)
    assert "Permission denied" in done.stderr and "Traceback" not in done.stderr


def test_an_annotation_that_finds_no_space_is_told(store):
    info = record(store)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\nfrom robot_rl.errors import DiskFullError\n"
    program = f"store = EpisodeStore.open('.')\ntry: store.annotate({info.id!r}, note='x')\n"
    done = in_child(store, limit + program + "except DiskFullError as error: print(error)")
    assert "the annotation cannot be written: File too large" in done.stdout


def test_a_deleted_episode_goes_for_good_also_when_its_file_cannot_be_read(store):
    kept, bad = record(store, 0), record(store, 1)
    (store.root / bad.file).write_bytes(b"PK")
    store.delete(bad.id)
    store.repair()
    assert store.gc() == [bad.id]
    assert EpisodeStore.open(store.root).verify() == []
    assert store.ids() == [kept.id]


@pytest.mark.parametrize("change", [{"spec": {"robot": 3}}, {"spec": 5}, {"spec": {"observation": 1}}])
def test_a_feature_table_that_makes_no_sense_is_a_store_error(store, change):
    described = json.loads((store.root / "dataset.json").read_text())
    (store.root / "dataset.json").write_text(json.dumps({**described, **change}))
    with pytest.raises(StoreError, match=r"dataset\.json is damaged or foreign"):
        EpisodeStore.open(store.root)


def test_names_that_are_no_text_are_refused_before_anything_is_written(store):
    name = os.fsdecode(b"caf\xe9.hdf5")
    with pytest.raises(EpisodeError, match="metadata cannot be stored"):
        store.begin(make_spec(), {"source_file": name})
    episode = store.read(record(store).id)
    with pytest.raises(EpisodeError, match="metadata cannot be stored"):
        store.write(Episode("", dict(episode.arrays), {"source_file": name}, dict(episode.cameras)))
    assert len(list((store.root / "episodes").iterdir())) == 1
    assert list((store.root / "journal").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("rl/reward", lambda value: value[:, None], r"shape \[5, 1\].*limit: \[N\]"),
        ("action_valid", lambda value: value[:, None], r"shape \[5, 1\].*limit: \[N\]"),
        ("action/commanded", lambda value: value[:, 0], r"shape \[5\].*\[N, A\]"),
        ("action/executed", lambda value: value[:, :2], r"shape \[5, 2\].*as action/commanded"),
        ("time/t_ns", lambda value: value[[0, 2, 1, 3, 4]], "row 2: stamp does not rise"),
        ("time/t_ns", lambda value: value[[0, 1, 1, 3, 4]], "row 2: stamp does not rise"),
        ("rl/truncated", lambda value: value.astype(np.uint8), r"dtype uint8 \(limit: bool\)"),
        ("flags/overrun", lambda value: value[:-1], "4 rows .*limit: 5 as in time/t_ns"),
        ("policy/version", lambda value: value[0], r"shape \[\]"),
        ("decision/noise", lambda value: np.zeros((3, 2), np.float32), "3 rows .*limit: 2 as in decision/step"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(store, name, change, message):
    episode = store.read(record(store).id)
    arrays = {**episode.arrays, "decision/step": np.zeros(2, np.int32)}
    with pytest.raises(EpisodeError, match=f"array '{name}'.*{message}"):
        store.write(Episode("", {**arrays, name: change(arrays.get(name))}, {}, episode.cameras))


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("t_dev_ns", lambda track: track.t_ns[1:]),
        ("offset", lambda track: track.offset + 1),
        ("offset", lambda track: track.offset[:-1]),
        ("frame_of_step", lambda track: track.frame_of_step + 1),
        ("frame_of_step", lambda track: track.frame_of_step[1:]),
        ("data", lambda track: track.data[:-1]),
    ],
)
def test_a_camera_whose_parts_disagree_is_refused(store, field, change):
    episode = store.read(record(store).id)
    track = episode.cameras["wrist"]
    with pytest.raises(EpisodeError, match="array 'images/wrist'"):
        store.write(Episode("", dict(episode.arrays), {}, {"wrist": replace(track, **{field: change(track)})}))


def test_a_file_that_vanishes_while_the_index_is_made_is_left_out(store):
    info = record(store)
    assert store._files.describe([info.id, "vanished"]) == [info]
